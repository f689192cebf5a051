"""Ends a worker that is stuck, swollen or back from the dead, so that its supervisor starts a fresh one.

Nothing is lost by that: what was not committed is read again, and the guard knows what was taken in.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from core.settings import WorkerSettings

log = logging.getLogger("headwater")

LOOK_S: Final = 0.5
EX_TEMPFAIL: Final = 75
RECOVERY_FACTOR: Final = 5.0  # recovery may stand still for so many times stuck_s
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Seen(NamedTuple):
    """How a worker stood at `at` (seconds of `clock`)."""

    at: float
    reachable: bool = True  # brokers answer
    recovering: bool = True
    remaining: int = 0  # changelog records still to read
    lag: int = 0  # records that are not committed
    committed: int = 0  # sum of the committed offsets
    failed: str = ""  # why the app has crashed


def clock() -> float:
    """Seconds that go on while a process is stopped and, where the system has such a clock, while it sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Judge:
    """Says why a worker should end, from what was seen of it one look after the other."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._last: Seen | None = None
        self._moved = 0.0

    def verdict(self, seen: Seen, now: float, resident: int) -> str | None:
        """The reason, or None."""
        if seen.failed:
            return seen.failed
        last, self._last = self._last, seen
        same = last is not None and (last.committed, last.remaining, last.recovering) == (
            seen.committed,
            seen.remaining,
            seen.recovering,
        )
        if not same or not seen.reachable or (not seen.recovering and seen.lag == 0):
            self._moved = now
        if now - seen.at > self._settings.stuck_s:
            return f"its loop has not turned for {now - seen.at:.0f} s"
        patience = max(self._settings.stuck_s, 2 * self._settings.session_s)
        patience *= RECOVERY_FACTOR if seen.recovering else 1.0
        if now - self._moved > patience:
            what = f"{seen.remaining} records left to recover" if seen.recovering else f"{seen.lag} records behind"
            return f"nothing moved for {now - self._moved:.0f} s with {what}"
        if 0 < self._settings.memory_bytes < resident:
            return f"{resident:,} bytes are resident, worker.memory_bytes is {self._settings.memory_bytes:,}"
        return None


class Watchdog:
    """A thread that looks twice a second.

    Args:
        settings: of the worker.
        look: how it stands; called from the thread, so it only reads what the loop has noted.
        end: ends the process, `os._exit` unless a test asks otherwise.
    """

    def __init__(
        self, settings: WorkerSettings, look: Callable[[], Seen], end: Callable[[int], object] = os._exit
    ) -> None:
        self._settings, self._look, self._end = settings, look, end
        self._judge = Judge(settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._looked = clock()

    def start(self) -> None:
        self._looked = clock()
        self._thread.start()

    def check(self) -> None:
        """To be called before something is written: ends the process where it has just been stopped for long.

        The thread's own look may come a moment after what it should prevent.
        """
        self._wake(clock())

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            now = clock()
            if self._wake(now):
                return
            self._looked = now
            why = self._judge.verdict(self._look(), now, resident_bytes())
            if why is not None:
                self._finish(why)
                return

    def _wake(self, now: float) -> bool:
        stopped = paused(self._looked, now, self._settings)
        if stopped:
            self._finish(f"it was stopped for {now - self._looked:.0f} s, and its partitions may be others' by now")
        return stopped

    def _finish(self, why: str) -> None:
        finish(why, self._end)


def finish(why: str, end: Callable[[int], object] = os._exit) -> None:
    """End this process at once; what is not committed will be read again."""
    log.critical("worker ends: %s", why)
    logging.shutdown()
    end(EX_TEMPFAIL)


def paused(before: float, now: float, settings: WorkerSettings) -> bool:
    """Whether so much time lies between two looks that the group may have given the partitions away."""
    return now - before > 0.8 * settings.session_s


def resident_bytes() -> int:
    """Memory this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
