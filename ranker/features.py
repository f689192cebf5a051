"""The one definition of the ranker's features: columns by candidate row, in one pass of array operations.

Computed when a list is made and logged with it; training reads the log and never recomputes.
Unknown is NaN, which LightGBM treats as missing. Times are log seconds, counts are log1p.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.ids import digest
from core.settings import Settings
from core.stats import SIGNALS
from ranker import affinity, demand, habits, sequence, traits, usage, wording
from ranker.arrays import Floats, Rows, Spots, Vectored
from ranker.channels import CHANNELS, Found
from ranker.context import Context
from ranker.live import Live
from ranker.space import Space

COUNTED: Final = ("buy", "view", "cart", "click", "shown")
_COUNTED: Final = [SIGNALS.index(signal) for signal in COUNTED]
_NOTHING: Final = (np.zeros(0, np.int64), np.zeros(0, np.float32))
_TRENDS: Final = COUNTED[:2]  # buy and view
RATES: Final = (("click", "shown", 20.0), ("buy", "view", 20.0), ("again", "buy", 10.0), ("dislike", "like", 5.0))


def names(settings: Settings) -> tuple[str, ...]:
    """Column names, in order. They depend on the half-lives alone."""
    return _names(settings.popularity.half_lives_s)


@lru_cache(maxsize=8)
def _names(half_lives_s: tuple[float, ...]) -> tuple[str, ...]:
    lives = [_span(s) for s in half_lives_s]
    per_channel = [f"{channel}_{what}" for channel in CHANNELS for what in ("score", "share", "rank")]
    counted = [f"{signal}_{life}" for signal in COUNTED for life in (*lives, "ever")]
    trends = [f"{signal}_{a}_{b}" for signal in _TRENDS for a, b in pairwise(lives[1:])]
    return (
        *per_channel, "fused", *counted, *trends,
        *[f"rate_{a}_{b}" for a, b, _ in RATES], "age", "since_buy", "since_use", "price", "price_ratio",
        "own_buys", "own_units", "own_carts", "own_looks", "own_shown", "own_opinion", "own_since_last",
        "own_since_buy", "own_since_first", "own_gap_ratio", "own_basket_share", "own_faded",
        "baskets", "basket_size", "basket_gap", "since_basket", "basket_due", "own_items", "tenure", "since_seen",
        "category_share", "root_share", "category_buys", "category_views", "category_rate",
        "text_taste", "text_max", "text_last", "text_margin", *habits.NAMES, *demand.NAMES,
        *affinity.NAMES, *sequence.NAMES, *wording.NAMES, *usage.NAMES,
        *[f"number_{place}" for place in range(traits.NUMBERS)],
    )  # fmt: skip


def schema(settings: Settings) -> str:
    """Hash of the columns: logged with every row, and a ranker refuses rows of another."""
    return _hash_of(names(settings))


@lru_cache(maxsize=8)
def _hash_of(columns: tuple[str, ...]) -> str:
    return digest(*columns)


def compute(
    ctx: Context, rows: Rows, found: Mapping[str, Found], fused: Floats, live: Live, space: Space | None
) -> Floats:
    """Features of the candidates, `(rows, columns)` float32."""
    now = ctx.request.ts
    spot = Spots(rows, live.place)
    texts = Vectored(*space.of(rows)) if space is not None else None
    columns: list[NDArray[Any]] = [*_channels(spot, found), fused]
    faded = live.counters.all_at(rows, now)
    columns += _popularity(rows, faded, live)
    columns += _item(ctx, rows, live, now)
    columns += _pair(ctx, spot, now)
    columns += _shopper(ctx, len(rows), now)
    columns += _category(ctx, rows, live, now)
    columns += _text(ctx, len(rows), texts)
    columns += habits.columns(ctx, spot, live)
    columns += demand.columns(faded, live)
    columns += affinity.columns(ctx, rows, live, space, texts)
    columns += sequence.columns(ctx, spot, live, space, texts)
    columns += wording.columns(ctx.words, rows, now, live.words)
    columns += usage.columns(ctx, spot, live)
    columns += list(live.traits.numbers[rows].T)
    matrix = np.empty((len(rows), len(columns)), np.float32)
    for place, column in enumerate(columns):
        matrix[:, place] = column
    return matrix


def _channels(spot: Spots, found: Mapping[str, Found]) -> list[NDArray[Any]]:
    """Of every channel: score, score over its highest, and log rank among the candidates."""
    scores = np.full((len(spot.rows), len(CHANNELS)), np.nan, np.float32)
    tops = np.ones(len(CHANNELS), np.float32)
    for place, channel in enumerate(CHANNELS):
        rows, given = found.get(channel, _NOTHING)
        if len(rows):
            scores[:, place] = spot.spread(rows, given)
            tops[place] = top if (top := float(given.max())) > 0 else 1.0
    order = np.argsort(-scores, axis=0, kind="stable")  # NaN last
    rank = np.empty(scores.shape, np.float32)
    np.put_along_axis(rank, order, np.log1p(np.arange(len(scores), dtype=np.float32))[:, None], 0)
    rank[np.isnan(scores)] = np.nan
    return list(np.stack([scores, scores / tops, rank], 2).reshape(len(scores), 3 * len(CHANNELS)).T)


def _popularity(rows: Rows, counters: Floats, live: Live) -> list[NDArray[Any]]:
    faded = counters[:, _COUNTED]
    ever = live.counters.total[rows][:, _COUNTED, None]
    counts = np.log1p(np.concatenate([faded, ever], 2))
    lives = live.counters.half_lives_ms.astype(np.float32)
    rate = faded[:, : len(_TRENDS), 1:] / (lives[1:] / lives[-1])
    rate = np.log(rate + 0.1)
    return [*_each(counts), *_each(rate[:, :, :-1] - rate[:, :, 1:])]


def _each(table: Floats) -> list[NDArray[Any]]:
    """The columns of `(rows, signals, half-lives)`, signal by signal."""
    return [table[:, signal, life] for signal in range(table.shape[1]) for life in range(table.shape[2])]


def _item(ctx: Context, rows: Rows, live: Live, now: int) -> list[NDArray[Any]]:
    ever = live.counters.ever
    columns: list[NDArray[Any]] = []
    for hit, of, prior in RATES:
        hits, tries = ever(rows, hit), ever(rows, of)
        mean = live.rate(hit, of)
        columns.append((hits + prior * mean) / (tries + prior))
    price = live.price[rows]
    liked = live.price[ctx.history]
    usual = float(np.nanmedian(liked)) if np.isfinite(liked).any() else np.nan
    return [
        *columns, _since(live.since[rows], now), _since(live.last_buy[rows], now), _since(live.last_use[rows], now),
        np.log1p(price), np.log((price + 0.01) / (usual + 0.01)),
    ]  # fmt: skip


def _pair(ctx: Context, spot: Spots, now: int) -> list[NDArray[Any]]:
    col, baskets = ctx.column, max(1, ctx.profile.baskets)
    buys, first_buy, last_buy = col("buys"), col("first_buy"), col("last_buy")
    gap = np.where(buys > 1, (last_buy - first_buy) / np.maximum(buys - 1, 1), np.nan)
    due = np.where(buys > 1, (now - last_buy) / np.maximum(gap, 3_600_000.0), np.nan)
    table = np.stack(
        [
            np.log1p(buys), np.log1p(col("units")), col("carts"), np.log1p(col("views") + col("clicks")), col("shown"),
            col("opinion"), _since(col("last"), now), _since(last_buy, now), _since(col("first"), now),
            np.log1p(due), buys / baskets, buys * np.exp2(-(now - last_buy) / (45 * 86_400_000.0)),
        ],
        1,
    )  # fmt: skip
    return list(spot.spread(ctx.own, table).T)


def _shopper(ctx: Context, count: int, now: int) -> list[NDArray[Any]]:
    p = ctx.profile
    gap = (p.last_basket - p.first_basket) / (p.baskets - 1) if p.baskets > 1 else np.nan
    since = now - p.last_basket if p.last_basket else np.nan
    values = [
        np.log1p(p.baskets),
        np.log1p(p.basket_items / p.baskets) if p.baskets else np.nan,
        np.log1p(gap / 1000.0),
        np.log1p(max(since, 0.0) / 1000.0),
        np.log1p(max(since, 0.0) / max(gap, 3_600_000.0)) if p.baskets > 1 else np.nan,
        np.log1p(len(ctx.own)),
        np.log1p((now - p.first) / 1000.0) if p.first and now >= p.first else np.nan,
        np.log1p((now - p.last) / 1000.0) if p.last and now >= p.last else np.nan,
    ]
    return [np.full(count, value, np.float32) for value in values]


def _category(ctx: Context, rows: Rows, live: Live, now: int) -> list[NDArray[Any]]:
    leaf, root = live.leaf[rows], live.root[rows]
    absent = np.full(len(rows), np.nan, np.float32)
    if not live.members:
        return [absent] * 5
    shares = [_share(live.leaf[ctx.history], ctx.weights, leaf), _share(live.root[ctx.history], ctx.weights, root)]
    week = int(np.argmin(np.abs(live.categories.half_lives_ms - 7 * 86_400_000.0)))
    placed = leaf >= 0
    where = np.maximum(leaf, 0).astype(np.int64)
    columns = [np.where(placed, np.log1p(live.categories.at(where, s, now)[:, week]), np.nan) for s in ("buy", "view")]
    clicks, shown = live.categories.ever(where, "click"), live.categories.ever(where, "shown")
    rate = (clicks + 20.0 * live.rate("click", "shown")) / (shown + 20.0)
    return [*shares, *columns, np.where(placed, rate, np.nan)]


def _share(seen: NDArray[np.int32], weights: Floats, wanted: NDArray[np.int32]) -> NDArray[Any]:
    """How much of the history lies in each candidate's category."""
    placed = seen >= 0
    if not placed.any():
        return np.full(len(wanted), np.nan, np.float32)
    by_category = np.bincount(seen[placed], weights[placed], max(int(seen.max()), int(wanted.max(initial=0))) + 1)
    return np.where(wanted >= 0, by_category[np.maximum(wanted, 0)] / by_category.sum(), np.nan)


def _text(ctx: Context, count: int, texts: Vectored | None) -> list[NDArray[Any]]:
    absent = np.full(count, np.nan, np.float32)
    if texts is None or (ctx.taste is None and ctx.distaste is None):
        return [absent] * 4
    vectors, has = texts
    taste = vectors @ ctx.taste if ctx.taste is not None else absent
    each = vectors @ ctx.recent.T if len(ctx.recent) else None
    widest = each.max(1) if each is not None else absent
    last = each[:, 0] if each is not None else absent
    away = vectors @ ctx.distaste if ctx.distaste is not None else np.zeros(count, np.float32)
    toward = taste if ctx.taste is not None else np.zeros(count, np.float32)
    return [np.where(has, column, np.nan) for column in (taste, widest, last, toward - away)]


def _since(then: NDArray[Any], now: int) -> NDArray[Any]:
    """Log of the seconds since, NaN for never."""
    return np.where(then > 0, np.log1p(np.maximum(now - then, 0) / 1000.0), np.nan)


def _span(seconds: float) -> str:
    for name, unit in (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0)):
        if seconds >= unit:
            return f"{seconds / unit:g}{name}"
    return f"{seconds:g}s"
