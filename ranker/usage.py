"""How those who take a candidate take it: in large visits or small ones, and after how long again."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Rows, Spots
from ranker.context import Context
from ranker.live import Live

FEWEST: Final = 3  # repeats before their waits tell anything
NAMES: Final = ("visit_size", "visit_size_for_me", "again_wait", "own_wait")


def columns(ctx: Context, spot: Spots, live: Live) -> list[NDArray[Any]]:
    """All of `NAMES`, by candidate; sizes are log1p of items, waits are log seconds.

    The mean size of the newest visits that hold it, and how far that lies above the shopper's own; the mean wait
    of whoever bought it again, and how far the shopper's own wait lies above it by now.
    """
    sizes = live.sessions.sizes(spot.rows)
    waits = _waits(spot.rows, live)
    last_buy = ctx.column("last_buy")
    since = np.where(last_buy > 0, np.log1p(np.maximum(ctx.request.ts - last_buy, 0) / 1000.0), np.nan)
    return [sizes, sizes - _own_size(ctx, live), waits, spot.spread(ctx.own, since) - waits]


def _own_size(ctx: Context, live: Live) -> float:
    most = live.sessions.settings.width
    visits = [sum(act > 0 for act in one.items.values()) for one in ctx.profile.sessions]
    sizes = [min(one, most) for one in visits if one]
    return float(np.log1p(sizes).mean()) if sizes else float("nan")


def _waits(rows: Rows, live: Live) -> NDArray[Any]:
    again, wait = live.counters.ever(rows, "again"), live.counters.ever(rows, "wait")
    return np.where(again >= FEWEST, wait / np.maximum(again, 1.0), np.nan)
