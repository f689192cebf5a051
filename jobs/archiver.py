"""`headwater archive`: a process that reads the topics from Kafka and keeps the archive."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from core.errors import HeadwaterError, Missing, Unavailable
from core.settings import Settings
from jobs.archive import Archive
from jobs.pieces import TOPICS, Place, day_of
from jobs.storage import Storage, open_storage
from streams import health, kafka
from streams.log import Entry
from streams.topics import full

log = logging.getLogger("headwater")

TAKEN: Final = 5_000  # records at a time
WAIT_MS: Final = 500  # for the next records
FETCH_LEAST_BYTES: Final = 65_536  # that are worth an answer before that
FETCH_BYTES: Final = 1_000_000  # of one partition at a time; a larger record comes alone
RETRY_S: Final = 5.0  # after the storage failed
LOOK_S: Final = 10.0  # between two looks how far Kafka has got
STILL_S: Final = 120.0  # with no turn of the loop for this long the process is not well
LOG_APPEND_TIME: Final = 1


def run(
    settings: Settings,
    ready: Callable[[int], None] = lambda port: None,
    *,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Archive until SIGTERM or SIGINT; what was read by then is in its files.

    Args:
        settings: of the shop.
        ready: told the port of the health page when that is there.
        host: of the health page, where it is not archive.host.
        port: of the health page, where it is not archive.port.

    Raises:
        Broken: the archive is ahead of the topics.
        Missing: a topic is not there, or aiokafka is not installed.
        Unavailable: another process archives there, or neither Kafka nor the storage answers at the start.
    """
    storage = open_storage(settings.archive.path)
    with storage.alone():
        archiver = Archiver(settings, storage)
        host = settings.archive.host if host is None else host
        port = settings.archive.port if port is None else port
        with health.serve(host, port, archiver.described) as page:
            ready(page.port)
            asyncio.run(archiver.run())


class Archiver:
    """Reads all partitions of the archived topics, without a group, and has them archived."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._short = {full(settings, topic): topic for topic in TOPICS}
        self._archive = Archive(storage, settings.archive)
        self._stop = asyncio.Event()
        self._turned_s = time.monotonic()
        self._failing = {"storage": "", "kafka": ""}
        self._lag: dict[str, int] = {}
        self._merging = True
        self._day = ""

    def described(self) -> health.Described:
        """For the health page, from any thread."""
        still_s = time.monotonic() - self._turned_s
        well = not any(self._failing.values()) and still_s < STILL_S
        failing = {f"{what}_failing": why for what, why in self._failing.items()}
        return well, {
            **self._archive.figures(),
            **failing,
            "lag": dict(self._lag),
            "seconds_since_turn": round(still_s),
        }

    async def run(self) -> None:
        """Archive until `stop`; see the function `run` for what it raises."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        changed = {
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": FETCH_BYTES,
            "fetch_min_bytes": FETCH_LEAST_BYTES,
            "fetch_max_wait_ms": WAIT_MS,
        }
        async with kafka.opened(self._settings, lambda: kafka.reader(self._settings, "archive", **changed)) as reader:
            places = await self._places()
            await self._seek(reader, places, assign=True)
            log.info("archiving %d partitions into %s", len(places), self._settings.archive.path)
            watch = asyncio.create_task(self._watch(reader, places))
            try:
                while not self._stop.is_set():
                    await self._turn(reader)
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
        self._archive.close()
        await self._written()
        log.info("the archiver ends: %s", dict(self._archive.figures()))

    async def _turn(self, reader: Any) -> None:
        """Read some records and write the files that are full or due."""
        from aiokafka.errors import OffsetOutOfRangeError

        try:
            found = await reader.getmany(timeout_ms=WAIT_MS, max_records=TAKEN)
        except OffsetOutOfRangeError as error:
            await self._seek(reader, list(error.args[0]))
            return
        await asyncio.to_thread(self._take, found)
        await self._written()
        if sum(map(len, found.values())) < TAKEN:
            await self._merged()
        self._turned_s = time.monotonic()

    def _take(self, found: Mapping[Any, Sequence[Any]]) -> None:
        now_s, now_ms = time.monotonic(), int(time.time() * 1000)
        for place, records in found.items():
            topic = self._short[place.topic]
            for record in records:
                entry = Entry(
                    topic, place.partition, record.offset, record.key or b"", record.value, _arrived(record, now_ms)
                )
                self._archive.take(entry, _origin(record.headers), now_s)
        self._archive.due(now_s)

    async def _written(self) -> None:
        """Write until it is done or the process is to end: what is left out then is read again by the next one."""
        while True:
            try:
                await asyncio.to_thread(self._archive.write)
                self._failing["storage"] = ""
                return
            except Unavailable as error:
                self._failing["storage"] = str(error)
                log.error("%s; trying again in %.0f s", error, RETRY_S)
            if self._stop.is_set():
                return
            try:
                await asyncio.wait_for(self._stop.wait(), RETRY_S)
            except TimeoutError:
                self._turned_s = time.monotonic()

    async def _merged(self) -> None:
        """Having caught up, make a large file of small ones: at the start, and when a day is over."""
        today = day_of(int(time.time() * 1000))
        self._merging = self._merging or today != self._day
        self._day = today
        try:
            self._merging = self._merging and await asyncio.to_thread(self._archive.merge, today)
        except HeadwaterError as error:  # small files do no harm; the next day or start tries again
            self._merging = False
            log.error("small files cannot be merged: %s", error)

    async def _places(self) -> list[Any]:
        from aiokafka import TopicPartition

        async with (
            kafka.opened(self._settings, lambda: kafka.admin(self._settings, "archive")) as admin,
            kafka.answers(self._settings),
        ):
            there = set(await admin.list_topics())
            if missing := sorted(self._short.keys() - there):
                raise Missing(f"no topic {missing[0]} on the cluster: headwater topics create makes them")
            told = await admin.describe_topics(list(self._short))
        return [TopicPartition(one["topic"], number) for one in told for number in range(len(one["partitions"]))]

    async def _seek(self, reader: Any, places: Sequence[Any], *, assign: bool = False) -> None:
        async with kafka.answers(self._settings):
            oldest, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
        self._archive.close(map(self._place, places))
        if assign:
            reader.assign(places)
        for place in places:
            reader.seek(place, self._archive.begin(self._place(place), oldest[place], ends[place]))

    async def _watch(self, reader: Any, places: Sequence[Any]) -> None:
        """See how far Kafka is ahead of us, and whether it answers."""
        while True:
            try:
                async with kafka.answers(self._settings):
                    ends = await reader.end_offsets(places)
                self._failing["kafka"] = ""
                self._lag = self._behind({self._place(place): end for place, end in ends.items()})
            except HeadwaterError as error:
                self._failing["kafka"] = str(error)
            await asyncio.sleep(LOOK_S)

    def _behind(self, ends: Mapping[Place, int]) -> dict[str, int]:
        behind = dict.fromkeys(TOPICS, 0)
        for place, end in ends.items():
            behind[place[0]] += max(0, end - self._archive.reached(place))
        return behind

    def _place(self, place: Any) -> Place:
        return self._short[place.topic], int(place.partition)


def _arrived(record: Any, now_ms: int) -> int:
    """When a record came. A topic that keeps the sender's time instead is taken at its word, but not ahead of ours."""
    told = int(record.timestamp)
    return told if record.timestamp_type == LOG_APPEND_TIME else min(max(told, 0), now_ms)


def _origin(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    found = next((value for name, value in headers if name == "origin"), None)
    return found.decode("utf-8", "replace") if found is not None else None
