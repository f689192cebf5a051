"""The live state a request reads, in arrays by item row.

Follows the serving topics. `offer` only notes the newest value of a key, from any thread;
`refresh` writes what was noted into the arrays and is called by the thread that answers
requests, so that nothing moves under a request.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, path_and_parents
from core.profile import Profile
from core.settings import Settings
from core.stats import CATEGORY, RELATIONS, SIGNALS, Circle, ItemStats, Neighbours
from ranker.arrays import Floats, Rows, best, grown, sum_by_key
from ranker.ease import Ease, Ties
from ranker.sessions import SessionIndex
from ranker.traits import Traits
from ranker.words import Words

SIGNAL: Final = {name: column for column, name in enumerate(SIGNALS)}
TREND_WEIGHTS: Final = {"view": 1.0, "click": 1.0, "cart": 3.0, "buy": 6.0}
_TOP: Final = 400


class Counters:
    """Decayed counters of many keys: `faded[row, signal, half-life]` as of `stamp[row, signal]`."""

    def __init__(self, half_lives_ms: Sequence[float]) -> None:
        self.half_lives_ms = np.asarray(half_lives_ms, np.float64)
        self._rates = (-1.0 / self.half_lives_ms).astype(np.float32)
        self.total = np.zeros((0, len(SIGNALS)), np.float32)
        self.faded = np.zeros((0, len(SIGNALS), len(half_lives_ms)), np.float32)
        self.stamp = np.zeros((0, len(SIGNALS)), np.int64)

    def grow(self, capacity: int) -> None:
        self.total, self.faded, self.stamp = (grown(a, capacity) for a in (self.total, self.faded, self.stamp))

    def put(self, row: int, stats: ItemStats) -> None:
        for name, counter in stats.counters.items():
            column = SIGNAL[name]
            self.total[row, column] = counter.total
            self.faded[row, column] = counter.faded
            self.stamp[row, column] = counter.ts

    def at(self, rows: Rows, signal: str, now_ms: int) -> Floats:
        """The signal's counters decayed to now, `(rows, half-lives)`."""
        column = SIGNAL[signal]
        age = (now_ms - self.stamp[rows, column]).astype(np.float64)[:, None]
        decay = np.exp2(-np.maximum(age, 0.0) / self.half_lives_ms).astype(np.float32)
        found: Floats = self.faded[rows, column] * decay
        return found

    def all_at(self, rows: Rows, now_ms: int) -> Floats:
        """Every signal's counters decayed to now, `(rows, signals, half-lives)`; one pass over memory."""
        age = np.maximum(now_ms - self.stamp[rows], 0).astype(np.float32)
        decay = np.exp2(age[:, :, None] * self._rates)
        decay *= self.faded[rows]
        found: Floats = decay
        return found

    def ever(self, rows: Rows, signal: str) -> Floats:
        found: Floats = self.total[rows, SIGNAL[signal]]
        return found


class Circles:
    """The heaviest neighbours of every item in one relation: `(items, width)`, -1 where there is none.

    `share[row, place]` is the pair's decayed weight over the item's own; `mass[row]` the log2 of the
    item's decayed weight plus its epoch in half-lives, so that `2 ** (mass - now / half_life)` is the
    weight now.
    """

    def __init__(self, width: int, half_life_ms: float) -> None:
        self.width, self.half_life_ms = width, half_life_ms
        self.rows = np.full((0, width), -1, np.int32)
        self.share = np.zeros((0, width), np.float32)
        self.mass = np.zeros(0, np.float64)

    def grow(self, capacity: int) -> None:
        self.rows, self.share = grown(self.rows, capacity, -1), grown(self.share, capacity)
        self.mass = grown(self.mass, capacity, -np.inf)

    def put(self, row: int, circle: Circle, partners: Sequence[int], weights: Sequence[float]) -> None:
        count = len(partners)
        # an item that went straight into a basket has partners of views without a view of its own
        total = max(circle.total, max(weights, default=0.0))
        self.rows[row, :count], self.rows[row, count:] = partners, -1
        self.share[row, :count] = np.asarray(weights) / total if total > 0 else 0.0
        self.share[row, count:] = 0.0
        if total > 0:
            self.mass[row] = math.log2(total) + circle.epoch / self.half_life_ms

    def weight(self, rows: Rows, now_ms: int) -> NDArray[np.float64]:
        """Decayed number of sessions or baskets each item was in."""
        return np.asarray(np.exp2(np.minimum(self.mass[rows] - now_ms / self.half_life_ms, 60.0)))


