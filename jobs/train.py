"""The ranker job: rehearse what was recorded, learn, judge, write a bundle.

What was logged with real decisions is learnt from as it was logged; the rest of the log is
rehearsed, so that a shop that has just imported its history starts with a trained ranker.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from core.bundle import Bundles
from core.decision import Decision, Label
from core.errors import HeadwaterError, Missing
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import Settings
from jobs.chronicle import in_time
from jobs.embedding import Embedder
from jobs.gate import Score, Verdict, judge
from jobs.lessons import Lesson, collect, from_decisions
from jobs.recordings import EVENTS, Recording, recording, told
from jobs.rehearsal import Rehearsal
from ranker import bundle as bundles
from ranker import features
from ranker.model import Ranker, train

log = logging.getLogger("headwater")

HELD_OUT: Final = 0.2  # of the lessons, the newest: judged on, then learnt from too
NEWER: Final = 20  # lists that what serves has not learnt from, to compare on
FEWEST: Final = 10  # lessons, whatever the settings say: below, there is nothing to hold out
WARM_UP: Final = 2.0  # of an archive, so many times training.window_s is played: the state of what is learnt from
_PLAYED: Final = (*EVENTS, "items")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the job came to. `manifest` is None where nothing was written."""

    manifest: Manifest | None
    verdict: Verdict | None
    lessons: int
    promoted: bool
    why: str


def run(
    settings: Settings,
    embedder: Embedder | None,
    now_ms: int,
    progress: Progress,
    *,
    force: bool = False,
    archive: str = "",
) -> Outcome:
    """Train a ranker from what was recorded, and promote its bundle if it is better on newer lists.

    Args:
        settings: of the shop.
        embedder: of item text, or None.
        now_ms: the time that the bundle bears.
        progress: told (what, done, total).
        force: promote whatever the comparison says.
        archive: a folder or URL to learn from; without one the archive of a shop on Kafka, else the embedded log.

    Raises:
        Missing: the recording holds nothing to learn from.
    """
    since_ms = max(0, now_ms - round(WARM_UP * settings.training.window_s * 1000))
    with recording(settings, archive, since_ms=since_ms) as source:
        shop, logged = _rehearse(source, settings, embedder, progress)
    oldest_ms = shop.now_ms - settings.training.window_s * 1000.0
    lessons = [one for one in (*shop.lessons, *logged) if one.ts >= oldest_ms]
    lessons = sorted(lessons, key=lambda one: one.ts)[-settings.training.max_groups :]
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    if len(lessons) < max(settings.training.min_groups, FEWEST):
        return _without_ranker(settings, embedder, shop, store, now_ms, len(lessons))
    progress("training", 0, 2)
    verdict, why = _compare(lessons, _champion(store, settings, embedder), settings)
    progress("training", 1, 2)
    ranker = train(collect(lessons), features.names(settings), features.schema(settings), settings.training)
    progress("training", 2, 2)
    metrics = {"lists": float(len(lessons))}
    if verdict is not None:
        metrics |= {"ndcg@10": verdict.challenger, "champion_ndcg@10": verdict.champion}
    manifest = _write(settings, embedder, shop, store, now_ms, ranker, metrics)
    promote = force or (verdict is not None and verdict.promote)
    if promote:
        store.promote(manifest.id)
    store.prune()
    return Outcome(manifest, verdict, len(lessons), promote, why)


def _compare(lessons: Sequence[Lesson], champion: _Champion, settings: Settings) -> tuple[Verdict | None, str]:
    """Judge a ranker that has not seen the newest lessons, on those of them that the champion has not seen either.

    No verdict where these are too few: on lists it has learnt from, what serves would always look better.
    """
    held = round(len(lessons) * (1 - HELD_OUT))
    split = next((n for n in range(held, len(lessons)) if lessons[n].ts > champion.seen_ms), len(lessons))
    fresh, wanted = len(lessons) - split, min(NEWER, len(lessons) - held)
    if fresh < wanted:
        return None, f"{fresh} lists are newer than {champion.name}, and it takes {wanted} to compare with it"
    names, schema = features.names(settings), features.schema(settings)
    challenger = train(collect(lessons[:split]), names, schema, settings.training)
    verdict = judge(challenger.score, champion.score, lessons[split:], champion.name)
    return verdict, verdict.why


