"""Where accepted records go: to Kafka, and to the spool while it does not acknowledge them.

While the spool holds anything everything goes there, so that no record overtakes an earlier one
of its partition; what it holds is sent on in order as soon as Kafka answers again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from core.settings import KafkaSettings
from gateway.spool import Spool, Unsent

log = logging.getLogger("headwater")

RETRY_S: Final = 1.0  # between two attempts to reach Kafka
STUCK_S: Final = 60.0  # a producer that gets nothing acknowledged for this long is replaced
AT_ONCE: Final = 500  # records of the spool that are in flight
TELL_S: Final = 30.0  # between two lines that say the same

T = TypeVar("T")


class Producer(Protocol):
    """A connection that takes records; `gateway.producer` has the real one."""

    async def send(self, records: Sequence[Unsent]) -> None:
        """Return when all are acknowledged; those of one partition are written in order."""
        ...

    async def close(self) -> None:
        """Give up whatever is not acknowledged."""
        ...


class Outlet:
    """Call `start` in the event loop that serves, and `stop` at its end.

    Args:
        settings: how long an acknowledgement may take.
        spool: of this process; closed by `stop`.
        connect: opens a producer, and raises while Kafka cannot be reached.
    """

    def __init__(
        self, settings: KafkaSettings, spool: Spool, connect: Callable[[], Coroutine[Any, Any, Producer]]
    ) -> None:
        self._send_s, self._connect = settings.send_s, connect
        self.spool = spool
        self._disk = ThreadPoolExecutor(1, "spool")  # one: appends and drops in the order they were asked for
        self._producer: Producer | None = None
        self._broken = False
        self._flying: set[asyncio.Future[None]] = set()  # sends without an answer
        self._late: set[asyncio.Future[None]] = set()  # of these, those that nobody waits for any more
        self._sent = 0  # records of the oldest segment that are acknowledged
        self._at_once = AT_ONCE
        self._news = asyncio.Event()
        self._tried = asyncio.Event()  # to connect, for the first time
        self._work: asyncio.Task[None] | None = None
        self._told = -TELL_S

    @property
    def open(self) -> bool:
        """Whether records go straight to Kafka; not while it still owes an answer."""
        return self._producer is not None and not self._broken and not self._late and self.spool.empty

    def start(self) -> None:
        """Connect, and send what an earlier process left in the spool."""
        self._work = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave the connection; what the spool holds stays there for the next process."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._leave()
        await self._on_disk(self.spool.close)
        self._disk.shutdown()

    async def keep(self, records: Sequence[Unsent]) -> None:
        """Return when Kafka or the disk has all of them.

        Raises:
            Unavailable: Kafka does not answer, and the spool is full or cannot be written.
        """
        if not await self.offer(records):
            await self._on_disk(self.spool.append, records)
            self._news.set()

    def check_room(self, size: int) -> None:
        """Refuse before anything is sent what would not be kept as a whole.

        Raises:
            Unavailable: Kafka does not answer, and the spool has no room for so many bytes more.
        """
        if not self.open:
            self.spool.check_room(size)

    async def offer(self, records: Sequence[Unsent]) -> bool:
        """Whether Kafka has acknowledged all of them; False may also mean that it will have them later."""
        try:
            await asyncio.wait_for(self._tried.wait(), self._send_s)
        except TimeoutError:
            return False
        producer = self._producer
        if producer is None or not self.open:
            return False
        sending = asyncio.ensure_future(producer.send(records))
        self._flying.add(sending)
        sending.add_done_callback(self._landed)
        await asyncio.wait([sending], timeout=self._send_s)
        if not sending.done():
            self._late.add(sending)
            self._tell(f"no acknowledgement within {self._send_s:g} s")
        return sending.done() and not sending.cancelled() and sending.exception() is None

    def _landed(self, sending: asyncio.Future[None]) -> None:
        self._flying.discard(sending)
        self._late.discard(sending)
        error = None if sending.cancelled() else sending.exception()
        if error is not None:  # of whatever kind: the spool takes what Kafka does not
            self._broken = True
            self._tell(repr(error))
        self._news.set()

    # ------------------------------------------------------------------ sending on
    async def _run(self) -> None:
        while True:
            try:
                if self._broken:
                    await self._leave()
                if self._producer is None:
                    self._producer = await self._connect()
                self._tried.set()
                self._news.clear()
                await self._drain(self._producer)
                await self._news.wait()
            except Exception as error:
                self._broken, self._at_once = True, 1  # a record that Kafka refuses must not have others repeated
                self._tried.set()
                self._tell(repr(error))
                await asyncio.sleep(RETRY_S)

    async def _drain(self, producer: Producer) -> None:
        waiting = self.spool.records
        while not self.spool.empty:
            records = await self._on_disk(self.spool.oldest)
            while some := records[self._sent : self._sent + self._at_once]:
                await asyncio.wait_for(producer.send(some), STUCK_S)
                self._sent += len(some)
                self._at_once = min(AT_ONCE, 2 * self._at_once)
            await self._on_disk(self.spool.drop_oldest)
            self._sent = 0
        if waiting:
            self._told = -TELL_S
            log.warning("kafka=back, the spool is empty again")

    async def _leave(self) -> None:
        producer, self._producer, self._broken = self._producer, None, False
        if producer is not None:
            await producer.close()
        for sending in list(self._flying):
            sending.cancel()

    async def _on_disk(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    def _tell(self, reason: str) -> None:
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            log.error("kafka=away, %d records in the spool: %s", self.spool.records, reason)
