"""Faust, as we use it: the app's settings, tables that recover by version, a consumer that does not dawdle.

The only module that knows Faust.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import faust
from aiokafka.errors import IllegalStateError
from faust.stores.memory import Store
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from core.settings import Settings
from streams import topics
from streams.kept import version_of

FETCH_WAIT_MS: Final = 50  # of a request for records where there are none
LEAVE_S: Final = 5.0


class Shelf(Store[bytes, bytes]):
    """A table's values by partition. From its changelog the value with the highest version wins.

    The last one written need not be that: a worker that was stopped for long and woke up may
    have written after the partition's new owner.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.values_of: dict[int, dict[bytes, bytes]] = defaultdict(dict)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Take in what recovery read.

        Faust gives the records of a partition that has just been taken away to whichever table came before.
        """
        ours = self.table.changelog_topic.get_topic_name()
        self.apply(event.message for event in batch if event.message.topic == ours)

    def apply(self, records: Iterable[Any]) -> None:
        """Take in records of the changelog, each with partition, key and value."""
        for one in records:
            held = self.values_of[one.partition]
            known = held.get(one.key)
            if known is None or version_of(one.value) >= version_of(known):
                held[one.key] = one.value

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """What is not ours any more is forgotten, and what has become ours is read from its beginning."""
        tables: Any = self.app.tables
        for tp in revoked | newly_assigned:
            if tp.topic == self.table.changelog_topic.get_topic_name():
                self.values_of.pop(tp.partition, None)
                tables.recovery.revoke(tp)  # or it might be read from where it was left the last time

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Nothing is left to do: partitions that went were dropped when they went."""


class Table(faust.Table[bytes, bytes]):
    """A Faust table over a `Shelf`. Faust recovers it; the worker writes shelf and changelog itself."""

    def _new_store(self) -> Shelf:
        return Shelf("memory://", self.app, self, table_name=self.name, loop=self.loop)


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer, which lets a broker hold a request for a second and a half.

    For so long a partition that had been read to its end would be left out.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class Read(NamedTuple):
    """A record as aiokafka has it, and the generation of the group in which it was read."""

    generation: int
    tp: TP
    record: Any


Hear = Callable[[list[Read]], Awaitable[None]]


class Consumer(driver.Consumer):
    """Faust's consumer, with a shorter way for records: whole answers of a broker instead of one after the other.

    Records of the topics we listen to go to `app.hear`; what was worked off is noted in `done`,
    which Faust commits. Of what recovery reads only the last record of an answer takes Faust's
    own way, by which it knows how far a table has come; the others go to the table at once.
    Group, assignment, seeking, pausing, commits and recovery stay Faust's. What each of the two
    is worth stands in ADR 0008.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.done: dict[TP, int] = {}  # the next offset to read, by partition
        self._asked: dict[TP, int] = {}  # what was asked for a second time, because an answer began behind it

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        found: Any
        generation = self.app.consumer_generation_id
        found, active = await self._wait_next_records(timeout)
        if found is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        changed = generation != self.app.consumer_generation_id
        for tp, records in found.items():
            if changed or (active is not None and tp not in active):
                await self._ask_again(tp)
            elif self._is_changelog_tp(tp):
                self._table(tp.topic).data.apply(records[:-1])
                yield tp, self._to_message(tp, records[-1])
            elif not await self._hand_on(generation, tp, records):
                return

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        self.not_waiting_next_records.clear()  # Faust means to, and sets it
        try:
            return await super()._getmany(active_partitions, timeout)
        finally:
            self.not_waiting_next_records.set()

    async def perform_seek(self) -> None:
        """To what is committed; a partition of which nothing is begins anew, which Faust leaves where it stands.

        From there on no record may be missing, see `_hand_on`.
        """
        await self._landed()
        await super().perform_seek()
        ours = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        fresh = [tp for tp in ours if not self._committed_offset.get(tp)]
        if fresh:
            self._read_offset.update(await self.earliest_offsets(*fresh))
        self._asked.clear()
        for tp in ours:  # once more: what came before it was known where to begin has been dropped
            await self._ask_again(tp)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """For recovery, once what was asked for before has come and gone: it would be taken for newer than it is."""
        await self._landed()
        await super().seek_wait(partitions)

    async def _landed(self) -> None:
        if not self.flow_active:
            await self.wait_for_stopped_flow()

    async def _hand_on(self, generation: int, tp: TP, records: Sequence[Any]) -> bool:
        """False when the group changes meanwhile: what is read before it is settled will be read again.

        An answer to a question from before the group changed may begin further on than where we
        stand. Taking it would make the guard take what lies between for known. So a gap is asked
        for again, and believed when it is there a second time: compaction and retention make some.
        """
        expected = self._read_offset.get(tp)
        heard = [Read(generation, tp, one) for one in records if expected is not None and one.offset >= expected]
        if not heard or expected is None:
            return True
        if heard[0].record.offset > expected != self._asked.get(tp):
            self._asked[tp] = expected
            await self._ask_again(tp)
            return True
        app: Any = self.app
        await self.wait_first(app.hear(heard), self.suspend_flow.wait())
        if not self.flow_active or generation != app.consumer_generation_id:
            return False
        self._read_offset[tp] = heard[-1].record.offset + 1
        return True

    async def _ask_again(self, tp: TP) -> None:
        """For what follows what we have of a partition: an answer was dropped, and the consumer stands behind it."""
        expected = self._read_offset.get(tp)
        if expected is not None and not self._is_changelog_tp(tp):
            with suppress(IllegalStateError):  # it is not ours any more
                await self._thread.call_thread(self._thread._ensure_consumer().seek, tp, expected)

    def _table(self, changelog: str) -> Any:
        tables: Any = self.app.tables
        return tables._changelogs[changelog]

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self.done) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.done.get(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is done while it is ours, so that the next owner reads less again."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.commit(), LEAVE_S)
        self.done.clear()
        await super().on_partitions_revoked(revoked)

    async def verify_all_partitions_active(self) -> None:
        """Our own watchdog sees to that."""


class _Transport(driver.Transport):
    Consumer = Consumer


class _Process(faust.Worker):
    """Faust's process with our own way to stop: its own may hang."""

    stop_on_signal: Callable[[], object]

    def install_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, self.stop_on_signal)


