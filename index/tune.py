"""How many lists an index must look into to find enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np

from index.audit import last_places, recalls
from index.exact import Exact
from index.vectors import Keys
from models.vectors import Vectors

PLACES: Final = 100  # recall is wanted of this many
_QUERIES: Final = 200
_NOISE: Final = 0.5  # length of what is added to an item's vector to make a query of it
_SEED: Final = 7


class Probed(Protocol):
    """An index in lists, of which a query looks into `probes`."""

    probes: int

    @property
    def lists(self) -> int: ...

    def probe(self, queries: Vectors, k: int, probes: int) -> tuple[Keys, Vectors]: ...


def tune(index: Probed, exact: Exact, queries: Vectors, wanted: float) -> float:
    """Look into as few lists as give the wanted mean recall at 100 places, or else into all.

    Returns:
        The recall that is reached.
    """
    good_enough = last_places(exact, queries, PLACES)
    reached = 0.0
    for probes in _ladder(index.lists):
        index.probes = probes
        found, _ = index.probe(queries, PLACES, probes)
        reached = float(recalls(found, exact, queries, good_enough).mean())
        if reached >= wanted:
            break
    return reached


def noisy_sample(vectors: Vectors) -> Vectors:
    """Queries for want of real ones: items, each with noise of half its length; always the same."""
    chance = np.random.default_rng(_SEED)
    rows = chance.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    noise = chance.standard_normal((len(rows), vectors.shape[1])) * _NOISE / np.sqrt(vectors.shape[1])
    queries = vectors[rows] + noise
    return np.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True), np.float32)


def _ladder(lists: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12 … and all."""
    probes = 1
    while probes < lists:
        yield probes
        if probes >= 2 and probes + probes // 2 < lists:
            yield probes + probes // 2
        probes *= 2
    yield lists
