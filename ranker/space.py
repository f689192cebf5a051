"""Item vectors of one space, by item row, with the index over them.

A space is an encoder with a text template; its id is on everything made in it, and vectors of
two spaces never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.errors import SpaceMixed
from core.settings import IndexSettings
from index.ann import build
from index.exact import Index
from ranker.arrays import Floats, Rows, grown

_FILLED_AT_ONCE: Final = 4_096  # vectors: a millisecond


class Space:
    """Vectors by row (float16) and the index of those that are sold; grows as items arrive."""

    def __init__(self, space_id: str, dim: int, settings: IndexSettings) -> None:
        self.space_id, self.dim, self._settings = space_id, dim, settings
        self.vectors = np.zeros((0, dim), np.float16)
        self.has = np.zeros(0, bool)
        self._found = np.zeros(0, bool)  # by the index: has a vector, and is sold
        empty = np.zeros((0, dim), np.float32)
        self.index: Index = build(settings, space_id, np.zeros(0, np.int64), empty)
        self.queries: NDArray[np.float16] | None = None  # of shoppers, `(n, dim)`: what the index is set by
        self._pending: list[tuple[Sequence[str], Floats]] = []
        self._removed: set[str] = set()
        self._lock = Lock()

    def offer(self, space_id: str, items: Sequence[str], vectors: Floats) -> None:
        """Note new or changed vectors `(items, dim)`, from any thread.

        Raises:
            SpaceMixed: the vectors are of another space.
        """
        if space_id != self.space_id:
            raise SpaceMixed(f"vectors of space {space_id} offered to space {self.space_id}")
        with self._lock:
            self._pending.append((items, vectors))
            self._removed.difference_update(items)  # sold again

    def remove(self, items: Sequence[str]) -> None:
        """Note that items are no longer sold: they are not found any more."""
        with self._lock:
            self._removed.update(items)

    def refresh(self, row_of: Callable[[str], int]) -> None:
        """Bring vectors and index up to what was offered; by the thread that answers requests."""
        if not self._pending and not self._removed:
            return
        with self._lock:
            pending, self._pending = self._pending, []
            removed, self._removed = self._removed, set()
        if pending:
            newest = {item: vector for items, vectors in pending for item, vector in zip(items, vectors, strict=True)}
            self._put(np.array([row_of(item) for item in newest]), np.stack(list(newest.values())))
        if removed:
            self._remove(np.unique([row_of(item) for item in removed]))

    def fill(self, rows: Rows, vectors: NDArray[np.floating[Any]], places: Rows) -> None:
        """Take the vectors of many items and build the index, in a space that nothing is answered from yet.

        `vectors[places[n]]` is that of `rows[n]`. In pieces, as others want to compute meanwhile. What was offered
        is taken in by the next `refresh`.
        """
        if not len(rows):
            return
        self._reserve(int(rows.max()))
        for start in range(0, len(rows), _FILLED_AT_ONCE):
            some = slice(start, start + _FILLED_AT_ONCE)
            self.vectors[rows[some]] = vectors[places[some]]
        self.has[rows], self._found[rows] = True, True
        keys = np.flatnonzero(self._found)
        self._build(keys)

    def _reserve(self, row: int) -> None:
        if row >= len(self.has):
            capacity = max(1024, 2 * row)
            self.vectors, self.has = grown(self.vectors, capacity), grown(self.has, capacity)
            self._found = grown(self._found, capacity)

    def _put(self, rows: Rows, vectors: Floats) -> None:
        self._reserve(int(rows.max()))
        self.vectors[rows], self.has[rows], self._found[rows] = vectors.astype(np.float16), True, True
        if self._outgrown():
            keys = np.flatnonzero(self._found)
            self._build(keys)
        else:
            self.index.add(rows, vectors)

    def _remove(self, rows: Rows) -> None:
        """Out of the index alone: who had to do with an item has a taste of it when it is sold no more."""
        self._found[rows[rows < len(self._found)]] = False
        self.index.remove(rows)

    def _build(self, keys: Rows) -> None:
        queries = None if self.queries is None else unit_rows(self.queries)
        self.index = build(self._settings, self.space_id, keys, self.vectors[keys].astype(np.float32), queries)

    def _outgrown(self) -> bool:
        """Whether the index was built for far fewer vectors than it is to hold now."""
        most = self._settings.flat_until
        return int(np.count_nonzero(self._found)) > most and (self.index.needs_rebuild or len(self.index) <= most)

    def of(self, rows: Rows) -> tuple[Floats, NDArray[np.bool_]]:
        """Vectors `(rows, dim)`, zero where an item has none yet, and which have one."""
        if not len(rows) or rows.max() < len(self.has):
            has = self.has[rows]
            return self.vectors[rows].astype(np.float32), has  # rows without a vector are zero
        inside = rows < len(self.has)
        has = np.zeros(len(rows), bool)
        has[inside] = self.has[rows[inside]]
        vectors = np.zeros((len(rows), self.dim), np.float32)
        vectors[has] = self.vectors[rows[has]]
        return vectors, has

    def search(self, vector: Floats, count: int, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """The nearest items of one vector, best first."""
        keys, scores = self.index.search(vector[None, :], count, allowed=allowed)
        found = keys[0] >= 0
        return keys[0][found], scores[0][found]


def unit_rows(vectors: NDArray[np.floating[Any]]) -> Floats:
    """The same in float32 and of unit length again, which float16 is not quite; without rows of no direction."""
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    real = lengths[:, 0] > 0.5
    return np.asarray(wide[real] / lengths[real], np.float32)
