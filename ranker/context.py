"""A shopper at the moment of a request, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.decision import Request
from core.ids import DAY_MS
from core.profile import Profile
from ranker.arrays import Floats, Rows
from ranker.live import Live
from ranker.space import Space
from ranker.user_vector import WEIGHTED_MEAN, UserVector, Wish
from ranker.wording import Taste, taste
from ranker.words import STRENGTH

RECENCY_MS = 30 * DAY_MS  # half-life of an item's weight in a shopper's history
SOURCES = 80  # items of the history that neighbours are looked up for
COLUMNS = (
    "views", "clicks", "carts", "buys", "units", "shown", "first", "last", "first_buy", "last_buy", "opinion", "hidden",
)  # fmt: skip


@dataclass(slots=True)
class Context:
    """Who asks, and what of their past matters.

    `own` are rows of all items remembered, `memory` their `Memory` fields `(items, COLUMNS)`.
    `history` are the items liked so far, strongest and newest first, with positive `weights`;
    items of the request's page come before all.
    """

    request: Request
    profile: Profile
    own: Rows
    memory: NDArray[np.float64]
    history: Rows
    weights: Floats
    distaste: Floats | None  # mean vector of items shown and not clicked, disliked or hidden
    recent: Floats  # vectors of the newest items of the history, (up to 10, dim)
    wish: Wish  # what the bundle's rule makes of the history
    words: Taste  # what the words of the items say

    @property
    def taste(self) -> Floats | None:
        """Unit vector of the history in the text space."""
        return self.wish.taste

    def column(self, name: str) -> NDArray[np.float64]:
        """One field of the memory, by item of `own`."""
        found: NDArray[np.float64] = self.memory[:, COLUMNS.index(name)]
        return found


def understand(
    request: Request, profile: Profile, live: Live, space: Space | None, user: UserVector = WEIGHTED_MEAN
) -> Context:
    """The shopper's arrays for one request; `user` is the rule of what a history asks for."""
    memory = profile.memory
    rows_of = live.rows
    pairs = [(rows_of[item], one) for item, one in memory.items() if item in rows_of]
    own = np.fromiter((row for row, _ in pairs), np.int64, len(pairs))
    table = np.array(
        [
            (
                m.views, m.clicks, m.carts, m.buys, m.units, m.shown,
                m.first, m.last, m.first_buy, m.last_buy, m.opinion, m.hidden,
            )
            for _, m in pairs
        ],
        np.float64,
    ).reshape(len(pairs), len(COLUMNS))  # fmt: skip
    acts = table[:, [COLUMNS.index(f"{name}s") for name in STRENGTH]] @ np.array(list(STRENGTH.values()))
    history, weights = _history(own, table, acts, profile.last)
    page = live.known_rows(dict.fromkeys(request.context_items))
    if len(page):
        keep = ~np.isin(history, page)
        top = max(1.0, float(weights.max(initial=1.0)))
        history = np.concatenate([page, history[keep]])
        weights = np.concatenate([np.full(len(page), 3.0 * top, np.float32), weights[keep]])
    wish, distaste, recent = _tastes(own, table, (history, weights), live, space, user)
    visit = live.known_rows(profile.sessions[-1].items) if profile.sessions else own[:0]
    words = taste(*_used(own, table, acts, page, request.ts), np.concatenate([page, visit]), request.ts, live.words)
    return Context(request, profile, own, table, history[:SOURCES], weights[:SOURCES], distaste, recent, wish, words)


def _used(
    own: Rows, table: NDArray[np.float64], acts: NDArray[np.float64], page: Rows, now: int
) -> tuple[Rows, NDArray[np.float64], NDArray[np.float64]]:
    """Items not disliked and those of the page, which is a view; the strength of the acts, and when."""
    liked = table[:, COLUMNS.index("opinion")] >= 0
    last = np.concatenate([table[liked, COLUMNS.index("last")], np.full(len(page), now)])
    return np.concatenate([own[liked], page]), np.concatenate([acts[liked], np.full(len(page), STRENGTH["view"])]), last


def _history(own: Rows, table: NDArray[np.float64], acts: NDArray[np.float64], last_ms: int) -> tuple[Rows, Floats]:
    """Items with a positive weight, newest first, and that weight."""
    last, opinion = table[:, 7], table[:, 10]
    strength = np.log1p(acts) * (1.0 + np.maximum(opinion, 0.0))
    liked = ((strength > 0) | (opinion > 0)) & (opinion >= 0)
    weights = (strength + np.maximum(opinion, 0.0)) * np.exp2(-(last_ms - last) / RECENCY_MS)
    keep = np.flatnonzero(liked)
    order = keep[np.lexsort((own[keep], -weights[keep], -last[keep]))]
    return own[order], weights[order].astype(np.float32)


def _tastes(
    own: Rows,
    table: NDArray[np.float64],
    past: tuple[Rows, Floats],
    live: Live,
    space: Space | None,
    user: UserVector,
) -> tuple[Wish, Floats | None, Floats]:
    if space is None:
        return Wish(None), None, np.zeros((0, 1), np.float32)
    newest = slice(0, user.items(live))
    history, weights = past[0][newest], past[1][newest]
    vectors, has = space.of(history)
    wish = user.wish(history[has], vectors[has], weights[has], live) if has.any() else Wish(None)
    shown, opinion = table[:, 5], table[:, 10]
    cold = own[(opinion < 0) | ((shown > 0) & (table[:, 0] + table[:, 1] + table[:, 2] + table[:, 3] == 0))]
    distaste = None
    if len(cold):
        passed, known = space.of(cold[-100:])
        distaste = passed[known].mean(0) if known.any() else None
    return wish, distaste, vectors[has][:10]
