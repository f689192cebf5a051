"""What the words of a candidate's title say of it: columns of the ranker's features.

A vector of a whole title blurs what shoppers go by: a pattern, a material, a person. Words tell it. How much more often
each occurs in what the shopper took than in what everybody took is their pointwise mutual information (Church and Hanks
1990), shrunk by a prior of usual words; how alike titles are by their rare words is the cosine of tf-idf (Salton and
Buckley 1988).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.ids import DAY_MS
from ranker.arrays import Floats, Rows
from ranker.context import Context
from ranker.live import Live
from ranker.words import BUCKETS, STRENGTH, Buckets, Counted

PRIOR: Final = 10.0  # usual words that count as taken too
FADE_MS: Final = 60.0 * DAY_MS  # half-life of what was taken
NEWEST: Final = 80  # items that candidates are compared with
ALIKE: Final = 0.4  # cosine from which one may be a variant of the other
NAMES: Final = (
    "word_lift", "word_lift_rare", "word_lift_max", "word_lift_min", "word_lift_visit", "word_pair_lift", "word_taste",
    "variant_max", "variant_visit", "variant_sum", "variant_since",
)  # fmt: skip


class _Taken(NamedTuple):
    """What a shopper took, newest first: rows, how much each counts now, when, and whether at the last visit."""

    rows: Rows
    amounts: NDArray[np.float64]
    last: NDArray[np.float64]
    visit: NDArray[np.bool_]

    def newest(self) -> _Taken:
        return _Taken(self.rows[:NEWEST], self.amounts[:NEWEST], self.last[:NEWEST], self.visit[:NEWEST])


class _Said(NamedTuple):
    """Words of items: buckets `(rows, words)`, which of them tell something, and their rarity, 0 elsewhere."""

    buckets: Buckets
    known: NDArray[np.bool_]
    rare: Floats

    def newest(self) -> _Said:
        return _Said(self.buckets[:NEWEST], self.known[:NEWEST], self.rare[:NEWEST])


def columns(ctx: Context, rows: Rows, live: Live) -> list[NDArray[Any]]:
    """All of `NAMES`, by candidate."""
    taken, words = _taken(ctx, live), live.words
    if not len(taken.rows) or not len(rows) or not words.single.items:
        return [np.full(len(rows), np.nan, np.float32)] * len(NAMES)
    said, theirs = _said(words.single, rows), _said(words.single, taken.rows)
    counts = _counts(theirs, taken.amounts)
    lift = _lift(words.single, said, counts)
    visit = _lift(words.single, said, _counts(theirs, np.where(taken.visit, taken.amounts, 0.0)))
    pairs = _said(words.pairs, rows)
    pair = _lift(words.pairs, pairs, _counts(_said(words.pairs, taken.rows), taken.amounts))
    return [
        _mean(lift, said.known),
        _mean(lift * said.rare, said.known, said.rare),
        _most(lift, said.known),
        -_most(-lift, said.known),
        _mean(visit, said.known),
        _mean(pair, pairs.known),
        _taste(words.single, said, theirs, counts),
        *_variants(rows, said, theirs.newest(), taken.newest(), ctx.request.ts),
    ]


def _taken(ctx: Context, live: Live) -> _Taken:
    acts = np.stack([ctx.column(f"{name}s") for name in STRENGTH])
    strength = np.array(list(STRENGTH.values())) @ acts
    last, now = ctx.column("last"), ctx.request.ts
    mine = np.flatnonzero((strength > 0) & (ctx.column("opinion") >= 0))
    mine = mine[np.lexsort((ctx.own[mine], -last[mine]))]
    amounts = np.log1p(strength[mine]) * np.exp2(-np.maximum(now - last[mine], 0) / FADE_MS)
    session = ctx.profile.sessions[-1] if ctx.profile.sessions else None
    visit = np.isin(ctx.own[mine], live.known_rows(session.items)) if session else np.zeros(len(mine), np.bool_)
    return _Taken(ctx.own[mine], amounts, last[mine], visit)


def _said(counted: Counted, rows: Rows) -> _Said:
    buckets, known = counted.telling(rows)
    return _Said(buckets, known, np.where(known, counted.rarity(buckets), 0.0).astype(np.float32))


def _counts(theirs: _Said, amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each word was taken, by bucket."""
    each = np.broadcast_to(amounts[:, None], theirs.buckets.shape)
    return np.bincount(theirs.buckets[theirs.known], each[theirs.known], BUCKETS).astype(np.float64, copy=False)


