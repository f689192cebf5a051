"""How the features of served lists look when a ranker is trained, kept with its bundle, and how far they moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Decision
from core.errors import BadInput
from core.ids import DAY_MS
from core.settings import Settings
from jobs.drift import BINS, edges, shares
from jobs.recent import recent
from ranker import features
from ranker.arrays import Floats
from streams.messages import messages

FILE: Final = "served.npz"
LISTS: Final = 300  # newest ones that are looked at
FEWEST: Final = 100  # of them, below which nothing is told
MANY: Final = 0.1  # of the features: when so many have moved, the shoppers or the shop are others


def save(folder: Path, lists: Sequence[Floats]) -> None:
    """Keep how the rows of these lists are spread, beside the ranker; nothing of too few."""
    if len(lists) < FEWEST:
        return
    rows = np.concatenate(lists)
    at = [edges(rows[:, place]) for place in range(rows.shape[1])]
    parted = np.array([np.pad(one, (0, BINS - 1 - len(one)), constant_values=np.nan) for one in at])
    spread = [shares(rows[:, place], one) for place, one in enumerate(at)]
    table = np.array([np.pad(one, (0, BINS + 1 - len(one)), constant_values=np.nan) for one in spread])
    np.savez(folder / FILE, edges=parted, shares=table)


def shown(decision: Decision) -> Floats:
    """The features of the items that the shopper saw."""
    matrix = np.frombuffer(decision.features, np.float32).reshape(len(decision.pool), -1)
    return matrix[: len(decision.items)]


def newest(settings: Settings, now_ms: int) -> list[Floats]:
    """Features of the newest lists of the last day, of the schema that the settings give."""
    schema, found = features.schema(settings), deque[Floats](maxlen=LISTS)
    for entry in recent(settings, ("decisions",), now_ms - DAY_MS):
        try:
            told = messages(entry)
        except BadInput:
            continue  # dead-lettered when it came
        for one in told:
            if isinstance(one, Decision) and one.schema == schema and one.items and one.pool:
                found.append(shown(one))
    return list(found)


def moved(folder: Path, lists: Sequence[Floats], drift: float) -> int:
    """How many features have an index (PSI) above `drift`, where these are many; else 0.

    Args:
        folder: of the bundle that serves.
        lists: of late.
        drift: 0 for never.
    """
    path = folder / FILE
    if not drift or len(lists) < FEWEST or not path.exists():
        return 0
    with np.load(path) as kept:
        parted, before = kept["edges"], kept["shares"]
    rows = np.concatenate(lists)
    if rows.shape[1] != len(parted):
        return 0
    indices = np.array([_psi(rows[:, place], parted[place], before[place]) for place in range(len(parted))])
    high = int(np.count_nonzero(indices > drift))
    return high if high > MANY * len(indices) else 0


def _psi(column: NDArray[np.float32], at: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    was = before[~np.isnan(before)]
    now = shares(column, at[~np.isnan(at)])
    return float(((now - was) * np.log(now / was)).sum())
