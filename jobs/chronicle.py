"""A log as a history: in the order of time, and with a catalogue that was there when it was first used.

A shop sends its catalogue today and imports the sales of last year: in the order of arrival every
item would come after all its sales, and every sale would be a late event. Looking back, an item was
there at the latest when somebody first did something with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge

from msgspec.structs import replace

from core.catalogue import ItemChange
from core.events import Event

Dated = Event | ItemChange


def in_time(log: Callable[[], Iterable[object]], slack_ms: int) -> Iterator[Dated]:
    """Events and item changes of a log by their time; what happens at one time stays in the order of arrival.

    Args:
        log: makes an iterator over the log's messages, in the order of arrival; called two times.
            Messages of other kinds are passed over.
        slack_ms: an event may arrive this much later than a newer one and still count as in order.
            A log in order is not held in memory.
    """
    mentioned: dict[str, int] = {}
    changes: list[ItemChange] = []
    newest, ordered = 0, True
    for message in log():
        if isinstance(message, ItemChange):
            changes.append(message)
        elif isinstance(message, Event):
            ordered = ordered and message.ts >= newest - slack_ms
            newest = max(newest, message.ts)
            for line in message.items:
                if message.ts < mentioned.get(line.item_id, message.ts + 1):
                    mentioned[line.item_id] = message.ts
    events: Iterator[Event] = (message for message in log() if isinstance(message, Event))
    if not ordered:
        events = iter(sorted(events, key=_time))
    return merge(sorted(_present(changes, mentioned), key=_time), events, key=_time)


def _present(changes: Iterable[ItemChange], mentioned: dict[str, int]) -> Iterator[ItemChange]:
    """The changes, each item's first one no later than the first event that names the item."""
    known: set[str] = set()
    for change in changes:
        if change.item_id not in known:
            known.add(change.item_id)
            first = mentioned.get(change.item_id, change.ts)
            change = replace(change, ts=first) if first < change.ts and not change.removed else change
        yield change


def _time(message: Dated) -> int:
    return message.ts
