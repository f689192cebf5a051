"""What the jobs did and what one of them does now: two files beside the bundles, for people and pages.

    <bundles>/history.jsonl    one line for each run that ended, oldest first
    <bundles>/.progress.json   the run that goes on; left behind by one that was killed

A line is appended in one write, and one that a crash cut off is passed over. Whether the run of the second
file still lives, the lock of `jobs.trainer.alone` knows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from core.claim import Claim
from core.errors import HeadwaterError, Unavailable
from core.settings import Settings

HISTORY, PROGRESS, LOCK = "history.jsonl", ".progress.json", ".training"
TOLD_S: Final = 1.0  # between two writes of how far a run is
RESULTS: Final = ("promoted", "held", "refused", "kept", "failed", "killed", "rolled back")

Progress = Callable[[str, int, int], None]


class Ran(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that ended, or a bundle that was moved by hand or by its probation. Times in ms since 1970, UTC."""

    what: str  # ranker, encoder, search, promote, rollback, probation
    begun_ms: int
    ended_ms: int
    result: str  # one of RESULTS
    why: str = ""
    bundle: str = ""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A run that goes on. `done` of `total` pieces of its present work; a total of 0 is not known."""

    what: str
    begun_ms: int
    work: str = ""
    done: int = 0
    total: int = 0


class Noted:
    """A run, while it goes on: `progress` is told how far it is, `end` what came of it."""

    def __init__(self, root: Path, what: str, now_ms: Callable[[], int], progress: Progress) -> None:
        self._root, self._now_ms, self._shown = root, now_ms, progress
        self._running = Running(what=what, begun_ms=now_ms())
        self._told_s = float("-inf")
        self._ended: tuple[str, str, str] | None = None

    def progress(self, work: str, done: int, total: int) -> None:
        self._shown(work, done, total)
        new = work != self._running.work
        self._running = msgspec.structs.replace(self._running, work=work, done=done, total=total)
        if new or time.monotonic() - self._told_s >= TOLD_S:
            self.tell()

    def tell(self) -> None:
        """Put it where others see it."""
        self._told_s = time.monotonic()
        partial = self._root / (PROGRESS + ".partial")
        partial.write_bytes(msgspec.json.encode(self._running))
        partial.replace(self._root / PROGRESS)

    def end(self, result: str, why: str, bundle: str = "") -> None:
        """Say what came of it."""
        self._ended = (result, why, bundle)

    def close(self) -> None:
        """Write the end down."""
        result, why, bundle = self._ended or ("failed", "it ended without a result", "")
        append(self._root, _ran(self._running, self._now_ms(), result, why, bundle))
        (self._root / PROGRESS).unlink(missing_ok=True)


@contextmanager
def noted(settings: Settings, what: str, now_ms: Callable[[], int], progress: Progress) -> Iterator[Noted]:
    """Note a run, whatever becomes of it; the caller holds `jobs.trainer.alone`, so that what is left is dead."""
    root = settings.bundles.path
    root.mkdir(parents=True, exist_ok=True)
    left = _running(root)
    if left is not None and all(one.begun_ms != left.begun_ms for one in runs(settings)):
        append(root, _ran(left, now_ms(), "killed", f"while {left.work or 'it began'}"))
    run = Noted(root, what, now_ms, progress)
    run.tell()
    try:
        yield run
    except (HeadwaterError, OSError, KeyboardInterrupt) as error:
        run.end("failed", str(error) or type(error).__name__)
        run.close()
        raise
    run.close()


def note(settings: Settings, what: str, now_ms: int, result: str, why: str, bundle: str) -> None:
    """Write down what took no time."""
    append(
        settings.bundles.path,
        Ran(what=what, begun_ms=now_ms, ended_ms=now_ms, result=result, why=why, bundle=bundle),
    )


def append(root: Path, ran: Ran) -> None:
    """Add a line, and wait for the disk."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / HISTORY
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    line = (b"" if whole else b"\n") + msgspec.json.encode(ran) + b"\n"
    file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def runs(settings: Settings) -> list[Ran]:
    """All that ended, newest first; lines that cannot be read are passed over."""
    path = settings.bundles.path / HISTORY
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            found.append(msgspec.json.decode(line, type=Ran))
        except msgspec.DecodeError:
            continue
    return found[::-1]


def running(settings: Settings) -> Running | None:
    """The run that goes on; None where none does, or the one that told last was killed."""
    root = settings.bundles.path
    now = _running(root)
    if now is None:
        return None
    try:
        with Claim(root / LOCK, "it lives"):
            return None
    except Unavailable:
        return now


class State(NamedTuple):
    """What runs, and what ended, newest first."""

    now: Running | None
    ended: list[Ran]


def look(settings: Settings) -> State:
    """How it stands; reads the whole history."""
    return State(running(settings), runs(settings))


def described(state: State, most: int = 10) -> dict[str, Any]:
    """For pages: what runs, the newest runs, and how many ended how."""
    now, ended = state
    return {
        "running": msgspec.to_builtins(now) if now else None,
        "runs": [msgspec.to_builtins(one) for one in ended[:most]],
        "results": dict(Counter(one.result for one in ended)),
    }


def figures(state: State) -> dict[str, Any]:
    """The same as numbers, for metrics."""
    now, ended = state
    share = now.done / now.total if now and now.total else 0.0
    counts = Counter(one.result for one in ended)
    return {
        "job_running": now is not None,
        "job_progress": round(share, 4),
        "job_last_ended_ms": ended[0].ended_ms if ended else 0,
        "job_results": {name: counts[name] for name in RESULTS},
    }


def _ran(running: Running, now_ms: int, result: str, why: str, bundle: str = "") -> Ran:
    return Ran(what=running.what, begun_ms=running.begun_ms, ended_ms=now_ms, result=result, why=why, bundle=bundle)


def _running(root: Path) -> Running | None:
    try:
        return msgspec.json.decode((root / PROGRESS).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
