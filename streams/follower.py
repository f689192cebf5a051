"""Follows the embedded log with the runner: every record once, in the order of arrival.

State, positions and derived records are stored together, so that a process killed at any moment
goes on where the last commit was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from core.claim import Claim
from core.errors import BadInput, Unavailable
from core.settings import Settings
from streams.log import EmbeddedLog, Entry, New
from streams.messages import as_fed, messages, of_output, unreadable
from streams.records import Place
from streams.runner import Runner, Sink
from streams.topology import SOURCES, build

log = logging.getLogger("headwater")

GROUP: Final = "runner"
BATCH: Final = 500  # records taken at a time
COMMIT_S: Final = 1.0
RETRY_S: Final = 1.0
TABLES_KEPT: Final = 200_000  # states of one table in memory; the others are read when needed


class Follower:
    """The one process that takes in a log. `done` is the last offset taken in, by topic and partition."""

    def __init__(self, settings: Settings, opened: EmbeddedLog, publish: Sink) -> None:
        """`publish` is told of every change of a serving topic, in the thread that runs.

        Raises:
            Unavailable: another process follows the log.
        """
        path = settings.log.path
        self._claim = Claim(
            path.with_name(f"{path.name}-lock"), f"{path} is in use: one process at a time serves from a log"
        )
        self._log, self._commit_every = opened, settings.log.commit_every
        self.runner = Runner(build(settings), publish, self._emit, opened.get)
        self._positions = opened.positions(GROUP)
        self.done: dict[Place, int] = dict(self._positions)
        self.caught_up = False
        self._outputs: list[New] = []
        self._since = 0  # records since the last commit
        self._committed = time.monotonic()

    def run(self, stopping: threading.Event, moved: Callable[[], None]) -> None:
        """Follow until `stopping`; `moved` is called whenever records have taken effect."""
        while not stopping.is_set():
            taken = self._take()
            if taken:
                moved()
            if self._since and (self._since >= self._commit_every or time.monotonic() - self._committed >= COMMIT_S):
                self._commit(stopping)
            if not taken:
                self._log.wait(0.05 if self._since else 0.5)
        if self._since:
            self._commit(stopping)

    def lag(self) -> int:
        """How many records are yet to be taken in."""
        done = self.done
        return sum(last - done.get(place, -1) for place, last in self._log.ends().items() if place[0] in SOURCES)

    def close(self) -> None:
        """Let another process follow the log."""
        self._claim.release()

    def _take(self) -> int:
        entries = self._log.read_all(SOURCES, self._positions, BATCH)
        for entry in entries:
            self._apply(entry)
            self._positions[entry.topic, entry.partition] = entry.offset
        self._since += len(entries)
        self.done = dict(self._positions)
        self.caught_up = self.caught_up or len(entries) < BATCH
        return len(entries)

    def _apply(self, entry: Entry) -> None:
        try:
            for message in messages(entry):
                if isinstance(message, BadInput):
                    self._outputs.append(unreadable(entry, str(message)))
                else:
                    self.runner.accept(as_fed(message))
        except BadInput as error:
            self._outputs.append(unreadable(entry, str(error)))

    def _emit(self, topic: str, key: str, value: Any) -> None:
        self._outputs.append(of_output(topic, key, value))

    def _commit(self, stopping: threading.Event) -> None:
        """Store what was taken in. While the log takes no writes nothing more is taken in either."""
        tables = {name: table.take_dirty() for name, table in self.runner.tables.items()}
        while True:
            try:
                self._log.commit(GROUP, positions=self._positions, tables=tables, outputs=self._outputs)
                break
            except Unavailable as error:
                log.error("state not stored, trying again: %s", error)
                if stopping.wait(RETRY_S):
                    return  # the log still has every record; the next start takes them in again
        self._outputs = []
        self._since, self._committed = 0, time.monotonic()
        for table in self.runner.tables.values():
            table.shrink(TABLES_KEPT)
