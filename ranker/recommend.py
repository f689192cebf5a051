"""From a request to a decision: a pure function of the request, the profile and a snapshot.

The gateway and the replay call the same `recommend`. Nothing here reads a clock, and what
looks like chance is a hash of the recommendation id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.decision import Decision, Filters, Ranked, Reason, Request
from core.errors import Missing
from core.ids import hash64
from core.profile import NOBODY, Profile
from core.settings import Settings
from ranker import features
from ranker.arrays import Floats, Rows, best
from ranker.channels import CHANNELS, Found, quota_of
from ranker.context import Context, understand
from ranker.live import Live
from ranker.model import Ranker
from ranker.reasons import Explainer
from ranker.rerank import diversify, order
from ranker.rules import Gate, opened
from ranker.space import Space
from ranker.user_vector import WEIGHTED_MEAN, UserVector

# weights of the channels in the blend, by weighted reciprocal rank fusion
# (Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet", SIGIR 2009)
BLEND = {
    "own": 1.0, "bought": 0.6, "carted": 0.5, "seen": 0.5, "sessions": 0.7, "ease": 0.5, "after": 0.3, "text": 0.15,
    "next": 0.5, "trending": 0.4, "new": 0.05,
}  # fmt: skip
FUSION_K = 60.0
_NOTHING: Found = (np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Snapshot:
    """What a request is answered from. Parts change only between requests."""

    settings: Settings
    live: Live
    space: Space | None = None
    ranker: Ranker | None = None
    bundle: str = ""
    channels: tuple[str, ...] = tuple(CHANNELS)
    user: UserVector = WEIGHTED_MEAN  # of the bundle
    explained: bool = True  # compute features also where no ranker needs them: for the log of decisions

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return features.names(self.settings)

    @cached_property
    def schema(self) -> str:
        return features.schema(self.settings)

    def refresh(self) -> None:
        """Take in what the topics brought since the last request."""
        self.live.refresh()
        if self.space is not None:
            self.space.refresh(self.live.row)


@dataclass(slots=True)
class Draft:
    """A decision before it is written down: candidates with features and scores, `places` best first."""

    ctx: Context
    rows: Rows
    found: dict[str, Found]
    features: Floats
    scores: Floats
    places: Rows = field(default_factory=lambda: np.zeros(0, np.int64))


def recommend(request: Request, profile: Profile, snapshot: Snapshot) -> Decision:
    """Answer a request: the best n items with reasons, and what is needed to learn from it."""
    snapshot.refresh()
    known = len(snapshot.live)
    try:
        return _written(_draft(request, profile, snapshot), snapshot)
    finally:
        snapshot.live.forget_after(known)  # an item nobody has heard of is ranked when asked, and leaves no trace


def _written(draft: Draft, snapshot: Snapshot) -> Decision:
    """The decision of a draft, as it is logged."""
    request, live = draft.ctx.request, snapshot.live
    shown, rest = draft.places[: request.n], draft.places[request.n :]
    pool = np.concatenate([shown, _sample(rest, snapshot.settings.ranking.pool, request.recommendation_id)])
    return Decision(
        recommendation_id=request.recommendation_id,
        ts=request.ts,
        shopper=request.shopper,
        placement=request.placement,
        bundle=snapshot.bundle,
        ranker="lambdarank" if snapshot.ranker else "blend",
        items=_describe(draft, shown, snapshot),
        pool=tuple([live.ids[row] for row in draft.rows[pool].tolist()]),
        schema=snapshot.schema,
        features=draft.features[pool].tobytes(),
    )


def draft_list(request: Request, profile: Profile, snapshot: Snapshot) -> Draft:
    """Candidates of every channel, their features, scores and order."""
    snapshot.refresh()
    return _draft(request, profile, snapshot)


def _draft(request: Request, profile: Profile, snapshot: Snapshot) -> Draft:
    live, space = snapshot.live, snapshot.space
    ctx = understand(request, profile, live, space, snapshot.user)
    with opened(ctx, live) as gate:
        found = _retrieve(ctx, gate, snapshot)
        if request.items is not None:
            rows, fused = _given(request.items, found, live)
        else:
            rows, fused = _union(ctx, found, gate, snapshot)
    if snapshot.explained or snapshot.ranker is not None:
        matrix = features.compute(ctx, rows, found, fused, live, space)
    else:
        matrix = np.zeros((len(rows), 0), np.float32)
    scores = fused
    if snapshot.ranker is not None and len(rows):
        scores = snapshot.ranker.score(matrix)
    places = order(scores, rows)
    if request.diversity > 0:
        places = diversify(places, rows, scores, request.n, request.diversity, live, space)
    return Draft(ctx, rows, found, matrix, scores, places)


def _retrieve(ctx: Context, gate: Gate, snapshot: Snapshot) -> dict[str, Found]:
    """What each channel found and the gate lets pass, best first for as many as its quota."""
    found = {}
    for name in snapshot.channels:
        quota = quota_of(name, ctx, snapshot.live)
        if not quota:
            continue
        rows, scores = CHANNELS[name](ctx, snapshot.live, snapshot.space, quota)
        passed = gate.passes(rows)
        found[name] = (rows[passed], scores[passed])
    return found


def _fuse(ctx: Context, found: dict[str, Found], snapshot: Snapshot) -> tuple[Rows, Floats]:
    """Items within a channel's quota, with their weighted reciprocal ranks added up."""
    rows, weights = [np.zeros(0, np.int64)], list[NDArray[Any]]()
    for name, (brought, scores) in found.items():
        top = best(brought, scores, quota_of(name, ctx, snapshot.live))
        rows.append(top)
        weights.append(BLEND[name] / (FUSION_K + 1.0 + np.arange(len(top))))
    return snapshot.live.sum_by_row(np.concatenate(rows), np.concatenate([np.zeros(0), *weights]))


