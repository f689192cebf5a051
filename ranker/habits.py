"""What a shopper's past visits and tastes say of a candidate: columns of the ranker's features.

Unknown is NaN. How often the last visits held an item, and how that fades from visit to visit, is
the personal part of TIFU-kNN (Hu et al., "Modeling Personalized Item Frequency Information for
Next-basket Recommendation", SIGIR 2020).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Floats, Rows, Spots
from ranker.context import Context
from ranker.live import Live

LAST: Final = (1, 3, 10)  # visits
FADE: Final = 0.8  # from one visit to the next
HOUR_MS: Final = 3_600_000
VISITED: Final = (*[f"own_of_last_{n}" for n in LAST], "own_visits_faded", "own_visits_ago")
TASTE: Final = ("new_since_visit", "use_for_me", "age_for_me", "price_for_me", "repeats", "hour", "weekday")
NAMES: Final = (*VISITED, *TASTE)


def columns(ctx: Context, spot: Spots, live: Live) -> list[NDArray[Any]]:
    """All of `NAMES`, by candidate."""
    return [*_visited(ctx, spot, live), *_taste(ctx, spot.rows, live)]


def _visited(ctx: Context, spot: Spots, live: Live) -> list[NDArray[Any]]:
    """In which share of the last visits, the faded share of all that are kept, and how many visits ago."""
    visits = [live.known_rows(item for item, act in one.items.items() if act > 0) for one in ctx.profile.sessions[::-1]]
    if not visits:
        return [np.full(len(spot.rows), np.nan, np.float32)] * len(VISITED)
    ago = np.repeat(np.arange(len(visits)), [len(one) for one in visits])
    rows, place = np.unique(np.concatenate(visits), return_inverse=True)
    weights: list[NDArray[Any]] = [(ago < last) / min(last, len(visits)) for last in LAST]
    weights.append(FADE**ago / float(np.sum(FADE ** np.arange(len(visits)))))
    table = np.stack([np.bincount(place, weight, len(rows)) for weight in weights], 1)
    newest = np.full(len(rows), len(visits))
    np.minimum.at(newest, place, ago)
    return [*spot.spread(rows, table, 0.0).T, spot.spread(rows, newest)]


def _taste(ctx: Context, rows: Rows, live: Live) -> list[NDArray[Any]]:
    """The candidate beside what the shopper usually takes, and when it is asked for."""
    p, now, history = ctx.profile, ctx.request.ts, ctx.history
    bought = int(np.count_nonzero(ctx.column("buys")))
    whole = [
        1.0 - bought / p.basket_items if p.basket_items else np.nan,
        now // HOUR_MS % 24,
        (now // (24 * HOUR_MS) + 3) % 7,  # 0 is Monday
    ]
    absent = np.full(len(rows), np.nan, np.float32)
    own = [absent] * 4
    if len(history):
        visited = p.sessions[-1].last if p.sessions else p.last
        own = [
            np.log1p(np.maximum(now - live.since[rows], 0) / HOUR_MS) - np.log1p(max(now - visited, 0) / HOUR_MS),
            *[_beside(values, ctx) for values in _measures(rows, history, live, now)],
        ]
    return [*own, *[np.full(len(rows), value, np.float32) for value in whole]]


def _measures(rows: Rows, history: Rows, live: Live, now: int) -> list[tuple[Floats, Floats]]:
    """Use in the last weeks, age and price, of the candidates and of the history."""
    column = int(np.argmin(np.abs(live.counters.half_lives_ms - 30 * 24 * HOUR_MS)))

    def use(at: Rows) -> Floats:
        counters = live.counters
        return np.log1p(counters.at(at, "buy", now)[:, column] + 0.2 * counters.at(at, "view", now)[:, column])

    def age(at: Rows) -> Floats:
        return np.log1p(np.maximum(now - live.since[at], 0) / HOUR_MS).astype(np.float32)

    return [(of(rows), of(history)) for of in (use, age, lambda at: np.log1p(live.price[at]))]


def _beside(values: tuple[Floats, Floats], ctx: Context) -> NDArray[Any]:
    """How many of the history's own deviations a value lies above its mean."""
    mine, known = values[1], np.isfinite(values[1])
    if not known.any():
        return np.full(len(values[0]), np.nan, np.float32)
    weights = ctx.weights[known] / ctx.weights[known].sum()
    mean = float(weights @ mine[known])
    deviation = float(np.sqrt(weights @ (mine[known] - mean) ** 2))
    return (values[0] - mean) / (deviation + 0.25)
