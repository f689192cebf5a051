"""How far a feature has moved: the population stability index (Siddiqi, "Credit Risk Scorecards", 2006).

Shares of ten bins now and before; .1 is worth a look, .25 is another population.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Floats

BINS: Final = 10
NOTED, MOVED = 0.1, 0.25
SMOOTH: Final = 0.5  # added to each bin's count: an empty one is no proof
ROWS: Final = 10_000  # of each side at most; the index needs no more

Column = NDArray[np.floating[Any]]


def edges(column: Column) -> Column:
    """Where the bins of a column part, at most `BINS - 1` places."""
    known = column[np.isfinite(column)]
    if not len(known):
        return np.zeros(0)
    return np.asarray(np.unique(np.quantile(known, np.arange(1, BINS) / BINS)), np.float64)


def shares(column: Column, at: Column) -> NDArray[np.float64]:
    """The share of each bin, `(len(at) + 2,)`; the last one is of what is unknown."""
    unknown = np.isnan(column)
    counts = np.bincount(np.searchsorted(at, column[~unknown], side="right"), minlength=len(at) + 1)
    smooth = np.append(counts, np.count_nonzero(unknown)) + SMOOTH
    return np.asarray(smooth / smooth.sum(), np.float64)


def psi(before: Column, now: Column) -> float:
    """The index of one column.

    >>> even = np.arange(1000, dtype=np.float64)
    >>> round(psi(even, even[::2]), 3), psi(even, even + 500) > MOVED, psi(even, even * np.nan) > MOVED
    (0.0, True, True)
    """
    at = edges(before)
    was, is_ = shares(before, at), shares(now, at)
    return float(((is_ - was) * np.log(is_ / was)).sum())


def psis(before: Floats, now: Floats) -> NDArray[np.float64]:
    """The index of every column of two blocks `(rows, columns)`, evenly thinned where they are long."""
    before, now = (block[:: max(1, len(block) // ROWS)] for block in (before, now))
    return np.array([psi(before[:, place], now[:, place]) for place in range(before.shape[1])])
