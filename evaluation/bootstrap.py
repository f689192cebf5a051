"""Percentile bootstrap over shoppers (Efron and Tibshirani 1993).

A shopper's queries are not independent of each other, so whole shoppers are drawn. All that is
handed in together meets the same draws; a difference taken within a draw is therefore paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from evaluation.metrics import Floats, Scores

DRAWS: Final = 2_000
SEED: Final = 7
TAILS: Final = (2.5, 97.5)
DECIMALS: Final = 12  # a difference of 1e-17 is none, and must not look like one
BLOCK: Final = 4_000_000  # drawn shoppers held at a time: bounds the memory


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the same figure in every draw; nan in a draw where no query counts for it."""

    point: float
    drawn: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference; both must come from one call of `estimates`."""
        return Estimate(self.point - other.point, self.drawn - other.drawn)

    def interval(self) -> Interval:
        """The figure between the percentiles of its draws, without the noise of summing floats."""
        low, high = np.percentile(self.drawn[~np.isnan(self.drawn)], TAILS)
        return Interval(*(round(float(value), DECIMALS) for value in (self.point, low, high)))


def resampled_sums(shoppers: Sequence[str], columns: Floats, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """Sums of each column over shoppers drawn with replacement.

    Args:
        shoppers: who asked, one a query.
        columns: (queries, columns).
        draws: how many times as many shoppers as there are get drawn.
        seed: of the generator; the same one and the same shoppers give the same draws.

    Returns:
        (draws, columns).
    """
    groups = np.unique(np.asarray(shoppers, dtype=np.str_), return_inverse=True)[1]
    n = int(groups.max()) + 1
    by_shopper = np.stack([np.bincount(groups, column, minlength=n) for column in columns.T], axis=1)
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // n)
    blocks = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        blocks.append(times @ by_shopper)
    return np.concatenate(blocks)


def estimates(
    scores: Mapping[str, Scores], shoppers: Sequence[str], draws: int = DRAWS, seed: int = SEED
) -> dict[str, dict[str, Estimate]]:
    """System → metric → estimate, from the same draws for all."""
    columns = np.concatenate([part for score in scores.values() for part in (score.values, score.weights)], axis=1)
    sums = resampled_sums(shoppers, columns, draws, seed)
    found: dict[str, dict[str, Estimate]] = {}
    start = 0
    for system, score in scores.items():
        middle, end = start + len(score.names), start + 2 * len(score.names)
        values, weights = sums[:, start:middle], sums[:, middle:end]
        ratios = np.divide(values, weights, out=np.full_like(values, np.nan), where=weights > 0)
        found[system] = {m: Estimate(mean, ratios[:, n]) for n, (m, mean) in enumerate(score.means().items())}
        start = end
    return found
