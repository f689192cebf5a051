"""The order in the end: by score alone, or traded against being alike."""

from __future__ import annotations

import numpy as np

from ranker.arrays import Floats, Rows
from ranker.live import Live
from ranker.space import Space

POOL_FACTOR = 10  # diversity chooses among this many times n


def order(scores: Floats, rows: Rows) -> Rows:
    """Places best first; equal scores by item row."""
    return np.lexsort((rows, -scores))


def diversify(
    places: Rows, rows: Rows, scores: Floats, n: int, diversity: float, live: Live, space: Space | None
) -> Rows:
    """The first n places by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Likeness of two items is the cosine of their texts, and 1 within a leaf category where
    there are no vectors. `diversity` 0 changes nothing, 1 looks at likeness alone after the first.
    """
    pool = places[: n * POOL_FACTOR]
    if diversity <= 0 or len(pool) < 2:
        return places
    value = scores[pool].astype(np.float64)
    value = (value - value.min()) / max(float(np.ptp(value)), 1e-9)
    alike = _likeness(rows[pool], live, space)
    chosen = [0]
    nearest = alike[0].copy()
    while len(chosen) < min(n, len(pool)):
        gain = (1 - diversity) * value - diversity * nearest
        gain[chosen] = -np.inf
        pick = int(np.argmax(gain))
        chosen.append(pick)
        nearest = np.maximum(nearest, alike[pick])
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    return np.concatenate([pool[chosen], pool[rest], places[len(pool) :]])


def _likeness(rows: Rows, live: Live, space: Space | None) -> Floats:
    leaf = live.leaf[rows]
    same: Floats = ((leaf[:, None] == leaf) & (leaf >= 0)).astype(np.float32)
    if space is None:
        return same
    vectors, has = space.of(rows)
    both = has[:, None] & has
    return np.where(both, np.maximum(vectors @ vectors.T, 0.0), same).astype(np.float32)