def _lift(counted: Counted, said: _Said, counts: NDArray[np.float64]) -> Floats:
    """Log of the share of each word in what the shopper took over its usual share."""
    usual = counted.usual(said.buckets)
    lift: Floats = np.log((counts[said.buckets] + PRIOR * usual) / ((counts.sum() + PRIOR) * usual)).astype(np.float32)
    return lift


def _mean(values: Floats, known: NDArray[np.bool_], weights: Floats | None = None) -> NDArray[Any]:
    sums = (values * known).sum(1)
    total = known.sum(1) if weights is None else (weights * known).sum(1)
    return np.where(total > 0, sums / np.maximum(total, 1e-9), np.nan)


def _most(values: Floats, known: NDArray[np.bool_]) -> NDArray[Any]:
    highest = np.where(known, values, -np.inf).max(1)
    return np.where(np.isfinite(highest), highest, np.nan)


def _taste(counted: Counted, said: _Said, theirs: _Said, counts: NDArray[np.float64]) -> NDArray[Any]:
    """Cosine of the title with all that was taken, the rarer a word the heavier."""
    used = np.unique(theirs.buckets[theirs.known])
    amounts = np.zeros(BUCKETS, np.float32)
    amounts[used] = np.log1p(counts[used]) * counted.rarity(used)
    length = float(np.linalg.norm(amounts[used]))
    return np.asarray((_unit(said) * amounts[said.buckets]).sum(1) / length) if length else np.zeros(len(said.rare))


def _unit(said: _Said) -> Floats:
    """Weights of the words of each title, of unit length."""
    length = np.linalg.norm(said.rare, axis=1, keepdims=True)
    weights: Floats = said.rare / np.maximum(length, 1e-9)
    return weights


def _variants(rows: Rows, said: _Said, theirs: _Said, taken: _Taken, now: int) -> list[NDArray[Any]]:
    """How alike the title is to one taken: the nearest, the nearest of the last visit, all of them, and when."""
    alike = _alike(said, theirs)
    alike[rows[:, None] == taken.rows] = 0.0  # that it was taken itself others tell
    nearest = alike.argmax(1)
    highest = alike[np.arange(len(rows)), nearest]
    age = np.maximum(now - taken.last, 0)
    near = np.where(alike > ALIKE, alike, 0.0) @ np.exp2(-age / FADE_MS)
    since = np.where(highest > ALIKE, np.log1p(age[nearest] / 1000.0), np.nan)
    return [highest, np.where(taken.visit, alike, 0.0).max(1), near, since]


def _alike(said: _Said, theirs: _Said) -> Floats:
    """Cosines of titles, `(said, theirs)`, over the words that `theirs` hold."""
    held, place = np.unique(theirs.buckets[theirs.known], return_inverse=True)
    column = np.full(BUCKETS, -1)
    column[held] = np.arange(len(held))
    other = np.zeros((len(theirs.known), len(held)), np.float32)
    other[np.nonzero(theirs.known)[0], place] = _unit(theirs)[theirs.known]
    mine = np.zeros((len(said.known), len(held)), np.float32)
    shared = said.known & (column[said.buckets] >= 0)
    mine[np.nonzero(shared)[0], column[said.buckets[shared]]] = _unit(said)[shared]
    alike: Floats = mine @ other.T
    return alike
