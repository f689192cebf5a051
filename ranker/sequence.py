"""What the last visits alone say of a candidate, the later the more: columns of the ranker's features."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Floats, Rows, Spots, Vectored
from ranker.context import Context
from ranker.live import Live
from ranker.sequels import visits
from ranker.space import Space

FADE: Final = 0.8  # from one visit to the next
NEWEST: Final = 40  # items that are looked at
NAMES: Final = ("ease_lately", "ease_lately_share", "ease_modelled", "text_lately")


def lately(ctx: Context) -> tuple[Rows, Floats]:
    """Rows of the items used last, newest first, and how much each one's visit still counts."""
    acts = ctx.column("views") + ctx.column("clicks") + ctx.column("carts") + ctx.column("buys")
    used = np.flatnonzero((acts > 0) & (ctx.column("opinion") >= 0))
    last = ctx.column("last")[used]
    order = np.argsort(-last, kind="stable")[:NEWEST]
    if not len(order):
        return ctx.own[:0], np.zeros(0, np.float32)
    ago = visits(-last[order])
    return ctx.own[used[order]], np.power(FADE, ago).astype(np.float32)


def columns(ctx: Context, spot: Spots, live: Live, space: Space | None, texts: Vectored | None) -> list[NDArray[Any]]:
    """EASE from the last visits, that over its highest, whether EASE knows the item, text like the last visits'."""
    absent = np.full(len(spot.rows), np.nan, np.float32)
    rows, weights = lately(ctx)
    if not len(rows) or not len(spot.rows):
        return [absent] * len(NAMES)
    text = absent
    if space is not None and texts is not None:
        vectors, has = texts
        text = np.where(has, vectors @ (weights @ space.of(rows)[0] / weights.sum()), np.nan)
    if live.ease is None:
        return [absent, absent, absent, text]
    found, sums = _summed(*live.ease.follow(rows, weights))
    score = spot.spread(found, sums, 0.0)
    top = float(sums.max(initial=0.0))
    return [score, score / top if top > 0 else absent, live.ease.knows(spot.rows).astype(np.float32), text]


def _summed(rows: Rows, values: Floats) -> tuple[Rows, Floats]:
    """Not with the scratch of `live`: the candidates' places stand in it."""
    distinct, place = np.unique(rows, return_inverse=True)
    return distinct, np.bincount(place, values, len(distinct)).astype(np.float32)
