"""`headwater trainer`: looks when a training is due, and runs it; for a shop whose log is Kafka."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from core.claim import MOMENTS, Claim
from core.errors import Unavailable
from core.settings import Settings
from jobs import probation
from jobs.history import LOCK, figures, look
from jobs.recordings import EVENTS, recording
from jobs.schedule import Trainer
from streams import health

log = logging.getLogger("headwater")

COUNT_S: Final = 60.0  # a count of the archive's events is good for so long
TURN_S: Final = 10.0  # between two looks whether a training that somebody else began is over


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only training of these bundles, whoever begins it: a trainer, a gateway or a person.

    Raises:
        Unavailable: another process is training.
    """
    folder = settings.bundles.path
    with Claim(folder / LOCK, f"another training writes to {folder}: one at a time", MOMENTS):
        yield


def run(
    settings: Settings,
    command: Sequence[str],
    now_ms: Callable[[], int],
    ready: Callable[[int], None] = lambda port: None,
    *,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Train when it is due, until SIGTERM or SIGINT, which ends a training that is going on.

    Args:
        settings: of the shop.
        command: what trains and promotes; it should hold `alone`.
        now_ms: wall clock.
        ready: told the port of the health page when that is there.
        host: of the health page, where it is not training.host.
        port: of the health page, where it is not training.port.

    Raises:
        BadSettings: the archive's URL or the page's address is none.
        Unavailable: another trainer runs for these bundles, or the port is in use.
    """
    folder = settings.bundles.path
    with Claim(folder / ".trainer", f"another trainer runs for {folder}: one at a time", MOMENTS):
        service = Service(settings, command, now_ms)
        host = settings.training.host if host is None else host
        port = settings.training.port if port is None else port
        with health.serve(host, port, service.described) as page:
            ready(page.port)
            asyncio.run(service.run())


class Service:
    """The schedule of `jobs.schedule`, with the archive's events for a log."""

    def __init__(self, settings: Settings, command: Sequence[str], now_ms: Callable[[], int]) -> None:
        self._settings, self._now_ms = settings, now_ms
        self._counted_s = float("-inf")
        self._events = 0
        self._failing = ""
        self._waiting = False
        self._trainer = Trainer(settings, command, self.events, now_ms)

    def events(self) -> int:
        """How many the archive has, as of a minute ago at most; where it cannot be read, what was known last."""
        if time.monotonic() - self._counted_s < COUNT_S:
            return self._events
        try:
            with recording(self._settings) as source:
                self._events = source.count(EVENTS)
            self._failing = ""
        except Unavailable as error:
            log.error("%s", error)
            self._failing = str(error)
        self._counted_s = time.monotonic()
        return self._events

    def described(self) -> health.Described:
        """For the health page, from any thread. A training that fails is told, but no reason to start us anew."""
        trainer = self._trainer
        return not self._failing, figures(look(self._settings)) | {
            "events": self._events,
            "training": trainer.running,
            "trainings": trainer.runs,
            "trainings_failed": trainer.failed,
            "waiting_for_another": self._waiting,
            "archive_failing": self._failing,
        }

    async def run(self) -> None:
        """Train when it is due until a signal comes."""
        work = asyncio.create_task(self._work())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with suppress(asyncio.CancelledError):
            await work
        log.info("the trainer ends after %d trainings, %d of which failed", self._trainer.runs, self._trainer.failed)

    async def _work(self) -> None:
        """A trainer that was killed leaves its training behind: that one ends first."""
        while self._busy():
            self._waiting = True
            log.info("another training is going on; looking again in %.0f s", TURN_S)
            await asyncio.sleep(TURN_S)
        self._waiting = False
        async with asyncio.TaskGroup() as both:  # which waits for a training that it ends
            both.create_task(self._trainer.run())
            both.create_task(probation.watch(self._settings, self._now_ms))

    def _busy(self) -> bool:
        try:
            with alone(self._settings):
                return False
        except Unavailable:
            return True