def _union(ctx: Context, found: dict[str, Found], gate: Gate, snapshot: Snapshot) -> tuple[Rows, Floats]:
    n, (rows, fused) = ctx.request.n, _fuse(ctx, found, snapshot)
    if len(rows) < n:
        rest = np.setdiff1d(gate.all(), rows)
        rest = best(rest, snapshot.live.trend[rest], n - len(rows))
        below = 1e-6 / (1.0 + np.arange(len(rest), dtype=np.float32))  # what every channel outweighs
        rows, fused = np.concatenate([rows, rest]), np.concatenate([fused, below])
    top = best(np.arange(len(rows)), fused, max(n, snapshot.settings.ranking.candidates))
    return rows[top], fused[top]


def _given(items: tuple[str, ...], found: dict[str, Found], live: Live) -> tuple[Rows, Floats]:
    """The items that are to be ranked, with their blended scores over all that was found."""
    rows = np.array([live.row(item) for item in dict.fromkeys(items)], np.int64)
    fused = np.zeros(len(rows), np.float32)
    for name, (brought, scores) in found.items():
        position = {row: place for place, row in enumerate(best(brought, scores, len(brought)).tolist())}
        for place, row in enumerate(rows.tolist()):
            if row in position:
                fused[place] += BLEND[name] / (FUSION_K + 1.0 + position[row])
    return rows, fused


def _sample(places: Rows, count: int, recommendation_id: str) -> Rows:
    """A uniform sample of the candidates that were not shown, the same for the same id."""
    if len(places) <= count:
        return places
    generator = np.random.default_rng(hash64(recommendation_id))
    return places[np.sort(generator.choice(len(places), count, replace=False))]


def _describe(draft: Draft, shown: Rows, snapshot: Snapshot) -> tuple[Ranked, ...]:
    live, names = snapshot.live, snapshot.feature_names
    explainer = Explainer(draft.ctx, draft.found, draft.rows[shown], live, snapshot.space)
    ranks = {name: _ranks(found) for name, found in draft.found.items()} if draft.ctx.request.explain else {}
    described = []
    for place in shown.tolist():
        row = int(draft.rows[place])
        explained = {}
        if draft.ctx.request.explain:
            explained = {
                name: float(value)
                for name, value in zip(names, draft.features[place].tolist(), strict=True)
                if value == value  # NaN is "unknown", left out
            }
        described.append(
            Ranked(
                item_id=live.ids[row],
                score=float(draft.scores[place]),
                reasons=explainer.of(row),
                channels={name: ranked[row] for name, ranked in ranks.items() if row in ranked},
                features=explained,
            )
        )
    return tuple(described)


def _ranks(found: Found) -> dict[int, tuple[int, float]]:
    rows, scores = found
    sequence = np.lexsort((rows, -scores))
    return {int(rows[place]): (rank + 1, float(scores[place])) for rank, place in enumerate(sequence.tolist())}


