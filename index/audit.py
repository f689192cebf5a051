"""How much of what exact search finds an index finds too, and whether it holds what it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from index.exact import Exact, Index
from index.vectors import NO_KEY, Keys
from models.vectors import Vectors

_QUERIES_AT_ONCE: Final = 64
_TIED: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """What an audit saw. `mean` and `worst` are shares of the k best, over the queries."""

    k: int
    queries: int
    mean: float
    worst: float
    missing: tuple[int, ...]  # keys that only the exact index holds
    unexpected: tuple[int, ...]  # keys that only the audited one holds
    duplicates: tuple[int, ...]  # keys that it stores, or answers to one query, more than once

    @property
    def sound(self) -> bool:
        """Whether both hold the same keys, each once."""
        return not (self.missing or self.unexpected or self.duplicates)


def audit(index: Index, exact: Exact, queries: Vectors, k: int) -> Recall:
    """Compare an index with exact search over the same vectors.

    Raises:
        SpaceMixed: the two hold vectors of different spaces.
        BadInput: there is no query, or k is below 1.
    """
    index.check_space(exact.space_id)
    if not len(queries):
        raise BadInput("an audit needs at least one query")
    found, _ = index.search(queries, k)
    shares = recalls(found, exact, queries, last_places(exact, queries, k))
    held, wanted = index.keys(), exact.keys()
    return Recall(
        k=k,
        queries=len(queries),
        mean=float(shares.mean()),
        worst=float(shares.min()),
        missing=_numbers(np.setdiff1d(wanted, held)),
        unexpected=_numbers(np.setdiff1d(held, wanted)),
        duplicates=_numbers(np.union1d(_repeated(held), _repeated_in_rows(found))),
    )


def last_places(exact: Exact, queries: Vectors, k: int) -> Vectors:
    """The score that is good enough for the k best of each query, (q,); -inf where everything is."""
    return exact.search(queries, k)[1][:, -1]


def recalls(found: Keys, exact: Exact, queries: Vectors, good_enough: Vectors) -> NDArray[np.float64]:
    """The share of the k best that each row of `found`, (q, k), has got; 1 where there is nothing to find.

    A key counts when its true score is as good as the last place's, so that of items with the
    same text any will do.
    """
    shares = np.ones(len(queries))
    k = min(found.shape[1], len(exact))
    for start in range(0, len(queries) if k else 0, _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        scores = np.einsum("qkd,qd->qk", exact.vectors(found[rows]), queries[rows])
        reached = scores >= good_enough[rows, None] - _TIED  # false for NaN, the score of a key that is not there
        shares[rows] = np.minimum((reached & _first_in_row(found[rows])).sum(1) / k, 1.0)
    return shares


def _first_in_row(keys: Keys) -> NDArray[np.bool_]:
    """Whether a key stands in its row for the first time."""
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, 1)
    first = np.ones(keys.shape, np.bool_)
    np.put_along_axis(first, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], 1)
    return first


def _repeated_in_rows(keys: Keys) -> Keys:
    again: Keys = keys[~_first_in_row(keys) & (keys != NO_KEY)]
    return again


def _repeated(keys: Keys) -> Keys:
    once, times = np.unique(keys, return_counts=True)
    return once[times > 1]


def _numbers(keys: Keys) -> tuple[int, ...]:
    return tuple(int(key) for key in keys)
