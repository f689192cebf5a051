"""The ranker job: check and rehearse what was recorded, learn, judge, write a bundle.

What was logged with real decisions is learnt from as it was logged; the rest of the log is
rehearsed, so that a shop that has just imported its history starts with a trained ranker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from core.bundle import Bundles
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import Settings
from jobs import champion as champions
from jobs import served
from jobs.champion import Champion
from jobs.checks import Finding, fresh_days, of_lessons, of_records, refused
from jobs.comparison import FEWEST, compare
from jobs.embedding import Embedder
from jobs.gate import Verdict, save
from jobs.learning import learn
from jobs.lessons import Lesson
from jobs.material import PLAYED, Material, Played, Progress, material
from jobs.recordings import EVENTS, recording, told
from jobs.tally import Tally
from ranker import bundle as bundles
from ranker import features
from ranker.model import Ranker

log = logging.getLogger("headwater")

WARM_UP: Final = 2.0  # of an archive, so many times training.window_s is played: the state of what is learnt from
CHECKED: Final = (*PLAYED, "decisions", "labelled")
Result = Literal["promoted", "held", "refused", "kept"]
EXIT: Final[dict[Result, int]] = {"promoted": 0, "kept": 0, "held": 3, "refused": 4}  # codes of headwater train


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the job came to. `manifest` is None where nothing was written.

    A bundle that is held waits for a person; with "kept" there was nothing to decide.
    """

    manifest: Manifest | None
    verdict: Verdict | None
    lessons: int
    result: Result
    why: str
    findings: tuple[Finding, ...] = ()

    @property
    def promoted(self) -> bool:
        return self.result == "promoted"


@dataclass(frozen=True, slots=True)
class _Run:
    """What all parts of one run know."""

    material: Material
    store: Bundles
    champion: Champion
    now_ms: int
    force: bool
    unseen_ms: int


def run(
    settings: Settings,
    embedder: Embedder | None,
    now_ms: int,
    progress: Progress,
    *,
    force: bool = False,
    archive: str = "",
    unseen_ms: int = 0,
) -> Outcome:
    """Train a ranker from what was recorded, and promote its bundle if it is better on newer lists.

    Args:
        settings: of the shop.
        embedder: of item text, or None. The encoder of a trained one goes into the bundle.
        now_ms: the time that the bundle bears.
        progress: told (what, done, total).
        force: promote whatever the checks and the comparison say.
        archive: a folder or URL to learn from; without one the archive of a shop on Kafka, else the embedded log.
        unseen_ms: what happened from here on the embedder's encoder has not learnt from; 0 for published weights.

    Raises:
        Missing: the recording holds nothing to learn from.
    """
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    champion = champions.of(store, settings, embedder)
    with recording(settings, archive, since_ms=_since(settings, now_ms)) as source:
        found = material(settings, embedder, source, progress)
        return _run(_Run(found, store, champion, now_ms, force, unseen_ms))


def lessons_of(
    settings: Settings, embedder: Embedder | None, now_ms: int, progress: Progress, archive: str = ""
) -> list[Lesson]:
    """What a ranker would learn from now, in time order.

    Raises:
        Missing: the recording holds nothing to learn from.
    """
    with recording(settings, archive, since_ms=_since(settings, now_ms)) as source:
        found = material(settings, embedder, source, progress)
        return found.lessons(found.play())


def _since(settings: Settings, now_ms: int) -> int:
    return max(0, now_ms - round(WARM_UP * settings.training.window_s * 1000))


def _run(now: _Run) -> Outcome:
    found, settings = now.material, now.material.settings
    fresh = fresh_days(found.newest_ms, now.champion.seen_ms)
    found.progress("checking the data", 0, 1)
    findings = of_records(Tally(found.newest_ms).take(told(found.source, CHECKED)), fresh)
    found.progress("checking the data", 1, 1)
    if refused(findings) and not now.force:
        return _refused(findings, 0)
    played = found.play()
    lessons = found.lessons(played)
    findings += of_lessons(lessons, features.names(settings), champions.blend(settings), found.newest_ms, fresh)
    for one in findings:
        log.warning("job=train check %s", one)
    if refused(findings) and not now.force:
        return _refused(findings, len(lessons))
    if len(lessons) < max(settings.training.min_groups, FEWEST):
        return _without_ranker(now, played, len(lessons))
    return _with_ranker(now, played, lessons, tuple(findings))


def _refused(findings: Sequence[Finding], lessons: int) -> Outcome:
    return Outcome(None, None, lessons, "refused", f"{refused(findings)}; --force trains all the same", tuple(findings))


def _with_ranker(now: _Run, played: Played, lessons: Sequence[Lesson], findings: tuple[Finding, ...]) -> Outcome:
    found = now.material
    found.progress("training", 0, 2)
    trees, verdict, why = compare(found, now.champion, lessons, now.unseen_ms, played.shop.snapshot.user)
    found.progress("training", 1, 2)
    ranker = learn(lessons, found.settings, trees)
    found.progress("training", 2, 2)
    events = float(found.source.count(EVENTS))
    metrics = {"lists": float(len(lessons)), "trees": float(ranker.trees), "events": events}
    if verdict is not None:
        metrics |= {"ndcg@10": verdict.challenger, "champion_ndcg@10": verdict.champion}
    manifest = _write(now, played, ranker, metrics, verdict)
    result: Result = verdict.result if verdict is not None else "held"
    if now.force:
        result = "promoted"
    if result == "promoted":
        now.store.promote(manifest.id, now.now_ms)
    now.store.prune()
    return Outcome(manifest, verdict, len(lessons), result, why, findings)


def _without_ranker(now: _Run, played: Played, lessons: int) -> Outcome:
    settings = now.material.settings
    why = (
        f"{lessons} lists with a label, and a ranker is trained from {settings.training.min_groups} on "
        "(training.min_groups): the blend goes on answering"
    )
    current = now.store.current()
    if now.unseen_ms or (current is not None and champions.fits(current, settings, now.material.embedder)):
        return Outcome(None, None, lessons, "kept", why)
    manifest = _write(now, played, None, {"lists": float(lessons)}, None)
    now.store.promote(manifest.id, now.now_ms)
    return Outcome(manifest, None, lessons, "promoted", why)


def _write(
    now: _Run, played: Played, ranker: Ranker | None, metrics: dict[str, float], verdict: Verdict | None
) -> Manifest:
    settings, embedder, shop = now.material.settings, now.material.embedder, played.shop
    contents = Contents(
        created_ms=now.now_ms,
        space_id=champions.space(embedder),
        encoder=embedder.reference if embedder else EncoderReference("none", ""),
        text=msgspec.to_builtins(settings.text),
        user_vector=shop.snapshot.user.facts(shop.snapshot.live),
        features=FeatureSchema.of(features.names(settings)),
        max_event_time=shop.now_ms,
        ranker="lambdarank" if ranker else "blend",
        metrics={name: float(np.round(value, 6)) for name, value in metrics.items()},
    )

    def fill(folder: Path) -> None:
        bundles.save(folder, ranker, shop.snapshot, embedder.folder if embedder else None)
        served.save(folder, played.served)
        if verdict is not None:
            save(folder, verdict)

    return now.store.write(contents, fill)
