"""The way of events to one partition: what arrives while a record is in flight goes as the next one.

With little to do every event goes at once and alone; the more there is, the fuller the records.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from core.errors import Unavailable
from gateway.spool import Unsent

Send = Callable[[Sequence[Unsent]], Awaitable[None]]
"""Has records kept in their order, by Kafka or the spool; raises Unavailable when neither can."""

AT_ONCE: Final = 500  # records sent together where each change is one record


class Keyed(NamedTuple):
    """A key and its value on the way to a partition."""

    key: bytes | None
    value: bytes


class _Waiting(NamedTuple):
    keyed: Keyed
    done: asyncio.Future[None]
    last: bool  # of those that were put together


class Lane:
    """One topic and partition; at most one group of records is in flight, so that order is kept.

    Args:
        topic: its short name.
        partition: its number.
        send: what keeps records.
        pack: how many events one record holds at most; 0 where every value must be a record of its own.
        most_bytes: of a packed record.
    """

    def __init__(self, topic: str, partition: int, send: Send, *, pack: int, most_bytes: int) -> None:
        self._place, self._send = (topic, partition), send
        self._pack, self._most_bytes = pack, most_bytes
        self._queue: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self.records = self.values = 0  # kept so far

    @property
    def idle(self) -> bool:
        return self._running is None

    def put(self, values: Sequence[Keyed]) -> asyncio.Future[None]:
        """Send values, of which there is at least one; the future ends when all are kept, or with Unavailable."""
        done = asyncio.get_running_loop().create_future()
        last = len(values) - 1
        self._queue.extend(_Waiting(one, done, place == last) for place, one in enumerate(values))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return done

    async def _run(self) -> None:
        try:
            while self._queue:
                group = self._next()
                records = self._records([one.keyed for one in group])
                await self._settle(records, group)
        finally:
            self._running = None

    def _next(self) -> list[_Waiting]:
        """What goes next, in order of arrival."""
        most = self._pack or AT_ONCE
        group = [self._queue.popleft()]
        size = len(group[0].keyed.value) + 2
        while self._queue and len(group) < most:
            size += len(self._queue[0].keyed.value) + 1
            if size > self._most_bytes:
                break
            group.append(self._queue.popleft())
        return group

    def _records(self, values: Sequence[Keyed]) -> list[Unsent]:
        if self._pack and len(values) > 1:
            return [Unsent(*self._place, None, b"[%b]" % b",".join(one.value for one in values))]
        return [Unsent(*self._place, *one) for one in values]

    async def _settle(self, records: Sequence[Unsent], group: Sequence[_Waiting]) -> None:
        try:
            await self._send(records)
        except asyncio.CancelledError:
            _fail([*group, *self._queue], Unavailable("the gateway is ending"))
            self._queue.clear()
            raise
        except Exception as error:  # whoever waits is told, and the next ones have their turn
            _fail(group, error)
            return
        self.records += len(records)
        self.values += len(group)
        for one in group:
            if one.last and not one.done.done():
                one.done.set_result(None)


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for one in group:
        if not one.done.done():
            one.done.set_exception(error)
