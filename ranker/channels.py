"""Candidate channels: each finds items in its own way and says how strongly.

A channel returns all items it touched with a score; its quota is cut by the caller, so that
an item brought by one channel still carries the scores the others have for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from core.ids import DAY_MS
from ranker.arrays import Floats, Rows, best
from ranker.context import Context
from ranker.ease import strength
from ranker.live import Live
from ranker.sequence import lately
from ranker.space import Space

Found = tuple[Rows, Floats]
Channel = Callable[[Context, Live, Space | None, int], Found]

OWN_HALF_LIFE_MS: Final = 60 * DAY_MS
STRANGER: Final = 3  # times as many popular items for a shopper without a history
PRIOR: Final = 2.0  # sessions' worth of doubt about an item's neighbours
_NOTHING: Final[Found] = (np.zeros(0, np.int64), np.zeros(0, np.float32))
_ACT_WEIGHT: Final = np.array([0.0, 1.0, 1.0, 1.5, 2.0, 3.0], np.float32)  # by Act


def own(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """What the shopper had to do with before: the more and the newer the better."""
    if not len(ctx.own):
        return _NOTHING
    buys, carts = ctx.column("buys"), ctx.column("carts")
    looks = ctx.column("views") + ctx.column("clicks")
    strength = 4.0 * buys + 2.0 * np.minimum(carts, 3) + np.minimum(looks, 5)
    score = strength * np.exp2(-(ctx.request.ts - ctx.column("last")) / OWN_HALF_LIFE_MS)
    keep = (strength > 0) & (ctx.column("opinion") >= 0)
    return ctx.own[keep], score[keep].astype(np.float32)


def _circle(relation: str) -> Channel:
    def neighbours(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
        circles, sources = live.circles[relation], ctx.history
        if not len(sources):
            return _NOTHING
        mass = circles.weight(sources, ctx.request.ts)
        weight = ctx.weights * (mass / (mass + PRIOR)).astype(np.float32)
        rows, share = circles.rows[sources], circles.share[sources]
        real = rows >= 0
        return live.sum_by_row(rows[real], (share * weight[:, None])[real])

    neighbours.__doc__ = f"Items {relation} together with those of the history."
    return neighbours


def sessions(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """Items of the sessions and baskets of others that are most like the shopper's recent ones."""
    if not len(ctx.history):
        return _NOTHING
    items, acts, near = live.sessions.like(ctx.history, ctx.weights, ctx.request.shopper, ctx.request.ts)
    real = items >= 0
    return live.sum_by_row(items[real], (_ACT_WEIGHT[acts] * near[:, None])[real])


def ease(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """What follows from the whole history, by a model of everybody's."""
    if live.ease is None or not len(ctx.own):
        return _NOTHING
    settings = live.settings.ease
    amount = strength(ctx.memory[:, :4], ctx.column("last"), ctx.request.ts, settings.half_life_s * 1000.0)
    liked = np.flatnonzero((amount > 0) & (ctx.column("opinion") >= 0))
    sources = best(liked, amount[liked], settings.sources)
    rows, scores = live.sum_by_row(*live.ease.follow(ctx.own[sources], amount[sources]))
    return rows[scores > 0], scores[scores > 0]


def after(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """What others took in later visits than what the shopper took in the last ones."""
    if live.after is None or not len(ctx.own):
        return _NOTHING
    rows, weights = lately(ctx)
    found, scores = live.sum_by_row(*live.after.follow(rows, weights))
    return found[scores > 0], scores[scores > 0]


def text(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """Items whose text is like that of the history."""
    if space is None or ctx.taste is None:
        return _NOTHING
    return space.search(ctx.taste, quota + min(len(ctx.own), quota))


def next_items(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """What a transformer over the items used last foresees, where the bundle has one."""
    return ctx.wish.rows, ctx.wish.scores


def trending(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """Items used most of late."""
    return live.trending(ctx.request.ts, quota)


def new(ctx: Context, live: Live, space: Space | None, quota: int) -> Found:
    """The newest items; those near the shopper's taste first, where there is one."""
    age_ms = live.settings.ranking.new_item_s * 1000.0
    rows = live.arrivals(ctx.request.ts, age_ms, 10 * quota)
    score = np.exp2(-(ctx.request.ts - live.since[rows]) / age_ms).astype(np.float32)
    if space is not None and ctx.taste is not None and len(rows):
        vectors, has = space.of(rows)
        score = score + np.where(has, vectors @ ctx.taste, 0.0).astype(np.float32)
    return rows, score


def quota_of(name: str, ctx: Context, live: Live) -> int:
    """How many candidates a channel brings. To a stranger only popular and new items can be shown: more of them."""
    quota: int = getattr(live.settings.channels, name)
    return quota if len(ctx.history) or name != "trending" else STRANGER * quota


CHANNELS: Final[dict[str, Channel]] = {
    "own": own,
    "bought": _circle("bought"),
    "carted": _circle("carted"),
    "seen": _circle("seen"),
    "sessions": sessions,
    "ease": ease,
    "after": after,
    "text": text,
    "next": next_items,
    "trending": trending,
    "new": new,
}