def _rehearse(
    source: Recording, settings: Settings, embedder: Embedder | None, progress: Progress
) -> tuple[Rehearsal, list[Lesson]]:
    """Everything that was recorded, played through a shop in memory; and lessons of what was really served."""
    total = source.count(_PLAYED)
    newest = max((entry.ts for entry in source.entries(EVENTS)), default=0)
    if not newest:
        raise Missing(f"{source.name} holds no events: import a history or post some first")
    window_ms = round(settings.training.window_s * 1000)
    logged, served = _logged(source, settings)
    shop = Rehearsal(settings, embedder, learn_from_ms=newest - window_ms, logged=served, train_from_ms=newest + 1)
    idle_ms = round(settings.profile.idle_s * 1000)
    for done, message in enumerate(in_time(lambda: told(source, _PLAYED), idle_ms), 1):
        shop.accept(message)
        if done % 500 == 0:
            progress("rehearsing the log", min(done, total), total)
    progress("rehearsing the log", total, total)
    shop.finish()
    return shop, logged


def _logged(source: Recording, settings: Settings) -> tuple[list[Lesson], frozenset[str]]:
    """Lessons of what was really served, and the ids of all such lists; one decision in memory at a time."""
    schema, labels, served = features.schema(settings), defaultdict[str, list[Label]](list), set[str]()
    for label in told(source, ("labelled",)):
        if isinstance(label, Label):
            labels[label.recommendation_id].append(label)

    def usable() -> Iterator[Decision]:
        for decision in told(source, ("decisions",)):
            if isinstance(decision, Decision) and decision.schema == schema and decision.pool:
                served.add(decision.recommendation_id)
                yield decision

    lessons = deque(from_decisions(usable(), labels, schema), maxlen=settings.training.max_groups)
    return list(lessons), frozenset(served)


class _Champion(NamedTuple):
    """What serves now, as a function of features, and the newest event it has learnt from (ms)."""

    score: Score
    name: str
    seen_ms: int


def _champion(store: Bundles, settings: Settings, embedder: Embedder | None) -> _Champion:
    """The ranker of the current bundle; the blend where there is none, or where it ranks in another space."""
    try:
        now = store.current()
        if now is not None and now.ranker != "blend" and _fits(now, settings, embedder):
            ranker = Ranker.load(store.folder(store.load(now.id).id) / bundles.RANKER, now.features.hash)
            return _Champion(ranker.score, f"bundle {now.id}", now.max_event_time)
    except HeadwaterError as error:
        log.error("the bundle that serves cannot be compared with: %s", error)
    fused = features.names(settings).index("fused")
    return _Champion(lambda matrix: matrix[:, fused], "the blend", -1)


def _fits(manifest: Manifest, settings: Settings, embedder: Embedder | None) -> bool:
    """Whether a process with these settings can use the bundle."""
    return manifest.space_id == _space(embedder) and manifest.features.hash == features.schema(settings)


def _space(embedder: Embedder | None) -> str:
    return embedder.space_id if embedder else ""


def _without_ranker(
    settings: Settings, embedder: Embedder | None, shop: Rehearsal, store: Bundles, now_ms: int, lessons: int
) -> Outcome:
    why = (
        f"{lessons} lists with a label, and a ranker is trained from {settings.training.min_groups} on "
        "(training.min_groups): the blend goes on answering"
    )
    current = store.current()
    if current is not None and _fits(current, settings, embedder):
        return Outcome(None, None, lessons, False, why)
    manifest = _write(settings, embedder, shop, store, now_ms, None, {"lists": float(lessons)})
    store.promote(manifest.id)
    return Outcome(manifest, None, lessons, True, why)


def _write(
    settings: Settings,
    embedder: Embedder | None,
    shop: Rehearsal,
    store: Bundles,
    now_ms: int,
    ranker: Ranker | None,
    metrics: dict[str, float],
) -> Manifest:
    contents = Contents(
        created_ms=now_ms,
        space_id=_space(embedder),
        encoder=EncoderReference(embedder.name, embedder.weights_sha256) if embedder else EncoderReference("none", ""),
        text=msgspec.to_builtins(settings.text),
        user_vector={"rule": "weighted mean of recent items", "items": settings.ranking.user_items},
        features=FeatureSchema.of(features.names(settings)),
        max_event_time=shop.now_ms,
        ranker="lambdarank" if ranker else "blend",
        metrics={name: float(np.round(value, 6)) for name, value in metrics.items()},
    )
    return store.write(contents, lambda folder: bundles.save(folder, ranker, shop.snapshot))