@dataclass(slots=True)
class Fitted:
    """A bundle's models of histories by item row: `ease` and its sequels `after`, None where it has none."""

    ease: Ties | None = None
    after: Ties | None = None
    heard: int = 0  # rows there were when they were fitted to them

    def fit(self, ease: Ease, rows: Mapping[str, int]) -> None:
        """Fit a model to the rows there are; items without one wait until they have."""
        self.heard = len(rows)
        self.ease, self.after = (
            Ties(one, [rows.get(item, -1) for item in one.items]) if one is not None else None
            for one in (ease, ease.after)
        )


class Live:
    """Everything about items that changes with each event; one a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        half_lives_ms = [s * 1000.0 for s in settings.popularity.half_lives_s]
        self.trend_column = settings.popularity.half_lives_s.index(settings.ranking.trending_half_life_s)
        self.trend_half_life_ms = half_lives_ms[self.trend_column]
        self.rows: dict[str, int] = {}
        self.ids: list[str] = []
        self.items: list[Item | None] = []  # catalogue entries by row
        self.counters = Counters(half_lives_ms)
        width, half_life_ms = settings.neighbours.served, settings.neighbours.half_life_s * 1000.0
        self.circles = {relation: Circles(width, half_life_ms) for relation in RELATIONS}
        self.sessions = SessionIndex(settings.sessions)
        self.fitted = Fitted()  # of the bundle that answers
        self.sold = np.zeros(0, bool)  # in the catalogue now
        self.stock = np.zeros(0, bool)
        self.price = np.zeros(0, np.float32)  # NaN where unknown
        self.since = np.zeros(0, np.int64)  # first upsert, or first use of an item that has none
        self.first_buy = np.zeros(0, np.int64)
        self.last_buy = np.zeros(0, np.int64)
        self.last_use = np.zeros(0, np.int64)
        self.leaf = np.zeros(0, np.int32)  # row of the first category path, -1 for none
        self.root = np.zeros(0, np.int32)  # row of the widest category above it
        self.trend = np.zeros(0, np.float64)  # log2 of the weighted counters plus time in half-lives
        self.place = np.zeros(0, np.int64)  # scratch of `sum_by_row`
        self.traits = Traits()
        self.words = Words()
        self.category_rows: dict[str, int] = {}
        self.categories = Counters(half_lives_ms)
        self.members: list[list[int]] = []  # item rows by category row
        self.sold_count = 0
        self.has_catalogue = False  # the shop has told what it sells, if only to take it back
        self.shop_totals = dict.fromkeys(SIGNALS, 0.0)  # every signal over all items
        self.barred = np.zeros(0, bool)  # scratch of the rules
        self.max_event_ms = 0
        self._arrivals: list[int] = []  # rows of what is sold, in order of first upsert
        self._top: Rows = np.zeros(0, np.int64)
        self._depth = _TOP  # how many of the best `_top` holds
        self._touched: set[int] = set()
        self._pending: dict[str, dict[str, Any]] = {}
        self._lock = Lock()

    # ------------------------------------------------------------------ following the topics
    def offer(self, topic: str, key: str, value: Any) -> None:
        """Note the newest value of a key of a serving topic; None is a removal."""
        with self._lock:
            self._pending.setdefault(topic, {})[key] = value

    def refresh(self) -> None:
        """Bring the arrays up to what was offered."""
        if not self._pending:
            return
        with self._lock:
            pending, self._pending = self._pending, {}
        for key, item in sorted(pending.get("catalogue", {}).items(), key=_by_arrival):
            self._put_item(key, item)
        for key, stats in pending.get("item-stats", {}).items():
            self._put_stats(key, stats)
        for key, neighbours in pending.get("item-neighbours", {}).items():
            self._put_neighbours(key, neighbours)
        self._put_profiles(pending.get("profiles", {}))
        self._hear()

    @property
    def ease(self) -> Ties | None:
        """What follows from what; None before a job has fitted it."""
        return self.fitted.ease

    @property
    def after(self) -> Ties | None:
        """Sequels, fitted with it."""
        return self.fitted.after

    def adopt(self, ease: Ease) -> None:
        """Answer from this model. Of its items, those nobody has heard of here wait until somebody has."""
        self.fitted = Fitted()
        self.fitted.fit(ease, self.rows)

    def use(self, fitted: Fitted) -> None:
        """Answer from the models of another bundle, that were fitted to the rows of this one process."""
        if fitted is not self.fitted:
            self.fitted = fitted
            self._hear()

    def _hear(self) -> None:
        fitted = self.fitted
        if fitted.ease is not None and fitted.ease.unheard and len(self.ids) > fitted.heard:
            fitted.fit(fitted.ease.ease, self.rows)

    def row(self, item_id: str) -> int:
        """The item's row, a new one when it was never heard of."""
        row = self.rows.get(item_id)
        if row is None:
            row = self.rows[item_id] = len(self.ids)
            self.ids.append(item_id)
            self.items.append(None)
            if row >= len(self.price):
                self._grow(max(1024, 2 * row))
        return row

    def forget_after(self, count: int) -> None:
        """Take back the rows that came after so many, of items that were only asked about."""
        for item in self.ids[count:]:
            del self.rows[item]
        del self.ids[count:], self.items[count:]

    def known_rows(self, items: Iterable[str]) -> Rows:
        """Rows of those items that have one."""
        rows = self.rows
        return np.fromiter((rows[item] for item in items if item in rows), np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def _grow(self, capacity: int) -> None:
        for name in ("sold", "stock", "first_buy", "last_buy", "last_use", "since", "place", "barred"):
            setattr(self, name, grown(getattr(self, name), capacity))
        self.price = grown(self.price, capacity, np.nan)
        self.leaf, self.root = grown(self.leaf, capacity, -1), grown(self.root, capacity, -1)
        self.trend = grown(self.trend, capacity, -np.inf)
        self.counters.grow(capacity)
        for circles in self.circles.values():
            circles.grow(capacity)
        self.sessions.grow(capacity)
        self.traits.grow(capacity)
        self.words.grow(capacity)

    def _put_item(self, key: str, item: Item | None) -> None:
        row, self.has_catalogue = self.row(key), True
        self.sold_count += (item is not None) - bool(self.sold[row])
        self.sold[row] = item is not None
        before, self.items[row] = self.items[row], item
        self.stock[row] = item is not None and item.in_stock
        old, new = before.categories if before else (), item.categories if item else ()
        if old != new:
            self._put_members(row, old, new)
        if item is None:
            if before is not None:
                del self._arrivals[bisect_left(self._arrivals, self._arrival(row), key=self._arrival)]
            return
        if before is None:
            self.since[row] = item.since
            insort(self._arrivals, row, key=self._arrival)
        self.traits.put(row, item)
        self.words.put(row, item)
        if item.price is not None:
            self.price[row] = item.price
        elif before is not None and before.price is not None:
            self.price[row] = np.nan
        if before is None or old != new:
            self._put_leaf(row, new)
        self.max_event_ms = max(self.max_event_ms, item.ts)

    def _arrival(self, row: int) -> tuple[int, str]:
        return int(self.since[row]), self.ids[row]

    def _put_members(self, row: int, old: Sequence[str], new: Sequence[str]) -> None:
        for path in {wider for one in old for wider in path_and_parents(one)}:
            self.members[self.category_row(path)].remove(row)
        for path in dict.fromkeys(wider for one in new for wider in path_and_parents(one)):
            self.members[self.category_row(path)].append(row)

    def _put_leaf(self, row: int, paths: Sequence[str]) -> None:
        """Where an item stands; one that is no longer sold stays there, for those who had to do with it."""
        self.leaf[row] = self.category_row(paths[0]) if paths else -1
        self.root[row] = self.category_row(path_and_parents(paths[0])[0]) if paths else -1

    def category_row(self, path: str) -> int:
        row = self.category_rows.get(path)
        if row is None:
            row = self.category_rows[path] = len(self.members)
            self.members.append([])
            if row >= len(self.categories.total):
                self.categories.grow(max(64, 2 * row))
        return row

    def _put_stats(self, key: str, stats: ItemStats) -> None:
        if key.startswith(CATEGORY):
            self.categories.put(self.category_row(key[len(CATEGORY) :]), stats)
            return
        row = self.row(key)
        for name, counter in stats.counters.items():
            self.shop_totals[name] += counter.total - float(self.counters.total[row, SIGNAL[name]])
        self.counters.put(row, stats)
        self.words.count(row, stats)
        self.first_buy[row], self.last_buy[row], self.last_use[row] = stats.first_buy, stats.last_buy, stats.last
        item = self.items[row]
        if item is None:
            self.since[row] = stats.first
        if stats.price and (item is None or item.price is None):
            self.price[row] = stats.price
        self._put_trend(row, stats)
        self.max_event_ms = max(self.max_event_ms, stats.last)

    def _put_trend(self, row: int, stats: ItemStats) -> None:
        half_life, column, now = self.trend_half_life_ms, self.trend_column, stats.last
        weight = 0.0
        for name, factor in TREND_WEIGHTS.items():
            counter = stats.counters.get(name)
            if counter is not None:
                weight += factor * counter.faded[column] * 2.0 ** ((counter.ts - now) / half_life)
        if weight > 0:
            self.trend[row] = math.log2(weight) + now / half_life
            self._touched.add(row)

    def _put_neighbours(self, key: str, value: Neighbours) -> None:
        row = self.row(key)
        width = self.settings.neighbours.served
        for relation, circle in value.circles.items():
            best = sorted(circle.weights.items(), key=lambda pair: -pair[1])[:width]
            partners = [self.row(item) for item, _ in best]
            self.circles[relation].put(row, circle, partners, [weight for _, weight in best])

    def _put_profiles(self, profiles: Mapping[str, Profile | None]) -> None:
        """Enter the sessions that changed in the order of time, as if they had come one by one."""
        found = []
        for key, profile in profiles.items():
            if profile is None or not profile.sessions:
                self.sessions.forget(key)  # a visitor who turned out to be a user took them along
            else:
                found += [
                    (one.last, key, one)
                    for one in profile.sessions
                    if not self.sessions.holds(key, one.id, one.last, one.items.values())
                ]
        for _, key, session in sorted(found, key=lambda one: one[:2]):
            pairs = [(self.row(item), act) for item, act in session.items.items() if act > 0]
            if pairs:
                self.sessions.put(key, session.id, session.last, pairs)

    # ------------------------------------------------------------------ what requests ask
    def rate(self, hit: str, of: str) -> float:
        """The shop's own rate of one signal per other, to shrink an item's towards."""
        hits, tries = self.shop_totals[hit], self.shop_totals[of]
        return min(1.0, hits / tries) if tries else 0.0

    def trending(self, now_ms: int, count: int) -> tuple[Rows, Floats]:
        """The items used most of late, best first, with their decayed weight now.

        Weights only grow and fade alike, so the best are among the best of last time and
        those touched since.
        """
        deeper = count > self._depth
        if self._touched or deeper:
            if len(self._touched) > 5_000 or deeper:
                pool = np.arange(len(self.ids))
            else:
                pool = np.union1d(self._top, np.fromiter(self._touched, np.int64, len(self._touched)))
            self._touched.clear()
            self._depth = max(self._depth, count)
            self._top = best(pool, self.trend[pool], self._depth)
        rows = self._top[:count]
        rows = rows[np.isfinite(self.trend[rows])]
        return rows, np.exp2(self.trend[rows] - now_ms / self.trend_half_life_ms).astype(np.float32)

    def arrivals(self, now_ms: int, age_ms: float, most: int) -> Rows:
        """The newest items of the catalogue, newest first, none older than `age_ms`."""
        recent = np.array(self._arrivals[-most:][::-1], np.int64)
        age = now_ms - self.since[recent]
        return recent[(age >= 0) & (age <= age_ms) & self.sold[recent]]

    def sum_by_row(self, rows: NDArray[np.integer[Any]], values: NDArray[np.floating[Any]]) -> tuple[Rows, Floats]:
        """Distinct rows and the sum of each one's values, in time linear in the input alone."""
        return sum_by_key(rows, values, self.place)


def _by_arrival(entry: tuple[str, Item | None]) -> tuple[int, str]:
    """In this order the rows of one catalogue come out alike, whether it came piece by piece or was loaded."""
    key, item = entry
    return (item.since if item is not None else 0), key
