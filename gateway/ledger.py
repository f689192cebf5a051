"""Decisions on their way to Kafka, after the answer and never before it.

They are for training and attribution alone: while Kafka is away the newest are kept in memory up
to a limit, and older ones are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from core.decision import Decision
from gateway.spool import Unsent
from streams.messages import of_decision
from streams.partition import partition_of

log = logging.getLogger("headwater")

MOST_BYTES: Final = 64_000_000
AT_ONCE: Final = 200
RETRY_S: Final = 0.5
TELL_S: Final = 30.0


class Ledger:
    """Takes decisions from the event loop. `dropped` counts those that Kafka never got.

    Args:
        partitions: of the topic.
        offer: whether records were acknowledged.
        most_bytes: that wait at a time.
    """

    def __init__(
        self, partitions: int, offer: Callable[[Sequence[Unsent]], Awaitable[bool]], most_bytes: int = MOST_BYTES
    ) -> None:
        self._partitions, self._offer, self._most = partitions, offer, most_bytes
        self._waiting: deque[Unsent] = deque()
        self._bytes = self.dropped = 0
        self._told = -TELL_S
        self._news = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Send what comes."""
        self._work = asyncio.create_task(self._run())

    async def stop(self, within_s: float) -> None:
        """Send what waits if that is soon done."""
        ends = time.monotonic() + within_s
        while self._waiting and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    def add(self, decision: Decision) -> None:
        """Note a decision."""
        made = of_decision(decision)
        record = Unsent(made.topic, partition_of(made.key, self._partitions), made.key, made.value or b"")
        self._waiting.append(record)
        self._bytes += len(record.value)
        while self._bytes > self._most:
            self._bytes -= len(self._waiting.popleft().value)
            self.dropped += 1
            self._tell()
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            if not some:
                self._news.clear()
            elif await self._offer(some):
                self._bytes -= sum(len(one.value) for one in some)
            else:
                self._waiting.extendleft(reversed(some))
                await asyncio.sleep(RETRY_S)

    def _tell(self) -> None:
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            log.error("decisions=%d dropped so far: Kafka does not take them", self.dropped)
