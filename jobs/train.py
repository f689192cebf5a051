"""The ranker job on the embedded log: rehearse what was recorded, learn, judge, write a bundle.

What was logged with real decisions is learnt from as it was logged; the rest of the log is
rehearsed, so that a shop that has just imported its history starts with a trained ranker.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from core.bundle import Bundles
from core.decision import Decision, Label
from core.errors import BadInput, HeadwaterError, Missing
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.gate import Score, Verdict, judge
from jobs.lessons import Lesson, collect, from_decisions
from jobs.rehearsal import Rehearsal
from ranker import bundle as bundles
from ranker import features
from ranker.model import Ranker, train
from streams.log import EmbeddedLog, Entry
from streams.messages import Message, messages

log = logging.getLogger("headwater")

HELD_OUT: Final = 0.2  # of the lessons, the newest: judged on, then learnt from too
FEWEST: Final = 10  # lessons, whatever the settings say: below, there is nothing to hold out
CHUNK: Final = 5_000
_EVENTS: Final = ("clickstream", "feedback")
_READ: Final = (*_EVENTS, "items", "decisions", "labelled")
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
    settings: Settings, embedder: Embedder | None, now_ms: int, progress: Progress, *, force: bool = False
) -> Outcome:
    """Train a ranker from the embedded log, and promote its bundle if it is better on newer lists.

    Args:
        settings: of the shop.
        embedder: of item text, or None.
        now_ms: the time that the bundle bears.
        progress: told (what, done, total).
        force: promote whatever the comparison says.

    Raises:
        Missing: the log holds nothing to learn from.
    """
    opened = EmbeddedLog.open(settings.log)
    try:
        shop, logged = _rehearse(opened, settings, embedder, progress)
    finally:
        opened.close()
    lessons = sorted([*shop.lessons, *logged], key=lambda one: one.ts)[-settings.training.max_groups :]
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    if len(lessons) < max(settings.training.min_groups, FEWEST):
        return _without_ranker(settings, embedder, shop, store, now_ms, len(lessons))
    split = round(len(lessons) * (1 - HELD_OUT))
    names, schema = features.names(settings), features.schema(settings)
    progress("training", 0, 2)
    challenger = train(collect(lessons[:split]), names, schema, settings.training)
    champion, against = _champion(store, settings, names)
    verdict = judge(challenger.score, champion, lessons[split:], against)
    progress("training", 1, 2)
    ranker = train(collect(lessons), names, schema, settings.training)
    progress("training", 2, 2)
    metrics = {"ndcg@10": verdict.challenger, "champion_ndcg@10": verdict.champion, "lists": float(len(lessons))}
    manifest = _write(settings, embedder, shop, store, now_ms, ranker, metrics)
    promote = verdict.promote or force
    if promote:
        store.promote(manifest.id)
    store.prune()
    return Outcome(manifest, verdict, len(lessons), promote, verdict.why)


def _rehearse(
    opened: EmbeddedLog, settings: Settings, embedder: Embedder | None, progress: Progress
) -> tuple[Rehearsal, list[Lesson]]:
    """Everything the log recorded, played through a shop in memory; and lessons of what was really served."""
    total = sum(last + 1 for (topic, _), last in opened.ends().items() if topic in _READ)
    newest = max((entry.ts for entry in _entries(opened, _EVENTS)), default=0)
    if not newest:
        raise Missing("the log holds no events: import a history or post some first")
    window_ms = round(settings.training.window_s * 1000)
    shop = Rehearsal(settings, embedder, learn_from_ms=newest - window_ms, train_from_ms=newest + 1)
    decisions: list[Decision] = []
    labels: dict[str, list[Label]] = defaultdict(list)
    for done, message in enumerate(_messages(opened), 1):
        if isinstance(message, Decision):
            decisions.append(message)
        elif isinstance(message, Label):
            labels[message.recommendation_id].append(message)
        else:
            shop.accept(message)
        if done % 500 == 0:
            progress("rehearsing the log", min(done, total), total)
    progress("rehearsing the log", total, total)
    shop.finish()
    return shop, from_decisions(decisions, labels, features.schema(settings))


def _entries(opened: EmbeddedLog, topics: Collection[str]) -> Iterator[Entry]:
    """What the log holds of some topics, in the order of arrival."""
    after: dict[tuple[str, int], int] = {}
    while entries := opened.read_all(topics, after, CHUNK):
        for entry in entries:
            after[entry.topic, entry.partition] = entry.offset
            yield entry


def _messages(opened: EmbeddedLog) -> Iterator[Message]:
    """What the log says; what cannot be read was dead-lettered when it came."""
    for entry in _entries(opened, _READ):
        try:
            found = messages(entry)
        except BadInput:
            continue
        for message in found:
            if not isinstance(message, BadInput):
                yield message


def _champion(store: Bundles, settings: Settings, names: tuple[str, ...]) -> tuple[Score, str]:
    """What serves now, as a function of features."""
    try:
        current = store.current()
        if current is not None and current.features.hash == features.schema(settings) and current.ranker != "blend":
            ranker = Ranker.load(store.folder(store.load(current.id).id) / bundles.RANKER, current.features.hash)
            return ranker.score, f"bundle {current.id}"
    except HeadwaterError as error:
        log.error("the bundle that serves cannot be compared with: %s", error)
    fused = names.index("fused")
    return (lambda matrix: matrix[:, fused]), "the blend"


def _without_ranker(
    settings: Settings, embedder: Embedder | None, shop: Rehearsal, store: Bundles, now_ms: int, lessons: int
) -> Outcome:
    why = (
        f"{lessons} lists with a label, and a ranker is trained from {settings.training.min_groups} on "
        "(training.min_groups): the blend goes on answering"
    )
    if store.current_id() is not None:
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
        space_id=embedder.space_id if embedder else "",
        encoder=EncoderReference(embedder.name, embedder.weights_sha256) if embedder else EncoderReference("none", ""),
        text=msgspec.to_builtins(settings.text),
        user_vector={"rule": "weighted mean of recent items", "items": settings.ranking.user_items},
        features=FeatureSchema.of(features.names(settings)),
        max_event_time=shop.now_ms,
        ranker="lambdarank" if ranker else "blend",
        metrics={name: float(np.round(value, 6)) for name, value in metrics.items()},
    )
    return store.write(contents, lambda folder: bundles.save(folder, ranker, shop.snapshot))
