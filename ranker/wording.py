"""What the words of titles say of candidates: columns of the ranker's features.

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
from ranker.words import BUCKETS, Buckets, Counted, Words

PRIOR: Final = 10.0  # usual words that count as taken too
FADE_MS: Final = 60.0 * DAY_MS  # half-life of what was taken
NEWEST: Final = 80  # items that candidates are compared with
ALIKE: Final = 0.4  # cosine from which one may be a variant of the other
NAMES: Final = (
    "word_lift", "word_lift_rare", "word_lift_max", "word_lift_min", "word_lift_visit", "word_pair_lift", "word_taste",
    "variant_max", "variant_visit", "variant_sum", "variant_since",
)  # fmt: skip


class Said(NamedTuple):
    """Words of items: buckets `(rows, words)`, which of them tell something, and their rarity, 0 elsewhere."""

    buckets: Buckets
    known: NDArray[np.bool_]
    rare: Floats

    def of(self, places: slice | NDArray[np.bool_]) -> Said:
        return Said(self.buckets[places], self.known[places], self.rare[places])


class Taken(NamedTuple):
    """How much of each word was taken: distinct buckets, how much of each, and the lift of every bucket.

    The lift is the log of a word's share in what the shopper took over its usual share. Of words that were not taken
    it is the same for all.
    """

    held: NDArray[np.int64]
    amounts: NDArray[np.float64]
    lift: Floats  # (BUCKETS,)


class Taste(NamedTuple):
    """What a shopper took, newest first: rows, how much each counts now, when, whether at the last visit, its words."""

    rows: Rows
    amounts: NDArray[np.float64]
    last: NDArray[np.float64]
    visit: NDArray[np.bool_]
    said: Said
    taken: Taken


def taste(
    own: Rows, strength: NDArray[np.float64], last: NDArray[np.float64], visit: Rows, now: int, words: Words
) -> Taste:
    """What a shopper's memory says of words.

    Args:
        own: rows of the items remembered and not disliked.
        strength: of what was done with each, by `ranker.words.STRENGTH`.
        last: when each was used (ms).
        visit: rows of the last visit.
        now: of the request (ms).
        words: of the catalogue.
    """
    mine = np.flatnonzero(strength > 0)
    mine = mine[np.lexsort((own[mine], -last[mine]))]
    amounts = np.log1p(strength[mine]) * np.exp2(-np.maximum(now - last[mine], 0) / FADE_MS)
    said = _said(words.single, own[mine])
    taken = _taken(words.single, said.buckets, said.known, amounts)
    return Taste(own[mine], amounts, last[mine], np.isin(own[mine], visit), said, taken)


def columns(taste: Taste, rows: Rows, now: int, words: Words) -> list[NDArray[Any]]:
    """All of `NAMES`, by candidate."""
    if not len(taste.rows) or not len(rows) or not words.single.items:
        return [np.full(len(rows), np.nan, np.float32)] * len(NAMES)
    said, (pairs, paired) = _said(words.single, rows), words.pairs.telling(rows)
    titles, lifts, last = _unit(said), taste.taken.lift[said.buckets], taste.said.of(taste.visit)
    visit = _taken(words.single, last.buckets, last.known, taste.amounts[taste.visit])
    pair = _taken(words.pairs, *words.pairs.telling(taste.rows), taste.amounts)
    return [
        _mean(lifts, said.known),
        _mean(lifts * said.rare, said.known, said.rare),
        _most(lifts, said.known),
        -_most(-lifts, said.known),
        _mean(visit.lift[said.buckets], said.known),
        _mean(pair.lift[pairs], paired),
        _taste(words.single, said, titles, taste.taken),
        *_variants(rows, _spread(said, titles, taste.taken.held), taste, now),
    ]


def _said(counted: Counted, rows: Rows) -> Said:
    buckets, known = counted.telling(rows)
    return Said(buckets, known, np.where(known, counted.rarity(buckets), 0.0).astype(np.float32))


def _taken(counted: Counted, buckets: Buckets, known: NDArray[np.bool_], amounts: NDArray[np.float64]) -> Taken:
    each = np.broadcast_to(amounts[:, None], buckets.shape)
    found, place = np.unique(buckets[known], return_inverse=True)
    held, sums = found.astype(np.int64), np.bincount(place, each[known], len(found)).astype(np.float64)
    whole, usual = sums.sum() + PRIOR, counted.usual(held)
    lift = np.full(BUCKETS, np.log(PRIOR / whole), np.float32)
    lift[held] = np.log((sums + PRIOR * usual) / (whole * usual))
    return Taken(held, sums, lift)


def _mean(values: Floats, known: NDArray[np.bool_], weights: Floats | None = None) -> NDArray[Any]:
    sums = (values * known).sum(1)
    total = known.sum(1) if weights is None else (weights * known).sum(1)
    return np.where(total > 0, sums / np.maximum(total, 1e-9), np.nan)


def _most(values: Floats, known: NDArray[np.bool_]) -> NDArray[Any]:
    highest = np.where(known, values, -np.inf).max(1)
    return np.where(np.isfinite(highest), highest, np.nan)


def _taste(counted: Counted, said: Said, titles: Floats, taken: Taken) -> NDArray[Any]:
    """Cosine of the title with all that was taken, the rarer a word the heavier."""
    weights = np.zeros(BUCKETS, np.float32)
    weights[taken.held] = np.log1p(taken.amounts) * counted.rarity(taken.held)
    length = float(np.linalg.norm(weights[taken.held]))
    return np.asarray((titles * weights[said.buckets]).sum(1) / length) if length else np.zeros(len(said.rare))


def _unit(said: Said) -> Floats:
    """Weights of the words of each title, of unit length."""
    length = np.linalg.norm(said.rare, axis=1, keepdims=True)
    weights: Floats = said.rare / np.maximum(length, 1e-9)
    return weights


def _variants(rows: Rows, titles: Floats, taste: Taste, now: int) -> list[NDArray[Any]]:
    """How alike the title is to one taken: the nearest, the nearest of the last visit, all of them, and when.

    Titles are `(rows, held)`, as `_spread` gives them.
    """
    near = slice(NEWEST)
    theirs = taste.said.of(near)
    alike = titles @ _spread(theirs, _unit(theirs), taste.taken.held).T
    alike[rows[:, None] == taste.rows[near]] = 0.0  # that it was taken itself others tell
    nearest = alike.argmax(1)
    highest = alike[np.arange(len(rows)), nearest]
    age = np.maximum(now - taste.last[near], 0)
    faded = np.where(alike > ALIKE, alike, 0.0) @ np.exp2(-age / FADE_MS)
    since = np.where(highest > ALIKE, np.log1p(age[nearest] / 1000.0), np.nan)
    return [highest, np.where(taste.visit[near], alike, 0.0).max(1), faded, since]


def _spread(said: Said, titles: Floats, held: NDArray[np.int64]) -> Floats:
    """Of titles the weights of these words alone, `(titles, held)`."""
    column = np.full(BUCKETS, -1)
    column[held] = np.arange(len(held))
    shared = said.known & (column[said.buckets] >= 0)
    spread = np.zeros((len(said.known), len(held)), np.float32)
    spread[np.nonzero(shared)[0], column[said.buckets[shared]]] = titles[shared]
    return spread