# ---------------------------------------------------------------------- lists about an item, or about nobody
def similar(item_id: str, n: int, filters: Filters, snapshot: Snapshot) -> list[Ranked]:
    """Items whose text is nearest to that of an item.

    Raises:
        Missing: the item is not known, or has no vector yet.
    """
    row = _row(item_id, snapshot)
    if snapshot.space is None:
        raise Missing("there are no text vectors: the encoder is switched off (encoder.model = none)")
    vectors, has = snapshot.space.of(np.array([row]))
    if not has[0]:
        raise Missing(f"item {item_id!r} has no vector yet")
    return near(vectors[0], n, filters, snapshot, exclude=item_id, reason="similar")


def near(
    vector: Floats, n: int, filters: Filters, snapshot: Snapshot, *, exclude: str = "", reason: str = "matches"
) -> list[Ranked]:
    """Items nearest to a vector of the snapshot's space."""
    space, live = snapshot.space, snapshot.live
    if space is None:
        raise Missing("there are no text vectors: the encoder is switched off (encoder.model = none)")
    snapshot.refresh()
    request = Request(recommendation_id="", ts=0, exclude_items=(exclude,) if exclude else (), filters=filters)
    with opened(understand(request, NOBODY, live, None), live) as gate:
        rows, scores = _NOTHING
        if filters == Filters():  # most items pass: quicker to look first
            rows, scores = _passing(*space.search(vector, n + 50), gate)
        if len(rows) < n:
            rows, scores = space.search(vector, n, gate.all())
    words = {"similar": f"similar to {_title(exclude, live)}", "matches": "matches the words"}[reason]
    return _plain(rows[:n], scores[:n], Reason(reason, words, exclude), live)


def together(item_id: str, n: int, filters: Filters, snapshot: Snapshot) -> list[Ranked]:
    """What goes with an item: bought with it, and where that does not fill the list, carted and seen with it."""
    row, live = _row(item_id, snapshot), snapshot.live
    request = Request(recommendation_id="", ts=0, exclude_items=(item_id,), filters=filters)
    ranked: dict[str, Ranked] = {}
    with opened(understand(request, NOBODY, live, None), live) as gate:
        for relation in ("bought", "carted", "seen"):
            circles = live.circles[relation]
            partners = circles.rows[row].astype(np.int64)
            shares = circles.share[row][partners >= 0]
            rows, scores = _passing(partners[partners >= 0], shares, gate)
            reason = Reason(f"{relation}_with", f"often {relation} with {_title(item_id, live)}", item_id)
            for one in _plain(rows, scores, reason, live):
                ranked.setdefault(one.item_id, one)
    return list(ranked.values())[:n]


def trending(n: int, category: str | None, now_ms: int, filters: Filters, snapshot: Snapshot) -> list[Ranked]:
    """What is used most of late, in the whole shop or in a category; filled up with what is newest."""
    live = snapshot.live
    snapshot.refresh()
    if category is not None:
        filters = msgspec.structs.replace(filters, categories=(category,))
    request = Request(recommendation_id="", ts=now_ms, filters=filters)
    with opened(understand(request, NOBODY, live, None), live) as gate:
        rows = gate.all()
    used = np.isfinite(live.trend[rows])
    top, idle = best(rows[used], live.trend[rows[used]], n), rows[~used]
    scores = np.exp2(live.trend[top] - now_ms / live.trend_half_life_ms).astype(np.float32)
    where = f"trending in {category}" if category else "trending now"
    newest = best(idle, live.since[idle], n - len(top))
    return [
        *_plain(top, scores, Reason("trending", where), live),
        *_plain(newest, np.zeros(len(newest), np.float32), Reason("new", "new in the shop"), live),
    ]


def _row(item_id: str, snapshot: Snapshot) -> int:
    snapshot.refresh()
    row = snapshot.live.rows.get(item_id)
    if row is None:
        raise Missing(f"unknown item {item_id!r}")
    return row


def _title(item_id: str, live: Live) -> str:
    item = live.items[live.rows[item_id]] if item_id in live.rows else None
    return item.title if item is not None and item.title else item_id


def _passing(rows: Rows, scores: Floats, gate: Gate) -> tuple[Rows, Floats]:
    passed = gate.passes(rows)
    return rows[passed], scores[passed]


def _plain(rows: Rows, scores: Floats, reason: Reason, live: Live) -> list[Ranked]:
    return [
        Ranked(item_id=live.ids[row], score=float(score), reasons=(reason,))
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
