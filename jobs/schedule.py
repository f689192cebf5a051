"""When the ranker job is due, and running it beside the gateway: as a process of its own, and a polite one."""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.bundle import Bundles
from core.errors import HeadwaterError
from core.ids import HOUR_MS
from core.manifest import Manifest
from core.settings import Settings

log = logging.getLogger("headwater")

LOOK_S: Final = 10.0  # between two looks whether it is due
NICE: Final = 10
EVENTS_A_LIST: Final = 10  # below so many events for each of training.min_groups the first try is not worth it
RETRY_MS: Final = HOUR_MS
STOP_S: Final = 10.0


class Tried(NamedTuple):
    """The last run that this process began: when (ms), and how many events the log had taken by then."""

    ts: int = 0
    events: int = 0


def due(bundles: Sequence[Manifest], events: int, now_ms: int, tried: Tried, settings: Settings) -> bool:
    """Whether to train now.

    With a ranker at hand, after `training.every_s` of wall time; without one, as soon as there may
    be enough to learn from, and again whenever the log has doubled since.

    Args:
        bundles: newest first, whether they serve or not.
        events: how many the log has ever taken.
        now_ms: wall clock.
        tried: `Tried()` before the first run.
        settings: of the shop.
    """
    trained = next((one for one in bundles if one.ranker != "blend"), None)
    if trained is None:
        return events >= max(EVENTS_A_LIST * settings.training.min_groups, 2 * tried.events)
    old = now_ms - trained.created_ms >= settings.training.every_s * 1000.0
    return old and now_ms - tried.ts >= RETRY_MS


class Trainer:
    """Runs the job when it is due, one at a time. `running`, `runs` and `failed` tell what it does and did.

    Args:
        settings: of the shop.
        command: what trains and promotes.
        events: how many the log has ever taken.
        now_ms: wall clock.
    """

    def __init__(
        self, settings: Settings, command: Sequence[str], events: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self._settings, self._command, self._events, self._now_ms = settings, command, events, now_ms
        self._bundles = Bundles(settings.bundles.path, settings.bundles.keep)
        self._tried = Tried()
        self.running = False
        self.runs = self.failed = 0

    async def run(self) -> None:
        """Look now and then until cancelled; a run that is going on is then ended."""
        while True:
            pause_s = LOOK_S
            try:
                if await asyncio.to_thread(self._due):
                    self._tried = Tried(self._now_ms(), self._events())
                    await self._train()
            except HeadwaterError as error:
                log.error("job=train not begun: %s", error)
                pause_s = RETRY_MS / 1000
            await asyncio.sleep(pause_s)

    def _due(self) -> bool:
        return due(self._bundles.list(), self._events(), self._now_ms(), self._tried, self._settings)

    async def _train(self) -> None:
        log.info("job=train begins")
        # A session of its own: Ctrl-C is for the gateway, which then ends the job.
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
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
        self.runs += 1
        self.failed += process.returncode != 0
        level = logging.ERROR if process.returncode else logging.INFO
        told = said + complained if process.returncode else said  # progress is told on stderr too
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
