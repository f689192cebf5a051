"""How a shopper would take to a candidate, by what became of everything that was shown, and by likeness.

Kernel ridge regression, which is the mean of a Gaussian process (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, chapter 2): what is alike is taken up alike, and each thing
shown and left counts as much as each thing taken.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ranker.arrays import Floats, Rows, Vectored
from ranker.context import Context
from ranker.live import Live
from ranker.space import Space

TAKEN: Final = 60  # newest items of either kind that are looked at
LEFT: Final = 90
DOUBT: Final = 3.0  # variance of a single outcome, where the likenesses are mixed
DOUBT_OF_ONE: Final = 1.0  # the same, by one kind of likeness alone
PRIOR: Final = 10.0  # shown items' worth of doubt about how often a shopper or item is taken up
WEIGHTS: Final = {"text": 0.4, "kinds": 0.3, "words": 0.2, "numbers": 0.3}
NAMES: Final = ("affinity", "affinity_beside_rate", *[f"affinity_by_{kind}" for kind in WEIGHTS])


def columns(ctx: Context, rows: Rows, live: Live, space: Space | None, texts: Vectored | None) -> list[NDArray[Any]]:
    """Expected outcome above the shopper's own usual one, and above what the known items usually get.

    By each kind of likeness alone: above what the known items usually get with a shopper as eager.
    """
    known, taken = _outcomes(ctx)
    if taken.all() or not len(rows):  # nothing was left, so nothing tells what is taken from what is not
        return [np.full(len(rows), np.nan, np.float32)] * len(NAMES)
    usual = live.rate("click", "shown")
    own = (taken.sum() + PRIOR * usual) / (len(taken) + PRIOR)
    clicks, shown = live.counters.ever(known, "click"), live.counters.ever(known, "shown")
    # without this shopper's own click: it is what is to be explained
    others = (np.maximum(clicks - taken, 0.0) + PRIOR * usual) / (np.maximum(shown - 1.0, 0.0) + PRIOR)
    eager = others * (taken.sum() + 3.0) / (others.sum() + 3.0)
    alike = _likeness(known, rows, live, space, texts)
    mixed = np.tensordot(np.array(list(WEIGHTS.values()), np.float32), alike, 1)
    return [
        *_expected(mixed[None], np.stack([taken - own, taken - others], 1), DOUBT)[0].T,
        *_expected(alike, (taken - eager)[:, None], DOUBT_OF_ONE)[:, :, 0],
    ]


def _expected(alike: Floats, outcomes: NDArray[Any], doubt: float) -> Floats:
    """Of the candidates, `(kinds, candidates, outcomes)`, by likenesses `(kinds, known, known and candidates)`."""
    count = len(outcomes)
    inner = alike[:, :, :count].astype(np.float64)
    inner[:, range(count), range(count)] += doubt
    weights = np.linalg.solve(inner, np.broadcast_to(outcomes.astype(np.float64), (len(alike), *outcomes.shape)))
    expected: Floats = alike[:, :, count:].transpose(0, 2, 1) @ weights.astype(np.float32)
    return expected


def _outcomes(ctx: Context) -> tuple[Rows, Floats]:
    """Rows of the newest items that were taken up (1) or shown and left (0), and which it was."""
    acts = ctx.column("views") + ctx.column("clicks") + ctx.column("carts") + ctx.column("buys")
    opinion = ctx.column("opinion")
    taken = np.flatnonzero(((acts > 0) | (opinion > 0)) & (opinion >= 0))
    left = np.flatnonzero((opinion < 0) | ((acts == 0) & (opinion == 0) & (ctx.column("shown") > 0)))
    newest = taken[np.argsort(-ctx.column("last")[taken], kind="stable")[:TAKEN]]
    picked = np.concatenate([newest, left[-LEFT:]])
    return ctx.own[picked], np.concatenate([np.ones(len(newest)), np.zeros(len(picked) - len(newest))]).astype(
        np.float32
    )


def _likeness(known: Rows, rows: Rows, live: Live, space: Space | None, texts: Vectored | None) -> Floats:
    """Of the known items to these and the candidates, by each kind of `WEIGHTS`: `(kinds, known, all)`."""
    kinds, words, numbers = live.traits.likeness(len(known), np.concatenate([known, rows]))
    text = np.zeros_like(kinds)
    if space is not None and texts is not None:
        vectors = space.of(known)[0]
        text[:, : len(known)] = vectors @ vectors.T
        text[:, len(known) :] = vectors @ texts.vectors.T
    return np.stack([text, kinds, words, numbers])
