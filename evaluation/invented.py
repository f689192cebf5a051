"""An invented shop: products that read like a real shop's, and shoppers whose hidden tastes are known to us.

For the demonstration, and for tests that need to know the right answer. Everything is a fact of the
seed and the moment of opening; no clock is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import count
from math import cos, tau
from random import Random
from typing import Any, Final

from core.ids import DAY_MS, HOUR_MS
from evaluation.invented_goods import products
from evaluation.invented_shelves import Shelves, Shopper, Taste
from evaluation.invented_visits import Visit
from evaluation.invented_words import FIRST_NAMES, KINDS, STYLES

DAYS: Final = 60  # in which new products appear; shoppers go on after that
OPENED_MS: Final = 1_735_689_600_000  # 2025-01-01, where no other moment is wanted

_NEW: Final = 0.10  # of the products come after the opening
_ALWAYS_KNOWN, _JOINING = 0.60, 0.25  # of the shoppers; the rest stay anonymous
_VISITS_A_DAY: Final = 0.16  # median
_HOURS: Final = (1, 0, 0, 0, 0, 1, 3, 6, 7, 7, 7, 7, 9, 8, 7, 6, 6, 7, 9, 12, 14, 13, 9, 4)  # visits by hour, UTC


class InventedShop:
    """A shop with a catalogue, shoppers and all that happens in it.

    Args:
        seed: everything follows from it; a generator of its own is made for each part.
        items: how many products there will have been after `DAYS` days.
        shoppers: how many people.
        opened_ms: the first day's midnight, ms since 1970.

    Raises:
        BadInput: more items than names can be made for.
    """

    def __init__(self, seed: int = 7, items: int = 600, shoppers: int = 400, *, opened_ms: int = OPENED_MS) -> None:
        self._seed = seed
        self._opened_ms = opened_ms
        random = Random(f"{seed} goods")
        self._products = products(random, items, [self._launch(random) for _ in range(items)])
        self._by_id = {product.item_id: product for product in self._products}
        self._count = shoppers

    def catalogue(self, until_ms: int | None = None) -> list[dict[str, Any]]:
        """Bodies for POST /v1/items, oldest first; with `until_ms`, only products that were there before it."""
        there = [one for one in self._products if until_ms is None or one.launched_ms < until_ms]
        return [one.body() for one in sorted(there, key=lambda one: one.launched_ms)]

    def new_items_after(self, ts: int) -> list[dict[str, Any]]:
        """Bodies for POST /v1/items of the products that appear at `ts` or later, oldest first."""
        return [body for body in self.catalogue() if body["ts"] >= ts]

    def events(self, until_ms: int, since_ms: int = 0) -> Iterator[dict[str, Any]]:
        """Bodies for POST /v1/events with `since_ms` <= ts < `until_ms`, in time order.

        The life of the shop is played from its opening, so a later `since_ms` only leaves events out.
        """
        for body in self._life(until_ms):
            if body["ts"] >= since_ms:
                yield body

    def true_tastes(self) -> Mapping[str, Taste]:
        """What each shopper likes, by user id, or by visitor id for those who never log in."""
        return {shopper.key: shopper.taste for shopper in self._shoppers()}

    def true_group(self, item_id: str) -> str:
        """Category and style of a product, such as "Bath/rustic": those who like one like the others."""
        return self._by_id[item_id].group

    def _launch(self, random: Random) -> int:
        if random.random() >= _NEW:
            return self._opened_ms
        return self._opened_ms + random.randrange(3 * DAY_MS, DAYS * DAY_MS)

    def _shoppers(self) -> list[Shopper]:
        random = Random(f"{self._seed} shoppers")
        return [_shopper(random, number) for number in range(self._count)]

    def _life(self, until_ms: int) -> Iterator[dict[str, Any]]:
        random = Random(f"{self._seed} visits")
        shelves, shoppers = Shelves(random, self._products, self._opened_ms), self._shoppers()
        waiting: list[tuple[int, int, dict[str, Any]]] = []
        number = count()
        for day in count():
            start = self._opened_ms + day * DAY_MS
            while waiting and waiting[0][0] < min(start, until_ms):
                yield heapq.heappop(waiting)[2]
            if start >= until_ms:
                return
            shelves.wake(start)
            for shopper in shoppers:
                for body in _day(random, shelves, shopper, day, start):
                    heapq.heappush(waiting, (body["ts"], next(number), body))


def _shopper(random: Random, number: int) -> Shopper:
    chance = random.random()
    known, joining = chance < _ALWAYS_KNOWN, chance < _ALWAYS_KNOWN + _JOINING
    return Shopper(
        user_id=f"{random.choice(FIRST_NAMES)}-{number + 1:03d}",
        visitor_id=f"v-{number + 1:03d}",
        taste=_taste(random),
        visits_a_day=_VISITS_A_DAY * random.lognormvariate(0.0, 0.6),
        joins_day=0 if known else random.randrange(4, 50) if joining else None,
        joined=known,
    )


def _taste(random: Random) -> Taste:
    categories = list(dict.fromkeys(kind.category for kind in KINDS))
    random.shuffle(categories)
    styles = random.sample(STYLES, len(STYLES))
    rest = 0.2 / (len(categories) - 2)
    return Taste(
        categories={name: (0.5, 0.3)[place] if place < 2 else rest for place, name in enumerate(categories)},
        styles=dict(zip(styles, (0.68, 0.2, 0.06, 0.06), strict=True)),
        level=random.randrange(3),
    )


def _day(random: Random, shelves: Shelves, shopper: Shopper, day: int, start_ms: int) -> Iterator[dict[str, Any]]:
    """All that one shopper does on one day: what ran out is bought again, and there may be visits without a plan."""
    for due in [one for one in shopper.runs_out if one[0] < start_ms + DAY_MS]:
        shopper.runs_out.remove(due)
        yield from Visit(random, shelves, shopper, day, _moment(random, start_ms)).restock(due[1])
    rate = shopper.visits_a_day * (1.0 - 0.3 * cos(tau * day / 7))
    while random.random() < rate:
        rate -= 1.0
        yield from Visit(random, shelves, shopper, day, _moment(random, start_ms)).browse()


def _moment(random: Random, start_ms: int) -> int:
    return start_ms + random.choices(range(24), _HOURS)[0] * HOUR_MS + random.randrange(HOUR_MS)
