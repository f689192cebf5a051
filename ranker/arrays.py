"""Small operations on arrays of item rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


class Vectored(NamedTuple):
    """Vectors `(rows, dim)` of some item rows, zero where an item has none, and which have one."""

    vectors: Floats
    has: NDArray[np.bool_]


def ranks(table: NDArray[Any]) -> Floats:
    """Places in each column of `(rows, columns)` from 0 on, highest first; equal ones share the mean of theirs."""
    order = np.argsort(-table, axis=0, kind="stable")
    ordered = np.take_along_axis(table, order, 0)
    count = np.arange(len(table))[:, None]
    begins = np.ones(table.shape, bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(begins, count, 0), 0)
    ends = np.ones(table.shape, bool)
    ends[:-1] = begins[1:]
    last = np.minimum.accumulate(np.where(ends, count, len(table))[::-1], 0)[::-1]
    found = np.empty(table.shape, np.float32)
    np.put_along_axis(found, order, ((first + last) / 2.0).astype(np.float32), 0)
    return found


def sum_by_key(keys: NDArray[np.integer[Any]], values: NDArray[np.floating[Any]], scratch: Rows) -> tuple[Rows, Floats]:
    """Distinct keys and the sum of each one's values. `scratch` is overwritten at the keys."""
    keys = keys.astype(np.int64, copy=False)
    order = np.arange(len(keys))
    scratch[keys] = order
    distinct = keys[scratch[keys] == order]
    scratch[distinct] = order[: len(distinct)]
    sums = np.bincount(scratch[keys], values, len(distinct))
    return distinct, sums.astype(np.float32)


def best(rows: Rows, scores: NDArray[np.floating[Any]] | NDArray[np.int64], count: int) -> Rows:
    """The rows of the highest scores, best first; equal scores by row, so that order is no accident."""
    if count <= 0:
        return rows[:0]
    if len(rows) > count:
        cut = np.argpartition(-scores, count - 1)[:count]
        # all that tie with the last one compete by row
        keep = np.flatnonzero(scores >= scores[cut].min())
        rows, scores = rows[keep], scores[keep]
    return rows[np.lexsort((rows, -scores))[:count]]


class Spots:
    """Where an item row stands among the candidates. `scratch` is overwritten at the rows, and must stay so."""

    def __init__(self, rows: Rows, scratch: Rows) -> None:
        self.rows, self.scratch = rows, scratch
        scratch[rows] = np.arange(len(rows))

    def spread(self, rows: Rows, values: NDArray[Any], absent: float = np.nan) -> Floats:
        """Values given by item row, as a column over the candidates."""
        column = np.full((len(self.rows), *values.shape[1:]), absent, np.float32)
        if len(rows) and len(self.rows):
            place = np.minimum(self.scratch[rows], len(self.rows) - 1)
            mine = self.rows[place] == rows
            column[place[mine]] = values[mine]
        return column


def grown(array: NDArray[Any], capacity: int, fill: float = 0) -> NDArray[Any]:
    """The array with room for `capacity` rows; the new ones hold `fill`."""
    wider = np.full((capacity, *array.shape[1:]), fill, array.dtype)
    wider[: len(array)] = array
    return wider
