"""Follows the serving topics without a group: every gateway reads them all, and a deploy moves no partition."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition

from core.errors import BadSettings, HeadwaterError, Unavailable
from core.settings import Settings
from gateway.views import TOPICS, Views
from streams import kafka
from streams.topics import full

log = logging.getLogger("headwater")

AT_ONCE: Final = 500  # records between two chances for the other threads
POLL_MS: Final = 200
LOOK_S: Final = 5.0  # between two looks at how far the topics go
STUCK_S: Final = 60.0  # a reader that stands still for this long with records to read is replaced
RETRY_S: Final = 1.0
TELL_S: Final = 30.0


class ServingFollower:
    """Reads from the beginning, then on; `run` is the work of a thread. Reads on by itself after an outage.

    Args:
        settings: of the shop.
        views: what is told of every record.
        refresh: brings to the answers what the views offered; called until everything is read, from then on
            requests see to it.
        loaded: called once all that was there at the start has been read, before `waiting` is None.
    """

    def __init__(
        self, settings: Settings, views: Views, refresh: Callable[[], None], loaded: Callable[[], None]
    ) -> None:
        self._settings, self._views, self._refresh, self._loaded = settings, views, refresh, loaded
        self._short = {full(settings, topic): topic for topic in TOPICS}
        self._stopping = threading.Event()
        self._positions: dict[TopicPartition, int] = {}  # next offsets
        self._ends: dict[TopicPartition, int] = {}  # noted at the start, until they are reached; then from time to time
        self._caught_up = False
        self._moved = time.monotonic()
        self._told = -TELL_S
        self.waiting: str | None = "connecting to Kafka"
        """What keeps answers from being of now; None once everything that was there at the start has been read."""

    @property
    def lag(self) -> int:
        """How many records are yet to be read, as of the last look; of a compacted topic there may be fewer."""
        ends, positions = dict(self._ends), dict(self._positions)
        return sum(max(0, end - positions.get(place, 0)) for place, end in ends.items())

    def run(self) -> None:
        """Follow until `stop`."""
        asyncio.run(self._follow())

    def stop(self) -> None:
        """Have `run` return within a moment."""
        self._stopping.set()

    async def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                places = await self._places()
                async with kafka.opened(self._settings, lambda: kafka.reader(self._settings, "gateway")) as reader:
                    await self._read(reader, places)
            except (HeadwaterError, asyncio.CancelledError) as error:  # nobody cancels us: it is a task of aiokafka's
                self._tell(error)
                await asyncio.sleep(RETRY_S)

    async def _read(self, reader: Any, places: list[TopicPartition]) -> None:
        async with kafka.answers(self._settings):
            reader.assign(places)
            await self._seek(reader, places)
        looked = self._moved = time.monotonic()
        while not self._stopping.is_set():
            async with kafka.answers(self._settings):
                found = await reader.getmany(timeout_ms=POLL_MS, max_records=AT_ONCE)
                self._take(found)
                if not self._caught_up or time.monotonic() - looked > LOOK_S:
                    await self._look(reader, places)
                    looked = time.monotonic()
            await asyncio.sleep(0)

    async def _places(self) -> list[TopicPartition]:
        """Every partition of the serving topics.

        Raises:
            Unavailable: a topic is missing, or has no leader for a partition yet.
            BadSettings: a topic has another number of partitions.
        """
        wanted = self._settings.log.partitions
        async with (
            kafka.opened(self._settings, lambda: kafka.admin(self._settings, "gateway")) as admin,
            kafka.answers(self._settings),
        ):
            told = await admin.describe_topics(list(self._short))
        for one in told:
            name, found = one["topic"], len(one["partitions"])
            if one["error_code"] or not found:
                raise Unavailable(f"there is no topic {name}: headwater topics create")
            if found != wanted:
                raise BadSettings(f"topic {name} has {found} partitions, log.partitions says {wanted}")
        return [TopicPartition(topic, number) for topic in self._short for number in range(wanted)]

    async def _seek(self, reader: Any, places: list[TopicPartition]) -> None:
        first = await reader.beginning_offsets(places)
        if not self._caught_up:
            self._ends = await reader.end_offsets(places)
        for place in places:
            self._positions[place] = max(self._positions.get(place, 0), first[place])
            reader.seek(place, self._positions[place])

    def _take(self, found: dict[TopicPartition, list[Any]]) -> None:
        for place, records in found.items():
            topic = self._short[place.topic]
            for record in records:
                self._views.take(topic, record.key or b"", record.value)
            self._positions[place] = records[-1].offset + 1
            self._moved = time.monotonic()
        self._views.flush()
        if not self._caught_up:
            self._refresh()

    async def _look(self, reader: Any, places: list[TopicPartition]) -> None:
        for place in places:  # a reader passes over what compaction has removed
            self._positions[place] = await reader.position(place)
        if self._caught_up:
            self._ends = await reader.end_offsets(places)
            self._check_moving()
        elif self.lag == 0:
            self._views.loaded(self._refresh)
            self._loaded()
            self._caught_up, self.waiting = True, None
            log.info("kafka=caught up, %d profiles", len(self._views.profiles))
        else:
            self.waiting = f"reading the serving topics: {self.lag:,} records to go"

    def _check_moving(self) -> None:
        if self.lag == 0:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > STUCK_S:
            raise Unavailable(f"{self.lag:,} records wait and none came for {STUCK_S:g} s: reading anew")

    def _tell(self, error: BaseException) -> None:
        if not self._caught_up:
            self.waiting = str(error) or "Kafka does not answer"
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            log.error("serving topics not followed, trying again: %s", str(error) or repr(error))
