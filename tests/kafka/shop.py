"""A shop on a real broker as tests drive it: topics, producers, workers as processes, and when all is worked off."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import msgspec

from core.catalogue import ItemChange
from core.decision import Decision
from core.events import Event
from core.settings import (
    EncoderSettings,
    KafkaSettings,
    LogSettings,
    NeighbourSettings,
    Settings,
    WorkerSettings,
)
from streams import kafka, topics
from streams.log import New
from streams.messages import of_change, of_decision, of_event
from streams.partition import partition_of
from streams.topology import build

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 4
KEPT: Final = 100_000  # neighbours of an item: pruning depends on the order of arrival, so none may occur
READ: Final = tuple(sorted({topic for stage in build(Settings()) for topic in stage.reads}))
Message = Event | ItemChange | Decision


def quick_settings(bootstrap: str, prefix: str, **kafka_fields: Any) -> Settings:
    """Of a shop whose workers notice a death within seconds; without an encoder."""
    return Settings(
        kafka=KafkaSettings(bootstrap=bootstrap, prefix=prefix, **kafka_fields),
        log=LogSettings(partitions=PARTITIONS),
        worker=WorkerSettings(session_s=6.0, heartbeat_s=1.0, commit_s=0.2, port=free_port()),
        encoder=EncoderSettings(model="none"),
        neighbours=NeighbourSettings(kept=KEPT),
    )


def with_worker(settings: Settings, **fields: Any) -> Settings:
    return msgspec.structs.replace(settings, worker=msgspec.structs.replace(settings.worker, **fields))


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make a process load these settings."""
    told = {}
    for section in msgspec.structs.fields(Settings):
        mine, default = getattr(settings, section.name), section.default
        for field in mine.__struct_fields__:
            value = getattr(mine, field)
            if value != getattr(default, field):
                text = str(value) if isinstance(value, str | Path) else msgspec.json.encode(value).decode()
                told[f"HEADWATER_{section.name.upper()}__{field.upper()}"] = text
    return told


# ---------------------------------------------------------------------- processes
class Worker:
    """A process of `headwater worker`, or another verb, with a log file of its own; killed at the end of the block."""

    program: ClassVar[str] = "import sys, cli; sys.exit(cli.main(sys.argv[1:]))"

    def __init__(self, settings: Settings, folder: Path, verb: str = "worker") -> None:
        self.settings = with_worker(settings, port=free_port())
        self.log = folder / f"{verb}-{self.settings.worker.port}.log"
        self._last: dict[str, Any] = {}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.program, verb],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment(self.settings)},
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()

    def end(self, within_s: float = 20.0) -> int:
        """SIGTERM, and wait; the exit status."""
        self.process.terminate()
        return self.process.wait(within_s)

    def health(self) -> dict[str, Any]:
        """The figures of the health page; those of the last look when it does not answer."""
        url = f"http://127.0.0.1:{self.settings.worker.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                self._last = msgspec.json.decode(reply.read())
        except urllib.error.HTTPError as error:
            self._last = msgspec.json.decode(error.read())
        except OSError:
            pass
        return self._last


