"""Sends records to Kafka and comes back when all of them have been acknowledged, however long that takes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from core.settings import Settings
from streams import kafka
from streams.batch import Record

log = logging.getLogger("headwater")

BATCH_BYTES: Final = 512_000
RETRY_S: Final = 0.5


class Sender:
    """One producer. The records of a partition are sent in order, the next batch after the last one's acknowledgement.

    Not the idempotent producer: one batch a partition is on its way at a time, which keeps the
    order, and those who read know a repeated record by its position. An outage can then be
    waited out for as long as it takes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None
        self.failing_since: float | None = None  # monotonic seconds

    async def start(self) -> None:
        """Connect.

        Raises:
            Unavailable: no broker answers.
        """
        self._producer = kafka.producer(
            self._settings, "worker", max_batch_size=BATCH_BYTES, linger_ms=0, enable_idempotence=False
        )
        async with kafka.answers(self._settings):
            await self._producer.start()

    async def stop(self) -> None:
        """Let go of the connection; what is on its way is sent first."""
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, records: Iterable[Record], still: Callable[[], bool]) -> bool:
        """Send all, again and again until they are acknowledged; False when given up because `still` said so.

        The records' topics are named as on the cluster.

        Raises:
            MessageSizeTooLargeError: a record is larger than its topic takes.
        """
        places: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for record in records:
            places[record.topic, record.partition].append(record)
        done = await asyncio.gather(*(self._place(*place, group, still) for place, group in places.items()))
        return all(done)

    async def _place(self, topic: str, partition: int, records: list[Record], still: Callable[[], bool]) -> bool:
        start = 0
        while start < len(records):
            if not still():
                return False
            batch = self._producer.create_batch()
            end = _fill(batch, records, start)
            batch.close()
            if await self._deliver(batch, topic, partition):
                start = end
        return True

    async def _deliver(self, batch: Any, topic: str, partition: int) -> bool:
        from aiokafka.errors import KafkaError, MessageSizeTooLargeError

        try:
            await (await self._producer.send_batch(batch, topic, partition=partition))
        except MessageSizeTooLargeError:
            raise  # trying again cannot help
        except KafkaError as error:
            if self.failing_since is None:
                self.failing_since = time.monotonic()
                log.warning("topic=%s partition=%d not written, trying on: %r", topic, partition, error)
            await asyncio.sleep(RETRY_S)
            return False
        self.failing_since = None
        return True


def _fill(batch: Any, records: list[Record], start: int) -> int:
    """Append as many as fit, at least one; the place of the first that did not."""
    for place in range(start, len(records)):
        one = records[place]
        if batch.append(timestamp=None, key=one.key, value=one.value, headers=list(one.headers)) is None:
            return place
    return len(records)
