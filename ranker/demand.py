"""How the candidates of a list stand to each other in demand, and who takes them: newcomers, or for the first time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Floats, ranks
from ranker.live import SIGNAL, Live

DAY_MS: Final = 86_400_000.0
RANKED: Final = (1.0, 2.0, 7.0, 30.0)  # half-lives in days; the nearest that are kept
KINDS: Final = ("first", "buy", "view")  # bought by somebody for the first time, bought, viewed
_COUNTS: Final = tuple([f"first_{days:g}d" for days in RANKED])
PRIOR: Final = 5.0  # sales' worth of doubt about who buys an item
NAMES: Final = (
    *_COUNTS, "first_share", *[f"{kind}_{days:g}d_rank" for kind in KINDS for days in RANKED],
    "newcomer_7d", "newcomer_30d", "newcomer_rate",
)  # fmt: skip


def columns(counters: Floats, live: Live) -> list[NDArray[Any]]:
    """All of `NAMES`, by candidate: faded first sales, their share, log ranks in the list, sales in first baskets.

    Args:
        counters: of the candidates, decayed to now, `(rows, signals, half-lives)`.
        live: tells the half-lives.
    """
    lives = live.counters.half_lives_ms
    places = [int(np.argmin(np.abs(np.log(lives / (days * DAY_MS))))) for days in RANKED]
    faded = counters[:, :, places]
    buy, again, view = (faded[:, SIGNAL[name]] for name in ("buy", "again", "view"))
    first = np.maximum(buy - again, 0.0)
    ranked = np.concatenate([first, buy, view], 1)
    alike = (ranked == ranked[:1]).all(0)  # says nothing of anybody
    places_in = np.where(alike, np.nan, np.log1p(ranks(ranked)))
    share = (first[:, -1] + 1.0) / (buy[:, -1] + 2.0)
    newcomer = faded[:, SIGNAL["newcomer"], -2:]
    rate = (newcomer[:, -1] + PRIOR * live.rate("newcomer", "buy")) / (buy[:, -1] + PRIOR)
    return [*np.log1p(first).T, share, *places_in.T, *np.log1p(newcomer).T, rate]
