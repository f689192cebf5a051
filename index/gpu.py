"""Exact search on a GPU: float16 vectors in its memory, and what it cannot do done beside it.

A GPU index of FAISS neither removes nor filters, and gives at most 2,048 places. So a removed vector stays
where it is as a dead place until there are many, and what is filtered narrowly is compared with here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from index.answer import answer, best_first
from index.vectors import NO_KEY, Keys, check_same_space, keyed, unit
from models.vectors import Vectors

MOST_PLACES: Final = 2_048  # of one search on a GPU
MOST_DEAD: Final = 512  # places, before all is copied anew
_BLOCK: Final = 65_536  # vectors compared with at a time beside the GPU

Save = Callable[[Path, Keys, Vectors], None]


class GpuFlat:
    """All vectors on one GPU, and once more in this process's memory as float16.

    Args:
        space_id: of the vectors.
        dim: of the vectors.
        faiss: the module, which only `index.ann` imports; built with a GPU in mind.
        save: writes keys and vectors to a folder, as an index that needs no GPU.
    """

    kind: Final = "gpu"
    needs_rebuild: Final = False

    def __init__(self, space_id: str, dim: int, faiss: Any, save: Save) -> None:
        self.space_id, self.dim, self._save = space_id, dim, save
        self._resources = faiss.StandardGpuResources()  # must live as long as the index
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        self._engine = faiss.GpuIndexFlatIP(self._resources, dim, config)
        self._keys: Keys = np.empty(0, np.int64)  # by place on the GPU; NO_KEY where it is dead
        self._vectors: NDArray[np.float16] = np.empty((0, dim), np.float16)
        self._dead = 0
        self._one = Lock()  # a GPU index answers one thread at a time

    def __len__(self) -> int:
        return len(self._keys) - self._dead

    def keys(self) -> Keys:
        return np.sort(self._keys[self._keys != NO_KEY])

    def add(self, keys: Keys, vectors: Vectors) -> None:
        new_keys, new_vectors = keyed(keys, vectors, self.dim)
        self.remove(new_keys)
        self._keys = np.concatenate([self._keys, new_keys])
        self._vectors = np.concatenate([self._vectors, new_vectors.astype(np.float16)])
        if len(new_keys):
            self._engine.add(new_vectors)

    def remove(self, keys: Keys) -> None:
        gone = np.isin(self._keys, keys) & (self._keys != NO_KEY)
        self._keys[gone] = NO_KEY
        self._dead += int(np.count_nonzero(gone))
        if self._dead > MOST_DEAD:
            lives = self._keys != NO_KEY
            self._keys, self._vectors, self._dead = self._keys[lives], self._vectors[lives], 0
            self._engine.reset()
            for start in range(0, len(self._keys), _BLOCK):
                self._engine.add(self._vectors[start : start + _BLOCK].astype(np.float32))

    def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
        return answer(self._nearest, unit(queries, self.dim), k, len(self), allowed)

    def check_space(self, space_id: str) -> None:
        check_same_space(self.space_id, space_id)

    def save(self, folder: Path) -> None:
        lives = self._keys != NO_KEY
        self._save(folder, self._keys[lives], self._vectors[lives].astype(np.float32))

    def _nearest(self, queries: Vectors, k: int, allowed: Keys | None) -> tuple[Keys, Vectors]:
        """Scores are computed anew from one float16 vector alone, so equal vectors have equal scores."""
        places = k + self._dead
        if allowed is not None or places > MOST_PLACES:
            return self._beside(queries, k, allowed)
        with self._one:
            _, found = self._engine.search(queries, min(places, len(self._keys)))
        keys = np.where(found >= 0, self._keys[found], NO_KEY)
        scores = np.einsum("qd,qkd->qk", queries, self._vectors[found].astype(np.float32))
        return best_first(keys, np.asarray(scores, np.float32), k)

    def _beside(self, queries: Vectors, k: int, allowed: Keys | None) -> tuple[Keys, Vectors]:
        """The same in this process's memory, block by block."""
        lives = self._keys != NO_KEY if allowed is None else np.isin(self._keys, allowed)
        places = np.flatnonzero(lives)
        keys, scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        for start in range(0, len(places), _BLOCK):
            some = places[start : start + _BLOCK]
            products = np.einsum("qd,nd->qn", queries, self._vectors[some].astype(np.float32))
            more = np.broadcast_to(self._keys[some], products.shape)
            both = np.concatenate([keys, more], 1), np.concatenate([scores, products], 1)
            keys, scores = best_first(*both, k)
        return best_first(keys, scores, k)
