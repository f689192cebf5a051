"""What a recording holds day by day: rows, fields that are filled, lists and what is known of them.

A day is 24 hours back from the newest event, so that the newest one is as long as the others, and every
seventh is the same day of the week.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from core.catalogue import Item, ItemChange, apply_change
from core.decision import Decision, Label
from core.events import Event
from core.ids import DAY_MS, HOUR_MS, signed64
from streams.messages import Message

DAYS: Final = 57  # that are looked back: eight weeks and the newest day
SETTLED_MS: Final = HOUR_MS  # labels of a list that come within this; what comes later is yet to come of the newest
_NO_FIELDS: Final = ("v", "name", "event_id", "ts", "items", "attributes")
FIELDS: Final = tuple(name for name in Event.__struct_fields__ if name not in _NO_FIELDS)
LINE_FIELDS: Final = ("price", "index")
ITEM_FIELDS: Final = ("title", "description", "categories", "brand", "price", "url", "image")

Daily = Counter[int]  # by day, 0 the newest


class Tally:
    """Counts messages of one recording.

    Attributes:
        rows: events by day.
        named: events by name, by day.
        empty: events without a field, by (name, field), by day; `items.price` is of its lines.
        changed: upserts of items by day, and `bare` those after which a field of the item is empty.
        lists: served lists by day, and `labels` what followed them within an hour.
        told: acts that name the list they follow, by day, and `unjoined` those that name an unknown one.
        orphans: labels by the day of their list, where that list is not known.
    """

    def __init__(self, newest_ms: int) -> None:
        self._newest = newest_ms
        self.rows: Daily = Counter()
        self.named: dict[str, Daily] = defaultdict(Counter)
        self.empty: dict[tuple[str, str], Daily] = defaultdict(Counter)
        self.changed: Daily = Counter()
        self.bare: dict[str, Daily] = defaultdict(Counter)
        self.lists: Daily = Counter()
        self.labels: Daily = Counter()
        self.told: Daily = Counter()
        self.unjoined: Daily = Counter()
        self.orphans: Daily = Counter()
        self.oldest = 0  # day of the oldest event
        self._items: dict[str, Item] = {}
        self._known: set[int] = set()
        self._acts: list[tuple[int, int]] = []
        self._followed: list[tuple[int, int]] = []

    def take(self, messages: Iterable[Message]) -> Tally:
        """Count all of them; then what is joined to what."""
        for message in messages:
            if isinstance(message, Event):
                self._event(message)
            elif isinstance(message, ItemChange):
                self._change(message)
            elif isinstance(message, Decision):
                self._known.add(signed64(message.recommendation_id))
                self.lists[self._day(message.ts + SETTLED_MS)] += 1
            else:
                self._label(message)
        self.told.update(day for day, _ in self._acts)
        self.unjoined.update(day for day, name in self._acts if name not in self._known)
        self.orphans.update(day for day, name in self._followed if name not in self._known)
        self._acts, self._followed = [], []
        return self

    def _day(self, ts: int) -> int:
        return (self._newest - ts) // DAY_MS

    def _event(self, event: Event) -> None:
        day, name = self._day(event.ts), event.name
        self.oldest = max(self.oldest, day)
        if event.recommendation_id is not None:
            mark = signed64(event.recommendation_id)
            if name == "view_item_list":
                self._known.add(mark)
            elif 0 <= day < DAYS:
                self._acts.append((day, mark))
        if not 0 <= day < DAYS:
            return
        self.rows[day] += 1
        self.named[name][day] += 1
        for field in FIELDS:
            if getattr(event, field) is None:
                self.empty[name, field][day] += 1
        if not event.items:
            self.empty[name, "items"][day] += 1
            return
        for field in LINE_FIELDS:
            if any(getattr(line, field) is None for line in event.items):
                self.empty[name, f"items.{field}"][day] += 1

    def _change(self, change: ItemChange) -> None:
        item = apply_change(self._items.get(change.item_id), change)
        if item is None:
            self._items.pop(change.item_id, None)
            return
        self._items[change.item_id] = item
        day = max(0, self._day(change.ts))
        self.changed[day] += 1
        for field in ITEM_FIELDS:
            if getattr(item, field) in ("", None, ()):
                self.bare[field][day] += 1

    def _label(self, label: Label) -> None:
        day = self._day(label.ts - label.delay_ms + SETTLED_MS)
        if 0 <= day < DAYS:
            self._followed.append((day, signed64(label.recommendation_id)))
            self.labels[day] += label.delay_ms <= SETTLED_MS


class Share(msgspec.Struct, frozen=True):
    """So many of so many."""

    part: int
    whole: int

    @property
    def share(self) -> float:
        return self.part / self.whole if self.whole else 0.0


def shared(part: Daily, whole: Daily, days: Iterable[int]) -> Share:
    """Over some days together."""
    days = tuple(days)
    return Share(sum(part[day] for day in days), sum(whole[day] for day in days))
