"""From candidates to an answer: best first, ties by smaller key, a fixed number of places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from core.errors import BadInput
from index.vectors import NO_KEY, Keys
from models.vectors import Vectors

Nearest = Callable[[Vectors, int, Keys | None], tuple[Keys, Vectors]]

_QUERIES_AT_ONCE: Final = 64
_SPARE: Final = (16, 1_024)  # places beyond k that are looked at for ties; the second where the first are all tied
_TIED: Final = 1e-6


def answer(
    nearest: Nearest, queries: Vectors, k: int, count: int, allowed: Keys | None,
) -> tuple[Keys, Vectors]:  # fmt: skip
    """Ask in blocks, for some places more than k, so that of equal scores the smaller keys are kept.

    Args:
        nearest: gives keys and scores, both (q, places), in any order, of queries, places and allowed keys.
        queries: (q, dim), checked.
        k: places an answer.
        count: vectors there are.
        allowed: as `index.exact.Index.search`; handed on ascending and each once.

    Raises:
        BadInput: k is below 1.
    """
    check_k(k)
    if allowed is not None:
        allowed = np.unique(np.asarray(allowed, np.int64))
        allowed = allowed[allowed >= 0]
        count = min(count, len(allowed))
    keys = np.full((len(queries), k), NO_KEY, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(queries) if count else 0, _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        for spare in _SPARE:
            places = min(k + spare, count)
            found, products = best_first(*nearest(queries[rows], places, allowed), max(k, places))
            keys[rows], scores[rows] = found[:, :k], products[:, :k]
            if places == count or not _tied_at_edge(products, k):
                break
    return keys, scores


def best_first(keys: Keys, scores: Vectors, k: int) -> tuple[Keys, Vectors]:
    """Order candidates, (q, m) with key -1 for none, and cut or fill up to k places."""
    scores = np.where(keys == NO_KEY, -np.inf, scores)
    if (missing := k - keys.shape[1]) > 0:
        keys = np.pad(keys, ((0, 0), (0, missing)), constant_values=NO_KEY)
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
    order = np.lexsort((keys, -scores), axis=-1)[:, :k]
    return np.take_along_axis(keys, order, 1), np.take_along_axis(scores, order, 1).astype(np.float32)


def check_k(k: int) -> None:
    """Refuse a number of places below 1.

    Raises:
        BadInput: it is.
    """
    if k < 1:
        raise BadInput(f"k must be at least 1, got {k}")


def _tied_at_edge(scores: Vectors, k: int) -> bool:
    """Whether places that were not looked at may be as good as the last one kept."""
    return bool((np.isfinite(scores[:, -1]) & (scores[:, -1] >= scores[:, k - 1] - _TIED)).any())
