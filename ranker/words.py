"""The words of the catalogue by item row, and how often each is taken: what `wording` makes its columns from.

Words are counted in buckets of their hashes, so processes need not agree on a vocabulary, and nothing grows with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, path_and_parents
from core.ids import hash64
from core.stats import ItemStats
from ranker.arrays import Floats, Rows, grown

MOST: Final = 16  # words of an item, and as many pairs of neighbouring ones
BUCKETS: Final = 1 << 16
SHARED: Final = 2  # items that have a word before it tells anything
STRENGTH: Final = {"view": 1.0, "click": 2.0, "cart": 4.0, "buy": 6.0}  # of an act, for what is taken
_WORD: Final = re.compile(r"[^\W_]+")

Buckets = NDArray[np.int32]


class Counted:
    """One kind of words. `of[row]` are buckets, -1 padded; `having` counts items by bucket, `taken` what was taken."""

    def __init__(self) -> None:
        self.of: Buckets = np.full((0, MOST), -1, np.int32)
        self.having = np.zeros(BUCKETS, np.int64)
        self.taken = np.zeros(BUCKETS, np.float64)
        self.items = 0  # with words
        self.whole = 0.0  # sum of `taken`

    def grow(self, capacity: int) -> None:
        self.of = grown(self.of, capacity, -1)

    def put(self, row: int, words: Sequence[str], taken: float) -> None:
        """The words of an item as it stands now, which was taken so often."""
        self._count(row, -1, -taken)
        self.of[row] = -1
        found = list(dict.fromkeys(hash64(one) % BUCKETS for one in words))[:MOST]
        self.of[row, : len(found)] = found
        self._count(row, 1, taken)

    def take(self, row: int, more: float) -> None:
        """The item was taken that much more often."""
        mine = self.of[row][self.of[row] >= 0]
        self.taken[mine] += more
        self.whole += more * len(mine)

    def _count(self, row: int, items: int, taken: float) -> None:
        mine = self.of[row][self.of[row] >= 0]
        self.items += items * bool(len(mine))
        self.having[mine] += items
        self.take(row, taken)

    def telling(self, rows: Rows) -> tuple[Buckets, NDArray[np.bool_]]:
        """Buckets of items, and which of these hold a word that several items have: `(rows, MOST)` each."""
        mine = self.of[rows]
        return mine, (mine >= 0) & (self.having[mine] >= SHARED)

    def rarity(self, buckets: NDArray[np.integer[Any]]) -> Floats:
        """Inverse document frequency, above 0."""
        rare: Floats = np.log1p(self.items / np.maximum(self.having[buckets], 1)).astype(np.float32)
        return rare

    def usual(self, buckets: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Share of each word in all that was taken, above 0."""
        usual: NDArray[np.float64] = (self.taken[buckets] + 1.0) / (self.whole + BUCKETS)
        return usual


class Words:
    """Words and pairs of neighbouring words of titles; brand and categories count as words."""

    def __init__(self) -> None:
        self.single, self.pairs = Counted(), Counted()
        self._taken = np.zeros(0)

    def grow(self, capacity: int) -> None:
        self.single.grow(capacity)
        self.pairs.grow(capacity)
        self._taken = grown(self._taken, capacity)

    def put(self, row: int, item: Item) -> None:
        """Take in an item as it stands now."""
        title = [one.lower() for one in _WORD.findall(item.title)]
        kinds = [f"/{wider.lower()}" for path in item.categories for wider in path_and_parents(path)]
        brand = [f"={item.brand.lower()}"] if item.brand else []
        taken = float(self._taken[row])
        self.single.put(row, [*title[: MOST - 4], *brand, *kinds], taken)
        self.pairs.put(row, [f"{a} {b}" for a, b in pairwise(title)], taken)

    def count(self, row: int, stats: ItemStats) -> None:
        """How often the item was taken by now."""
        counters = stats.counters
        taken = sum(weight * counters[name].total for name, weight in STRENGTH.items() if name in counters)
        more, self._taken[row] = taken - float(self._taken[row]), taken
        self.single.take(row, more)
        self.pairs.take(row, more)