def eventually(condition: Callable[[], bool], within_s: float = 180.0, what: str = "it") -> None:
    """Wait until it is so."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, f"{what} did not come to pass within {within_s:g} s"
        time.sleep(0.05)


# ---------------------------------------------------------------------- producing
def record_of(message: Message) -> New:
    if isinstance(message, Event):
        return of_event(message)
    return of_change(message) if isinstance(message, ItemChange) else of_decision(message)


def produce(settings: Settings, messages: Iterable[Message], pack: int = 1) -> None:
    """Write messages in their order and wait for the acknowledgement of all.

    Args:
        settings: of the shop.
        messages: those of one topic and key must not be in two calls at a time.
        pack: so many events of a partition become one record; items and decisions are never packed.
    """
    asyncio.run(_produce(settings, messages, pack))


async def _produce(settings: Settings, messages: Iterable[Message], pack: int) -> None:
    async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
        futures: list[Any] = []
        packs: dict[tuple[str, int], list[bytes]] = defaultdict(list)

        async def send(topic: str, place: int, value: bytes | None, key: bytes | None) -> None:
            futures.append(await producer.send(topics.full(settings, topic), value, key, place))

        for message in messages:
            one = record_of(message)
            place = partition_of(one.key, settings.log.partitions)
            if pack == 1 or one.topic in ("items", "decisions"):
                await send(one.topic, place, one.value, one.key)
                continue
            packed = packs[one.topic, place]
            packed.append(one.value or b"")
            if len(packed) >= pack:
                await send(one.topic, place, b"[" + b",".join(packed) + b"]", None)
                packed.clear()
        for (topic, place), packed in packs.items():
            if packed:
                await send(topic, place, b"[" + b",".join(packed) + b"]", None)
        await asyncio.gather(*futures)


def write(
    settings: Settings, topic: str, records: Sequence[tuple[bytes | None, bytes | None]], partition: int = 0
) -> list[int]:
    """Raw records (key, value) to one partition; their offsets."""

    async def send() -> list[int]:
        async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
            name = topics.full(settings, topic)
            return [(await producer.send_and_wait(name, value, key, partition)).offset for key, value in records]

    return asyncio.run(send())


# ---------------------------------------------------------------------- reading
def read(settings: Settings, names: Sequence[str]) -> list[Any]:
    """Every record of topics, named as on the cluster, without a group."""
    return asyncio.run(_read(settings, names))


async def _read(settings: Settings, names: Sequence[str]) -> list[Any]:
    from aiokafka import TopicPartition

    places = [TopicPartition(name, number) for name in names for number in range(settings.log.partitions)]
    found: list[Any] = []
    async with kafka.opened(settings, lambda: kafka.reader(settings, "test", max_poll_records=5_000)) as reader:
        reader.assign(places)
        ends = await reader.end_offsets(places)
        await reader.seek_to_beginning(*places)
        left = set(places)
        while left:
            for some in (await reader.getmany(timeout_ms=200)).values():
                found += some
            left = {place for place in left if await reader.position(place) < ends[place]}
    return found


# ---------------------------------------------------------------------- how far they are
class Lag(msgspec.Struct, frozen=True):
    """How many records the workers have not committed, and where the topics they read end."""

    records: int
    ends: Mapping[str, int]


def lag(settings: Settings) -> Lag:
    """As the brokers have it; asks no worker.

    Raises:
        Unavailable: no broker answers.
    """
    return asyncio.run(_lag(settings))


async def _lag(settings: Settings) -> Lag:
    from aiokafka import TopicPartition

    names = [topics.full(settings, topic) for topic in READ]
    places = [TopicPartition(name, number) for name in names for number in range(settings.log.partitions)]
    async with (
        kafka.opened(settings, lambda: kafka.admin(settings, "test")) as admin,
        kafka.opened(settings, lambda: kafka.reader(settings, "test")) as reader,
        kafka.answers(settings, 20.0),
    ):
        told = await admin.list_consumer_group_offsets(topics.app_id(settings), partitions=places)
        ends, begins = await reader.end_offsets(places), await reader.beginning_offsets(places)
    committed = {place: told[place].offset if place in told else -1 for place in places}
    records = sum(max(0, ends[place] - max(committed[place], begins[place])) for place in places)
    return Lag(records, {f"{place.topic}/{place.partition}": end for place, end in ends.items()})


def drain(settings: Settings, within_s: float = 120.0, quiet_s: float = 2.0) -> float:
    """Wait until every record is committed and nothing more comes for a while; seconds until it was so.

    Raises:
        AssertionError: that takes too long.
    """
    from core.errors import Unavailable

    began = time.monotonic()
    since, before = began, Lag(-1, {})
    while True:
        try:
            now = lag(settings)
        except (Unavailable, OSError) as error:  # a broker that is away for a while is what some tests are about
            now = Lag(-1, {"": hash(repr(error))})
        if now.records != 0 or now != before:
            since, before = time.monotonic(), now
        elif time.monotonic() - since >= quiet_s:
            return since - began
        assert time.monotonic() - began < within_s, f"{now.records} records are left after {within_s:g} s"
        time.sleep(0.2)
