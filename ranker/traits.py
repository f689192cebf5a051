"""What the catalogue says of items beside their text, whatever a shop calls it: numbers and words, by item row.

A shop's own attributes find their places by a hash of their names, so that a column means the
same in every process, and a new attribute moves none of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, path_and_parents
from core.ids import hash64
from ranker.arrays import Floats, Rows, grown

NUMBERS: Final = 32  # columns that numeric attributes share; of two with the same, the alphabet's first counts
KINDS: Final = 8  # categories of an item, with the wider ones
WORDS: Final = 16  # other words of an item
LONGEST: Final = 60  # characters; a longer attribute is prose, and its encoder reads it
_BUCKETS: Final = 1 << 16  # that words are counted in
_STEPS: Final = 1 << 14  # that numbers are counted in
_DIM: Final = 256  # that words are spread over when they are compared


class Traits:
    """`numbers[row, column]` are NaN where unknown, `words[row]` hashes of words, -1 padded, categories first."""

    def __init__(self) -> None:
        self.numbers = np.full((0, NUMBERS), np.nan, np.float32)
        self.words = np.full((0, KINDS + WORDS), -1, np.int64)
        self._items = 0  # with words
        self._having = np.zeros(_BUCKETS, np.int64)  # items by bucket of their words
        self._steps: dict[int, NDArray[np.int64]] = {}  # by column in use, items by step of their number
        self._below: dict[int, Floats] = {}  # by column, share of the numbers below a step

    def grow(self, capacity: int) -> None:
        self.numbers, self.words = grown(self.numbers, capacity, np.nan), grown(self.words, capacity, -1)

    def put(self, row: int, item: Item) -> None:
        """Take in an item as it stands now."""
        self._count(row, -1)
        self.numbers[row], self.words[row] = np.nan, -1
        for column, value in _numbers(item):
            self.numbers[row, column] = value
        kinds = list(dict.fromkeys(_hash("", wider) for path in item.categories for wider in path_and_parents(path)))
        words = list(dict.fromkeys(_hash(name, word) for name, word in _words(item)))
        self.words[row, : len(kinds[:KINDS])] = kinds[:KINDS]
        self.words[row, KINDS : KINDS + len(words[:WORDS])] = words[:WORDS]
        self._count(row, 1)

    def _count(self, row: int, step: int) -> None:
        words = self.words[row][self.words[row] >= 0]
        self._items += step * bool(len(words))
        np.add.at(self._having, words % _BUCKETS, step)
        for column in np.flatnonzero(np.isfinite(self.numbers[row])).tolist():
            steps = self._steps.setdefault(column, np.zeros(_STEPS, np.int64))
            steps[_step(self.numbers[row, column])] += step
            self._below.pop(column, None)

    # ------------------------------------------------------------------ how alike items are
    def likeness(self, count: int, rows: Rows) -> list[Floats]:
        """Of categories, other words and numbers, each 0 to 1, of the first so many to all: `(count, rows)`.

        0 where one of the two has none.
        """
        kinds = self._spread(rows, slice(0, KINDS))
        words = self._spread(rows, slice(KINDS, KINDS + WORDS))
        return [kinds[:count] @ kinds.T, words[:count] @ words.T, self._near(count, rows)]

    def _spread(self, rows: Rows, part: slice) -> Floats:
        """Unit vectors of words, the rarer the heavier (Weinberger et al., "Feature Hashing", ICML 2009)."""
        words = self.words[rows, part]
        known = words >= 0
        weight = np.log1p(self._items / np.maximum(self._having[words % _BUCKETS], 1))
        sign = np.where((words >> 20) & 1, 1.0, -1.0)
        place = np.arange(len(rows))[:, None] * _DIM + (words >> 24) % _DIM
        found = np.bincount(place[known], (weight * sign)[known], len(rows) * _DIM).reshape(len(rows), _DIM)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        vectors: Floats = (found / np.maximum(length, 1e-9)).astype(np.float32)
        return vectors

    def _near(self, count: int, rows: Rows) -> Floats:
        """By mean squared distance of the numbers' ranks in the catalogue."""
        squares, both = np.zeros((2, count, len(rows)), np.float32)
        for column in self._steps:
            ranks = self._ranks(rows, column)
            apart = (ranks[:count, None] - ranks) ** 2
            known = np.isfinite(apart)
            squares += np.where(known, apart, 0.0)
            both += known
        near: Floats = np.where(both > 0, np.exp(-12.5 * squares / np.maximum(both, 1.0)), 0.0).astype(np.float32)
        return near

    def _ranks(self, rows: Rows, column: int) -> Floats:
        """Share of the catalogue's numbers that are smaller."""
        if column not in self._below:
            steps = self._steps[column]
            self._below[column] = ((np.cumsum(steps) - steps / 2.0) / max(1, int(steps.sum()))).astype(np.float32)
        values = self.numbers[rows, column]
        known = np.isfinite(values)
        ranks = np.full(len(rows), np.nan, np.float32)
        ranks[known] = self._below[column][_step(values[known])]
        return ranks


def _numbers(item: Item) -> Iterator[tuple[int, float]]:
    """Column and value; the alphabet's first comes last, and so wins."""
    given = {name: value for name, value in item.attributes.items() if isinstance(value, float | int)}
    for name in sorted(given, reverse=True):
        if not isinstance(given[name], bool) and np.isfinite(np.float32(given[name])):
            yield hash64(name) % NUMBERS, float(given[name])


def _words(item: Item) -> Iterator[tuple[str, str]]:
    if item.brand:
        yield "brand", item.brand
    for name in sorted(item.attributes):
        value = item.attributes[name]
        if isinstance(value, bool):
            yield name, str(value)
        elif isinstance(value, str | list):
            for word in [value] if isinstance(value, str) else value:
                if 0 < len(word) <= LONGEST:
                    yield name, word


def _hash(name: str, word: str) -> int:
    return hash64(f"{name}={word.lower()}") >> 1


def _step(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The upper bits of a float, in the order of the numbers: a step is at most a thirty-second of the number."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return (np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) >> 18) + _STEPS // 2
