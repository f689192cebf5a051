"""The encoder job: learn from what was recorded, measure on what came later, write an encoder that can be named.

A run that is killed goes on: what it learns from is fixed by the moment it began at, which lies
beside its checkpoint, so that the same data comes to the same place.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, ItemChange
from core.errors import BadSettings
from core.events import Event
from core.ids import DAY_MS, digest
from core.settings import Settings
from jobs.pairs import CROP, REORDER, Histories, histories, pairs
from jobs.recordings import EVENTS, catalogue, recording, told
from jobs.text_quality import Gain, Kernel, Question, cut, gains, ndcg, questions, ranks
from models.augment import FIELDS, WORDS
from models.pairs import Pairs
from models.text import item_text
from models.vectors import Vectors
from models.weights import locate, weights_sha256
from streams import recorded

CHECKPOINT, BEGUN = "run.safetensors", "run.json"
RESUMED_MS: Final = 7 * DAY_MS  # a run that began longer ago is begun anew
OPTIONS: Final = (FIELDS, WORDS, CROP, REORDER)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `folder` can be named in `encoder.model`; None where nothing was gained.

    `figures` are those of the text channel alone: of all questions, and of those whose target nobody
    had touched before ("cold"); where an encoder was trained further, also of an older slice ("older").
    """

    folder: Path | None
    figures: dict[str, dict[str, Gain]]
    questions: dict[str, int]
    rounds: tuple[tuple[float, float, float], ...]
    pairs_per_s: float
    seconds: float
    why: str
    unseen_ms: int  # what happened from here on was neither learnt from nor used to choose


@dataclass(frozen=True, slots=True)
class Task:
    """What is learnt from, and what it is judged by."""

    texts: list[str]
    pairs: Pairs
    choose: list[Question]
    asked: dict[str, list[Question]]
    newest_ms: int
    unseen_ms: int


class _Begun(msgspec.Struct, frozen=True):
    now_ms: int
    about: str


