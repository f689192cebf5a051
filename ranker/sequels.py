"""What comes after what over the visits of all shoppers, of every item: for those too rare for `ranker.ease`.

Co-visitation across visits: pairs of a history count less the more visits lie between them and less
backwards, and are normalised nearly as the cosine is (Sarwar et al., "Item-Based Collaborative Filtering
Recommendation Algorithms", WWW 2001).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.profile import Memory, Profile
from ranker.arrays import Floats, Rows

NEWEST: Final = 60  # items of a history that are paired
BACKWARDS: Final = 0.5  # what a pair counts in the other direction
IDLE_MS: Final = 1_800_000  # what lies closer together belongs to one visit
FROM: Final = 0.6  # how much of the normalisation is the earlier item's; the cosine has 0.5
_BATCH: Final = 2_000_000  # pairs summed at a time


def visits(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of each use's visit, of ascending times in ms.

    >>> visits(np.array([0.0, 1000.0, 86_400_000.0])).tolist()
    [0, 0, 1]
    """
    return np.concatenate([[0], np.cumsum(np.diff(times) > IDLE_MS)]).astype(np.int64)


def fit(profiles: Iterable[Profile], most: int) -> tuple[tuple[str, ...], NDArray[np.int32], Floats]:
    """Items, and of each the places of its strongest sequels (-1 for none) and their weights, `(items, most)`."""
    place: dict[str, int] = {}
    pairs = _Pairs()
    for p in profiles:
        used = sorted(_used(p.memory), key=lambda one: (one[1], one[0]))[-NEWEST:]
        if len(used) > 1:
            rows = np.array([place.setdefault(item, len(place)) for item, _ in used], np.int64)
            pairs.add(rows, visits(np.array([ts for _, ts in used], np.float64)))
    return tuple(place), *_strongest(*pairs.sums(), len(place), most)


def _used(memory: dict[str, Memory]) -> Sequence[tuple[str, int]]:
    return [(item, m.first) for item, m in memory.items() if m.views or m.clicks or m.carts or m.buys]


class _Pairs:
    """Weights of ordered pairs, added up in batches: a key is first item << 32 | second."""

    def __init__(self) -> None:
        self._keys: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._weights: list[NDArray[np.float64]] = [np.zeros(0, np.float64)]
        self._waiting = 0

    def add(self, rows: Rows, visit: NDArray[np.int64]) -> None:
        gap = visit[None, :] - visit[:, None]
        order = np.sign(np.arange(len(rows))[None, :] - np.arange(len(rows))[:, None])
        weight = np.where(gap > 0, 1.0, np.where(gap < 0, BACKWARDS, (1.0 + BACKWARDS) / 2.0))
        weight /= np.sqrt(np.maximum(np.abs(gap), 1))
        real = order != 0
        self._keys.append(((rows[:, None] << 32) | rows[None, :])[real])
        self._weights.append(weight[real])
        self._waiting += len(self._keys[-1])
        if self._waiting > _BATCH:
            self.sums()

    def sums(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Distinct keys in order, and their weights."""
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        weights = np.bincount(place, np.concatenate(self._weights), len(keys)).astype(np.float64)
        self._keys, self._weights, self._waiting = [keys], [weights], 0
        return keys, weights


def _strongest(
    keys: NDArray[np.int64], weights: NDArray[np.float64], items: int, most: int
) -> tuple[NDArray[np.int32], Floats]:
    first, second = keys >> 32, keys & 0xFFFFFFFF
    from_sum, to_sum = np.bincount(first, weights, items), np.bincount(second, weights, items)
    score = weights / (from_sum[first] ** FROM * to_sum[second] ** (1.0 - FROM))
    ends = np.cumsum(np.bincount(first, minlength=items))
    ties, strengths = np.full((items, most), -1, np.int32), np.zeros((items, most), np.float32)
    for item, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        best = start + np.argsort(-score[start:end], kind="stable")[:most]  # keys are in order: ties by second
        ties[item, : len(best)], strengths[item, : len(best)] = second[best], score[best]
    return ties, strengths
