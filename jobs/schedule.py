"""When the jobs are due, and running them beside the gateway: as processes of their own, and polite ones."""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.bundle import Bundles
from core.errors import HeadwaterError
from core.ids import DAY_MS, HOUR_MS
from core.manifest import Manifest
from core.settings import Settings
from jobs import served
from jobs.history import Ran, runs

log = logging.getLogger("headwater")

LOOK_S: Final = 10.0  # between two looks whether it is due
NICE: Final = 10
EVENTS_A_LIST: Final = 10  # below so many events for each of training.min_groups the first try is not worth it
RETRY_MS: Final = HOUR_MS
STOP_S: Final = 10.0
DECIDED: Final = (0, 3, 4)  # exit codes of a run that came to a result: promoted, held, refused


class Tried(NamedTuple):
    """The last run that this process began: when (ms), and how many events the log had taken by then."""

    ts: int = 0
    events: int = 0


def due(
    bundles: Sequence[Manifest],
    events: int,
    now_ms: int,
    tried: Tried,
    settings: Settings,
    *,
    moved: bool = False,
) -> bool:
    """Whether to train a ranker now.

    With a ranker at hand, after `training.every_s` of wall time, when `training.growth` as many events again have
    come, or when features have moved; without one, as soon as there may be enough to learn from, and again
    whenever the log has doubled since.

    Args:
        bundles: newest first, whether they serve or not.
        events: how many the log has ever taken.
        now_ms: wall clock.
        tried: `Tried()` before the first run.
        settings: of the shop.
        moved: whether the features of served lists are others than they were in training.
    """
    trained = next((one for one in bundles if one.ranker != "blend"), None)
    if trained is None:
        return events >= max(EVENTS_A_LIST * settings.training.min_groups, 2 * tried.events)
    old = now_ms - trained.created_ms >= settings.training.every_s * 1000.0
    known = trained.metrics.get("events", 0.0)
    grown = 0 < known * (1.0 + settings.training.growth) <= events
    return (old or grown or moved) and now_ms - max(tried.ts, trained.created_ms * (not old)) >= RETRY_MS


def encoder_due(bundles: Sequence[Manifest], ended: Sequence[Ran], now_ms: int, settings: Settings) -> bool:
    """Whether to train the encoder now: `tuning.every_s` after it was, or after the first ranker was made.

    A run that was killed is gone on with after an hour, one that failed is tried again after a day.

    Args:
        bundles: newest first.
        ended: runs, newest first.
        now_ms: wall clock.
        settings: of the shop.
    """
    rankers = [one.created_ms for one in bundles if one.ranker != "blend"]
    if not settings.tuning.every_s or settings.encoder.model == "none" or not rankers:
        return False
    last = next((one for one in ended if one.what == "encoder"), None)
    if last is None:
        return now_ms - min(rankers) >= settings.tuning.every_s * 1000.0
    waits_ms = {"killed": RETRY_MS, "failed": DAY_MS}.get(last.result, settings.tuning.every_s * 1000.0)
    return now_ms - last.ended_ms >= waits_ms


class Trainer:
    """Runs the jobs when they are due, one at a time. `running`, `runs` and `failed` tell what it does and did.

    Args:
        settings: of the shop.
        command: what trains and promotes a ranker; "ranker" in it stands for the job.
        events: how many the log has ever taken.
        now_ms: wall clock.
    """

    def __init__(
        self, settings: Settings, command: Sequence[str], events: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self._settings, self._command, self._events, self._now_ms = settings, command, events, now_ms
        self._bundles = Bundles(settings.bundles.path, settings.bundles.keep)
        self._tried = Tried()
        self._looked_ms = 0
        self.running = False
        self.runs = self.failed = 0

    async def run(self) -> None:
        """Look now and then until cancelled; a run that is going on is then ended."""
        while True:
            pause_s = LOOK_S
            try:
                job = await asyncio.to_thread(self._due)
                if job:
                    self._tried = Tried(self._now_ms(), self._events())
                    await self._train(job)
            except HeadwaterError as error:
                log.error("job=train not begun: %s", error)
                pause_s = RETRY_MS / 1000
            await asyncio.sleep(pause_s)

    def _due(self) -> str:
        """The job to do now; empty for none."""
        now_ms, bundles = self._now_ms(), self._bundles.list()
        if due(bundles, self._events(), now_ms, self._tried, self._settings, moved=self._moved(now_ms)):
            return "ranker"
        if now_ms - self._tried.ts < RETRY_MS:
            return ""
        return "encoder" if encoder_due(bundles, runs(self._settings), now_ms, self._settings) else ""

    def _moved(self, now_ms: int) -> bool:
        """Whether features have moved; looked at once an hour."""
        current = self._bundles.current_id()
        if current is None or not self._settings.training.drift or now_ms - self._looked_ms < RETRY_MS:
            return False
        self._looked_ms = now_ms
        folder = self._bundles.folder(current)
        if not (folder / served.FILE).exists():
            return False
        high = served.moved(folder, served.newest(self._settings, now_ms), self._settings.training.drift)
        if high:
            log.info("job=train due: %d features of served lists have moved", high)
        return bool(high)

    async def _train(self, job: str) -> None:
        log.info("job=train begins: %s", job)
        # A session of its own: Ctrl-C is for the gateway, which then ends the job.
        process = await asyncio.create_subprocess_exec(
            *[job if part == "ranker" else part for part in self._command],
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        self.running = True
        try:
            said, complained = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)
            raise
        finally:
            self.running = False
        failed = process.returncode not in DECIDED
        self.runs += 1
        self.failed += failed
        level = logging.ERROR if failed else logging.INFO
        told = said + complained if failed else said  # progress is told on stderr too
        for line in told.decode("utf-8", "replace").splitlines():
            log.log(level, "job=train %s", line)
        log.log(level, "job=train ended, exit code %s", process.returncode)


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