def run(
    settings: Settings,
    now_ms: int,
    progress: Progress,
    *,
    archive: str = "",
    stream: Path | None = None,
    seconds: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Train the encoder of the settings on their recording; one at a time (`jobs.trainer.alone`).

    Training begins from `encoder.model`. Where that was trained here before, it is trained further: older
    pairs are mixed in, and weights are held near what they were.

    Args:
        settings: of the shop.
        now_ms: only what is strictly older is learnt from or measured on.
        progress: told (what, done, total).
        archive: a folder or URL to learn from, as in `jobs.recordings.recording`.
        stream: a recorded stream to learn from instead.
        seconds: a clock, for the time limit and the figures.

    Raises:
        BadSettings: text is switched off, or an option of `tuning.augment` is none.
        Missing: too little was recorded.
    """
    from models.trained import notes_of

    _check(settings)
    store, about = settings.tuning.path, mark_of(settings)
    begun = _begun(store, now_ms, about)
    base = notes_of(locate(settings.encoder.model))
    with _recorded(settings, archive, stream, begun.now_ms) as (changes, events):
        items = catalogue(one for one in changes if one.ts < begun.now_ms)
        found = histories(events, begun.now_ms, max(0, begun.now_ms - round(settings.tuning.window_s * 1000)))
    lesson = _lesson(settings, items, found, base.max_event_ms if base else 0)
    _note(store, begun)
    outcome = _train(settings, lesson, about, progress, seconds, further=base is not None)
    (store / BEGUN).unlink(missing_ok=True)
    (store / CHECKPOINT).unlink(missing_ok=True)
    return outcome


def task_of(settings: Settings, now_ms: int, archive: str = "") -> Task:
    """What an encoder would learn from now, and be judged by, as if none had been trained here before.

    Raises:
        BadSettings: text is switched off.
        Missing: too little was recorded.
    """
    _check(settings)
    with _recorded(settings, archive, None, now_ms) as (changes, events):
        items = catalogue(one for one in changes if one.ts < now_ms)
        found = histories(events, now_ms, max(0, now_ms - round(settings.tuning.window_s * 1000)))
    return _lesson(settings, items, found, 0)


def mark_of(settings: Settings) -> str:
    """Names all that a run is about but its data; a run with another mark is begun anew."""
    about = (settings.tuning, settings.encoder, settings.text)
    return digest(msgspec.json.encode(about, enc_hook=str, order="sorted"))


def _check(settings: Settings) -> None:
    if settings.encoder.model == "none":
        raise BadSettings('encoder.model is "none": there is no encoder to train')
    for name in settings.tuning.augment:
        if name not in OPTIONS:
            raise BadSettings(f"tuning.augment may hold {', '.join(OPTIONS)}, got {name!r}")


def _begun(store: Path, now_ms: int, about: str) -> _Begun:
    """The moment of a run of the same settings that left a checkpoint; else now."""
    path = store / BEGUN
    if path.exists() and (store / CHECKPOINT).exists():
        try:
            begun = msgspec.json.decode(path.read_bytes(), type=_Begun)
        except msgspec.DecodeError:
            return _Begun(now_ms, about)
        if begun.about == about and now_ms - begun.now_ms < RESUMED_MS:
            return begun
    return _Begun(now_ms, about)


def _note(store: Path, begun: _Begun) -> None:
    store.mkdir(parents=True, exist_ok=True)
    partial = store / (BEGUN + ".partial")
    partial.write_bytes(msgspec.json.encode(begun))
    partial.replace(store / BEGUN)


@contextmanager
def _recorded(
    settings: Settings, archive: str, stream: Path | None, now_ms: int
) -> Iterator[tuple[Iterable[ItemChange], Iterable[Event]]]:
    """Item changes and events, in the order of arrival."""
    if stream is not None:
        changes = (one for one in recorded.read(stream) if isinstance(one, ItemChange))
        yield changes, (one for one in recorded.read(stream) if isinstance(one, Event))
        return
    since_ms = max(0, now_ms - round(settings.tuning.window_s * 1000))
    with recording(settings, archive, since_ms=since_ms) as source:
        yield (
            (one for one in told(source, ("items",)) if isinstance(one, ItemChange)),
            (one for one in told(source, EVENTS) if isinstance(one, Event)),
        )


def _lesson(settings: Settings, items: dict[str, Item], found: Histories, known_ms: int) -> Task:
    """Cut the history in three: to learn from, to know when to stop, to say how good it is."""
    names = sorted(items)
    rows = {name: row for row, name in enumerate(names)}
    texts = [item_text(items[name], settings.text) or name for name in names]
    held = settings.tuning.held_out
    parts = cut(found, rows, held, "an encoder")
    times = parts.times
    touched = {rows[one.item] for _, seen in parts.known.shoppers() for one in seen if one.item in rows}
    asked = {"all": parts.asked, "cold": [one for one in parts.asked if one.target not in touched]}
    known_ms = known_ms if times[0] < known_ms < parts.stop_ms else 0
    if known_ms:
        older_ms = times[int((1 - held) * bisect_left(times, known_ms))]
        asked["older"] = questions(found.before(known_ms), rows, older_ms, known_ms)
    learnt = pairs(
        parts.learnt, rows, settings.tuning, now_ms=parts.stop_ms, seed=settings.training.seed, new_ms=known_ms
    )
    return Task(texts, learnt, parts.choose, asked, found.newest_ms, parts.last_ms)


def _train(
    settings: Settings,
    lesson: Task,
    about: str,
    progress: Progress,
    seconds: Callable[[], float],
    *,
    further: bool,
) -> Outcome:
    from models.tower import Tower  # torch takes seconds to import
    from models.trained import Notes, write
    from models.training import Run

    begun, kernel = seconds(), Kernel(settings.ranking.user_items)
    tower = Tower(settings.encoder, settings.tuning, lesson.texts, lambda *done: progress("frozen layers", *done))
    before = tower.every(lambda *done: progress("encoding the catalogue", *done))

    def judge(vectors: Vectors) -> float:
        return float(ndcg(ranks(vectors, lesson.choose, kernel)).mean())

    mark = digest(about, *lesson.texts, lesson.pairs.targets.tobytes(), lesson.pairs.weights.tobytes())
    training = Run(
        tower,
        lesson.pairs,
        judge,
        settings.tuning,
        seed=settings.training.seed,
        seconds=seconds,
        file=settings.tuning.path / CHECKPOINT,
        mark=mark,
        progress=progress,
        base=further,
    )
    found = training.fit()
    figures = _figures(before, found.vectors, lesson, kernel)
    folder = None
    if found.best > found.before:
        notes = Notes(
            base=settings.encoder.model,
            base_sha256=weights_sha256(tower.folder),
            rung=settings.tuning.rung,
            seed=settings.training.seed,
            max_event_ms=lesson.newest_ms,
            figures={name: {m: tuple(one.gain) for m, one in some.items()} for name, some in figures.items()},
        )
        folder = write(tower, settings.tuning.path, notes)
    return Outcome(
        folder=folder,
        figures=figures,
        questions={name: len(asked) for name, asked in lesson.asked.items()},
        rounds=found.rounds,
        pairs_per_s=found.pairs / max(found.seconds, 1e-9),
        seconds=seconds() - begun,
        why=_why(figures["all"]) if folder else "no round was better than the encoder before: it stays",
        unseen_ms=lesson.unseen_ms,
    )


def _figures(before: Vectors, after: Vectors, lesson: Task, kernel: Kernel) -> dict[str, dict[str, Gain]]:
    def places(vectors: Vectors, asked: list[Question]) -> NDArray[np.int64]:
        return ranks(vectors, asked, kernel)

    return {name: gains(places(before, asked), places(after, asked)) for name, asked in lesson.asked.items() if asked}


def _why(figures: dict[str, Gain]) -> str:
    said = (f"{name} {one.before.mean:.4f} → {one.after.mean:.4f}, gain {one.gain}" for name, one in figures.items())
    return "text alone, on newer events: " + "; ".join(said)


def lines(outcome: Outcome) -> list[str]:
    """What to tell of a run."""
    every = chain.from_iterable(
        (f"{name} ({outcome.questions[name]:,}) {measure}: {gain}" for measure, gain in some.items())
        for name, some in outcome.figures.items()
    )
    speed = f"{len(outcome.rounds)} rounds in {outcome.seconds:.0f} s, {outcome.pairs_per_s:.0f} pairs/s"
    end = f"{outcome.folder}: {outcome.why}" if outcome.folder else outcome.why
    return [*every, speed, end]
