"""What a new bundle is compared with: the one that serves, in whatever space it ranks."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from core.bundle import Bundles
from core.errors import HeadwaterError
from core.manifest import Manifest
from core.settings import Settings
from jobs.duel import Side
from jobs.embedding import Embedder
from jobs.gate import Score
from ranker import features
from ranker.bundle import Opened, open_bundle
from ranker.user_vector import WEIGHTED_MEAN, Transformer, UserVector

log = logging.getLogger("headwater")


class Champion(NamedTuple):
    """What serves now.

    Attributes:
        score: the ranker as a function of features; the blend's own where there is none in the challenger's space.
        name: what to call it.
        seen_ms: the newest event it has learnt from.
        trained: whether it is a ranker; the blend is not.
        elsewhere: the whole of it, where it ranks in another space than the challenger.
        here: the whole of it, where it ranks in the same.
    """

    score: Score
    name: str
    seen_ms: int = -1
    trained: bool = False
    elsewhere: Side | None = None
    here: Side | None = None


def of(store: Bundles, settings: Settings, embedder: Embedder | None) -> Champion:
    """The champion for a challenger with this embedder. A bundle that cannot be used is told in the log, and none."""
    try:
        now = store.current()
        if now is not None:
            found = _same_space(store, now, settings, embedder) or _other_space(store, now, settings, embedder)
            if found is not None:
                return found
        elif embedder is not None and embedder.folder is not None:
            return Champion(blend(settings), "the blend", elsewhere=Side(Embedder.open(settings), None))
    except HeadwaterError as error:
        log.error("the bundle that serves cannot be compared with: %s", error)
    return Champion(blend(settings), "the blend")


def _same_space(store: Bundles, now: Manifest, settings: Settings, embedder: Embedder | None) -> Champion | None:
    if now.ranker == "blend" or not fits(now, settings, embedder):
        return None
    opened = open_bundle(store.folder(now.id), store.load(now.id), settings)
    if opened.ranker is None:
        return None
    here = Side(embedder, opened.ranker, _rule(opened))
    return Champion(opened.ranker.score, f"bundle {now.id}", now.max_event_time, trained=True, here=here)


def _other_space(store: Bundles, now: Manifest, settings: Settings, embedder: Embedder | None) -> Champion | None:
    """None where nothing is there that it could answer with."""
    if embedder is None or now.space_id in ("", embedder.space_id):
        return None
    opened = open_bundle(store.folder(now.id), store.load(now.id), settings)
    own = Embedder.of_bundle(settings, opened, now) or Embedder.open(settings)
    if own is None or own.space_id != now.space_id:
        return None
    side = Side(own, opened.ranker, _rule(opened))
    trained = opened.ranker is not None
    return Champion(blend(settings), f"bundle {now.id}", now.max_event_time if trained else -1, trained, side)


def _rule(opened: Opened) -> UserVector:
    return Transformer(opened.tower) if opened.tower is not None else WEIGHTED_MEAN


def blend(settings: Settings) -> Score:
    """The blend as a function of features."""
    fused = features.names(settings).index("fused")

    def score(
        matrix: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return matrix[:, fused]

    return score


def fits(manifest: Manifest, settings: Settings, embedder: Embedder | None) -> bool:
    """Whether a process with these settings can use the bundle."""
    return manifest.space_id == space(embedder) and manifest.features.hash == features.schema(settings)


def space(embedder: Embedder | None) -> str:
    """The id of its space; empty of none."""
    return embedder.space_id if embedder else ""