def run(app: Any, stop: Callable[[], object]) -> None:
    """Run the app in this process; `stop` is called in its loop on SIGINT and SIGTERM.

    Raises:
        SystemExit: when the app ends by itself.
    """
    process = _Process(app, quiet=True, override_logging=False, redirect_stdouts=False)
    process.stop_on_signal, process.spinner = stop, None
    process.execute_from_commandline()


async def leave(app: Any) -> None:
    """Commit what was acknowledged and, where the group should not wait for this worker's return, leave it."""
    await asyncio.wait_for(app.consumer.commit(), LEAVE_S)
    if app.conf.consumer_group_instance_id is None:
        thread = app.consumer._thread
        await asyncio.wait_for(thread.call_thread(thread._consumer._coordinator._maybe_leave_group), LEAVE_S)


def listen(app: Any, settings: Settings, names: Iterable[str], hear: Hear) -> None:
    """Have the group read these topics; `hear` is given their records and may take its time."""
    app.hear = hear
    for name in names:
        channel = app.topic(
            topics.full(settings, name),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=settings.log.partitions,
        )
        app.topics.add(channel)


def table(app: Any, name: str, settings: Settings) -> Table:
    """A table of the app, known to Faust."""
    made = Table(app, name=name, key_type=bytes, value_type=bytes, partitions=settings.log.partitions)
    app.tables.add(made)
    return made


def app_of(settings: Settings) -> Any:
    """The Faust app: each value that is not a setting of ours is one that was found to matter."""
    worker, kafka = settings.worker, settings.kafka
    app = faust.App(
        topics.full(settings, worker.group),
        version=worker.version,
        broker=[f"kafka://{one.strip()}" for one in kafka.bootstrap.split(",")],
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "headwater-worker",  # Faust makes one though nothing goes there
        autodiscover=False,
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=settings.log.partitions,
        topic_replication_factor=kafka.replication,
        topic_allow_declare=False,  # `headwater topics create` does, with retention and compaction
        topic_disable_leader=True,
        table_standby_replicas=0,  # of no use in memory
        broker_commit_interval=worker.commit_s,
        broker_max_poll_records=500,
        broker_max_poll_interval=86_400.0,  # an idle worker would be put out of the group
        broker_session_timeout=worker.session_s,
        broker_heartbeat_interval=worker.heartbeat_s,
        broker_rebalance_timeout=max(60.0, worker.session_s),
        broker_request_timeout=max(90.0, worker.session_s),  # must not be below the session
        consumer_group_instance_id=f"{topics.full(settings, worker.group)}-{worker.instance}"
        if worker.instance
        else None,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=30_000,
        consumer_max_fetch_size=1 << 20,
        producer_acks=-1,
        stream_wait_empty=False,  # would hang at the end; the guard makes it safe
        stream_recovery_delay=0.0,
        stream_processing_timeout=max(120.0, worker.stuck_s),
        web_enabled=False,
    )
    app.transport = _Transport(app.conf.broker_consumer[0], app)
    app.transport.url = app.conf.broker_consumer
    return app
