"""Search by comparing with everything: the protocol of all indexes, and the judge of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol
from zipfile import BadZipFile

import numpy as np

from core.errors import Corrupt
from index.answer import best_first, check_k
from index.stored import Header, check_stored, read_header, write_header
from index.vectors import NO_KEY, Keys, check_same_space, keyed, unit
from models.vectors import Vectors

_QUERIES_AT_ONCE: Final = 64
_NEARLY_TIED: Final = 1e-5  # more than the rounding of a matrix product, whose order of summing varies
_FILE: Final = "exact.npz"


class Index(Protocol):
    """Nearest vectors by inner product; unit vectors, so by cosine.

    `check_space` stands before whatever brings vectors in: the index cannot tell by looking
    at them which encoder they are from. Several threads may search at a time, but nobody while
    one adds or removes.
    """

    @property
    def space_id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def needs_rebuild(self) -> bool:
        """Whether it has outgrown what it was built for: it still answers, but less well or slower."""
        ...

    def __len__(self) -> int: ...

    def keys(self) -> Keys:
        """Every key that is stored, ascending; one that is stored twice stands there twice."""
        ...

    def add(self, keys: Keys, vectors: Vectors) -> None:
        """Store vectors; a key that is there already gets the new one. Of a key given twice the last counts.

        Raises:
            Broken: shapes that do not belong together, vectors not of unit length, keys below 0.
        """
        ...

    def remove(self, keys: Keys) -> None:
        """Forget keys; those that are not there are none of its business."""
        ...

    def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
        """The k nearest keys of each query, best first, equal scores by smaller key.

        Args:
            queries: (q, dim), of unit length and of this index's space.
            k: places an answer; those left over hold key -1 and score -inf.
            allowed: only these keys may be answered; None allows all.

        Returns:
            Keys and inner products, both (q, k).

        Raises:
            BadInput: k is below 1.
            Broken: queries of another shape, or not of unit length.
        """
        ...

    def check_space(self, space_id: str) -> None:
        """Refuse another space.

        Raises:
            SpaceMixed: `space_id` is not the one of the stored vectors.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write to a folder, which `index.ann.load` reads."""
        ...


class Exact:
    """Brute force over one matrix; keys are kept ascending."""

    kind: Final = "exact"
    needs_rebuild: Final = False

    def __init__(self, space_id: str, dim: int) -> None:
        self.space_id = space_id
        self.dim = dim
        self._keys: Keys = np.empty(0, np.int64)
        self._vectors: Vectors = np.empty((0, dim), np.float32)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Keys:
        return self._keys.copy()

    def vectors(self, keys: Keys) -> Vectors:
        """Rows of the stored vectors; NaN where there is no such key."""
        if not len(self):
            return np.full((*keys.shape, self.dim), np.nan, np.float32)
        at = np.searchsorted(self._keys, keys).clip(max=len(self) - 1)
        known = (self._keys[at] == keys)[..., None]
        return np.where(known, self._vectors[at], np.float32(np.nan))

    def add(self, keys: Keys, vectors: Vectors) -> None:
        new_keys, new_vectors = keyed(keys, vectors, self.dim)
        self.remove(new_keys)
        at = np.searchsorted(self._keys, new_keys)
        self._keys = np.insert(self._keys, at, new_keys)
        self._vectors = np.insert(self._vectors, at, new_vectors, axis=0)

    def remove(self, keys: Keys) -> None:
        stays = ~np.isin(self._keys, keys)
        if not stays.all():
            self._keys, self._vectors = self._keys[stays], self._vectors[stays]

    def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
        check_k(k)
        checked = unit(queries, self.dim)
        rows = np.arange(len(self)) if allowed is None else np.flatnonzero(np.isin(self._keys, allowed))
        keys = np.full((len(checked), k), NO_KEY, np.int64)
        scores = np.full((len(checked), k), -np.inf, np.float32)
        if rows.size:
            everything = self._vectors if allowed is None else self._vectors[rows]
            for start in range(0, len(checked), _QUERIES_AT_ONCE):
                for n, products in enumerate(checked[start : start + _QUERIES_AT_ONCE] @ everything.T, start):
                    keys[n], scores[n] = self._best(checked[n], rows, products, k)
        return keys, scores

    def check_space(self, space_id: str) -> None:
        check_same_space(self.space_id, space_id)

    def save(self, folder: Path) -> None:
        write_header(folder, Header(kind=self.kind, space_id=self.space_id, dim=self.dim, count=len(self)))
        np.savez(folder / _FILE, keys=self._keys, vectors=self._vectors)

    @classmethod
    def load(cls, folder: Path) -> Exact:
        """Read what `save` wrote.

        Raises:
            Missing: there is no index.
            Corrupt: it cannot be read, or is not what its header says.
        """
        header = read_header(folder)
        index = cls(header.space_id, header.dim)
        try:
            with np.load(folder / _FILE, allow_pickle=False) as file:
                index._keys, index._vectors = file["keys"], file["vectors"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise Corrupt(f"{folder / _FILE} cannot be read: {error}") from None
        check_stored(header, index._vectors.shape)
        return index

    def _best(self, query: Vectors, rows: Keys, products: Vectors, k: int) -> tuple[Keys, Vectors]:
        """Cut with room for ties, then score again in an order of summing that is every row's own."""
        if len(products) > k:
            worst = -np.partition(-products, k - 1)[k - 1]
            rows = rows[products >= worst - _NEARLY_TIED]
        scores = np.einsum("nd,d->n", self._vectors[rows], query)
        keys, scores = best_first(self._keys[rows][None], scores[None], k)
        return keys[0], scores[0]
