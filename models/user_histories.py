"""Histories that a user tower learns from, one behind the other, and the batches that are cut of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.pairs import Rows
from models.user_tower import Floats

SORTED: Final = 20  # batches whose pieces are sorted by length at a time


@dataclass(frozen=True, slots=True)
class Sequences:
    """Histories one behind the other, oldest first: `rows[starts[i]:starts[i + 1]]` with their amounts."""

    starts: Rows
    rows: Rows
    amounts: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1


class Batches:
    """Pieces of histories of at most so many items and the next one, `size` at a time, cut anew each round."""

    def __init__(self, found: Sequences, length: int, size: int) -> None:
        self._found, self._length, self._size = found, length, size
        self._new = _first_time(found)

    def of(self, chance: np.random.Generator) -> Iterator[tuple[Rows, Floats, NDArray[np.bool_]]]:
        """Rows (histories, length + 1) with -1 where one is over, amounts, and which are new: all of one batch."""
        pieces = self._pieces(chance)
        order = chance.permutation(len(pieces))
        lengths = (pieces[:, 1] - pieces[:, 0])[order]
        batches = []
        for start in range(0, len(order), SORTED * self._size):  # of like length, so that little is filled up
            block = order[start : start + SORTED * self._size][
                np.argsort(lengths[start : start + SORTED * self._size], kind="stable")
            ]
            batches += [block[at : at + self._size] for at in range(0, len(block), self._size)]
        for number in chance.permutation(len(batches)).tolist():
            yield self._padded(pieces[batches[number]])

    def _pieces(self, chance: np.random.Generator) -> Rows:
        """Start and end of each: the first piece of a long history is cut at random."""
        starts, ends = self._found.starts[:-1], self._found.starts[1:]
        pieces = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            first = start
            if end - start > self._length + 1:
                first = start - int(chance.integers(0, self._length))
            for at in range(first, end - 1, self._length):  # the last item of a piece begins the next one
                low, high = max(at, start), min(at + self._length + 1, end)
                if high - low > 1:
                    pieces.append((low, high))
        return np.array(pieces, np.int64).reshape(-1, 2)

    def _padded(self, pieces: Rows) -> tuple[Rows, Floats, NDArray[np.bool_]]:
        lengths = pieces[:, 1] - pieces[:, 0]
        at = pieces[:, :1] + np.arange(int(lengths.max()))
        there = at < pieces[:, 1:]
        at = np.where(there, at, 0)
        rows = np.where(there, self._found.rows[at], -1)
        return rows, np.where(there, self._found.amounts[at], 0).astype(np.float32), there & self._new[at]


def _first_time(found: Sequences) -> NDArray[np.bool_]:
    """Whether a history holds the item for the first time: only these are to be foreseen."""
    whose = np.repeat(np.arange(len(found)), np.diff(found.starts))
    _, first = np.unique(np.stack([whose, found.rows], 1), axis=0, return_index=True)
    new = np.zeros(len(found.rows), np.bool_)
    new[first] = True
    return new
