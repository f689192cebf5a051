"""Counters that fade, and who goes with whom: the values behind `item-stats` and `item-neighbours`.

A decayed counter with half-life h is worth sum of weight * 2 ** (-(now - t) / h). It is kept
with the time of its newest event, and observing works in whatever order events arrive: the
older side is decayed to the newer one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.fields import RESERVED

SIGNALS: Final = (
    "view", "click", "shown", "wish", "cart", "buy", "newcomer", "again", "wait", "refund", "like", "dislike",
)  # fmt: skip
CATEGORY: Final = f"{RESERVED}category:"  # and a path: the key under which a category is counted, as no item is
RELATIONS: Final = ("seen", "carted", "bought")


class Counter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One signal of one item: `total` ever, and `faded[i]` at half-life i as of `ts` (ms)."""

    ts: int
    total: float
    faded: tuple[float, ...]


class ItemStats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State of the popularity step and value of `item-stats`; one an item or category.

    `counters` maps a signal of `SIGNALS` to its counter; `first` and `last` are times of use
    (view, click, cart, buy), `first_buy` and `last_buy` of sales, in ms, 0 for never.
    """

    v: int = 1
    counters: dict[str, Counter] = {}
    first: int = 0
    last: int = 0
    first_buy: int = 0
    last_buy: int = 0
    price: float = 0.0  # of the last sale or view that named one
    categories: tuple[str, ...] = ()


class Circle(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Decayed pair weights of one item in one relation.

    `weights[b]` is scaled so that dividing by 2 ** ((now - epoch) / half_life) gives the
    decayed weight: order and ratios need no clock. `total` is the item's own decayed number of
    sessions or baskets on the same scale, for normalising.
    """

    epoch: int
    total: float
    weights: dict[str, float]


class Neighbours(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State of the neighbour step and value of `item-neighbours`; one an item."""

    v: int = 1
    circles: dict[str, Circle] = {}


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one event says of one item: a record of `item-signals`, keyed by the item.

    `partners` are the other items of the session or basket, each pair to be given `pair_weight`;
    `fresh` says whether the item is new in it (and so counts once more in the circle's total).
    """

    v: int
    item: str
    signal: str  # one of SIGNALS, or "" when only partners are told
    ts: int
    weight: float = 1.0
    price: float = 0.0
    relation: str = ""
    partners: tuple[str, ...] = ()
    pair_weight: float = 0.0
    fresh: bool = False


def observe(counter: Counter | None, ts: int, weight: float, half_lives_ms: tuple[float, ...]) -> Counter:
    """Count one event, in whatever order events arrive.

    >>> first = observe(None, 0, 1.0, (60_000.0,))
    >>> observe(first, 60_000, 1.0, (60_000.0,))
    Counter(ts=60000, total=2.0, faded=(1.5,))
    >>> observe(observe(None, 60_000, 1.0, (60_000.0,)), 0, 1.0, (60_000.0,))
    Counter(ts=60000, total=2.0, faded=(1.5,))
    """
    if counter is None:
        return Counter(ts, weight, (weight,) * len(half_lives_ms))
    gap = ts - counter.ts
    if gap == 0:
        return Counter(ts, counter.total + weight, tuple([f + weight for f in counter.faded]))
    if gap > 0:
        faded = tuple([f * 2.0 ** (-gap / h) + weight for f, h in zip(counter.faded, half_lives_ms, strict=True)])
        return Counter(ts, counter.total + weight, faded)
    faded = tuple([f + weight * 2.0 ** (gap / h) for f, h in zip(counter.faded, half_lives_ms, strict=True)])
    return Counter(counter.ts, counter.total + weight, faded)
