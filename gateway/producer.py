"""The connection that writes to Kafka: every record acknowledged by all replicas, in order by partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self

from core.settings import Settings
from gateway.spool import Unsent
from streams import kafka
from streams.topics import full

FLUSH_S: Final = 1.0  # for what is in flight when the connection is given up


class KafkaProducer:
    """An idempotent producer: it retries until Kafka answers, and writes no record twice by that."""

    def __init__(self, settings: Settings, producer: Any) -> None:
        self._settings, self._producer = settings, producer

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """A producer that has found the cluster.

        Raises:
            KafkaError: it cannot be reached.
            TimeoutError: it does not answer.
        """
        # No linger: the lanes wait for company while a record is in flight, and only then.
        timeout_ms = max(1_000, round(1_000 * settings.kafka.send_s))
        producer = kafka.producer(settings, "gateway", linger_ms=0, request_timeout_ms=timeout_ms)
        made = cls(settings, producer)
        try:
            await asyncio.wait_for(producer.start(), kafka.ANSWER_S)
        except BaseException:
            await made.close()
            raise
        return made

    async def send(self, records: Sequence[Unsent]) -> None:
        """Return when all are acknowledged.

        Raises:
            KafkaError: one of them will never be.
        """
        sent = [
            await self._producer.send(full(self._settings, one.topic), one.value, one.key, one.partition)
            for one in records
        ]
        await asyncio.gather(*sent)

    async def close(self) -> None:
        """Flush for a moment, then give up: an idempotent producer would go on trying for good."""
        try:
            await asyncio.wait_for(self._producer.stop(), FLUSH_S)
        except TimeoutError:
            sender = self._producer._sender.sender_task  # stop() knows no way but to flush
            if sender is not None:
                sender.cancel()
                await asyncio.wait([sender], timeout=FLUSH_S)
            await self._producer.client.close()
