"""The worker: walks the topology over Kafka.

Faust keeps the group, hands out partitions, keeps what is committed and brings the tables back
from their changelogs. What it reads stands in one line; a single task takes batches from it
through the steps (streams/batch.py) and sends what comes of them: outputs first, then states
with what is published of them; only then Faust may commit. In memory a state moves last, so that
a batch given up half way leaves no trace here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from core.settings import Settings
from streams import faust_app, health, topics
from streams.batch import Batch, Record, Write
from streams.faust_app import Read, Shelf
from streams.kept import Cache
from streams.line import Line
from streams.log import Entry
from streams.sender import Sender
from streams.topology import build
from streams.vectoriser import Embed, Vectoriser
from streams.watch import Seen, Watchdog, clock, finish, resident_bytes

log = logging.getLogger("headwater")

CACHED: Final = 50_000  # decoded states
LINE: Final = 5_000  # records read and not yet worked on
LINE_BYTES: Final = 64_000_000
COLLECTOR: Final = (50_000, 20, 50)  # states hold no cycles, and most of what a batch makes is gone with it
TURN: Final = 100  # records worked on before the loop may do something else
TICK_S: Final = 0.5
ENCODER_S: Final = 5.0  # between two looks whether a bundle with another encoder serves
ASK_S: Final = 5.0  # the brokers have so long to say how far their logs go
STOP_S: Final = 10.0  # for the batch at hand
SETTLE_S: Final = 0.02  # between two looks whether the group has settled


class Worker:
    """One worker process.

    Args:
        settings: of the shop; `kafka.bootstrap` names the brokers.
        embed: the encoder, or None without a text channel.
        newer: another encoder than the last one, where another serves by now; asked in a thread now and then.
    """

    def __init__(
        self, settings: Settings, embed: Embed | None, newer: Callable[[], Embed | None] = lambda: None
    ) -> None:
        self._settings = settings
        self._stages = build(settings)
        self.app = faust_app.app_of(settings)
        names = [stage.name for stage in self._stages] + [topics.VECTOR_TABLE]
        self._tables = {name: faust_app.table(self.app, name, settings) for name in names}
        self._cache = Cache(self, CACHED)
        self._sender = Sender(settings)
        self._line = Line(LINE, LINE_BYTES)
        self._vectoriser = Vectoriser(embed, self._vectored, self._store) if embed is not None else None
        self._newer = newer
        self._changelogs = {name: topics.changelog(settings, name) for name in names}
        self._short = {topics.full(settings, topic): topic for stage in self._stages for topic in stage.reads}
        faust_app.listen(self.app, settings, sorted(self._short.values()), self._line.put)
        self._seen = Seen(clock())
        self._partitions: list[int] = []  # ours, for the health page
        self._watchdog = Watchdog(settings.worker, self._stands)
        self._stopping, self._idle = False, asyncio.Event()
        self._figures = {"events": 0, "refused": 0, "repeated": 0, "batches": 0, "given_up": 0}
        self._connect()

    def run(self) -> None:
        """Work until SIGINT or SIGTERM, then end the process.

        Raises:
            SystemExit: always; 0 after a signal.
        """
        worker = self._settings.worker
        gc.freeze()
        gc.set_threshold(*COLLECTOR)
        with health.serve(worker.host, worker.port, self.describe) as page:
            self._watchdog.start()
            log.info("worker=%s health page on port %d", worker.instance or "unnamed", page.port)
            try:
                faust_app.run(self.app, self.stop)
            finally:
                self._watchdog.stop()

    def _stands(self) -> Seen:
        """For the watchdog, in its thread."""
        reason = self.app.crash_reason if self.app.crashed else None
        return self._seen._replace(failed=f"Faust crashed: {reason!r}") if reason else self._seen

    def stop(self) -> None:
        """Finish the batch at hand, commit, and end the process; called in the app's loop."""
        if not self._stopping:
            self._stopping = True
            self._leaving = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), STOP_S)
            await faust_app.leave(self.app)
        except Exception as error:  # what is not committed will be read again
            log.warning("worker did not end tidily: %r", error)
        log.info("worker ends: it was asked to")
        logging.shutdown()
        os._exit(0)

    # ------------------------------------------------------------------ tables
    def get(self, stage: str, partition: int, key: bytes) -> bytes | None:
        """A stored value, for the steps' states."""
        found: bytes | None = self._shelf(stage).values_of[partition].get(key)
        return found

    def _vectored(self, partition: int, key: bytes) -> bytes | None:
        return self.get(topics.VECTOR_TABLE, partition, key)

    def _shelf(self, name: str) -> Shelf:
        shelf = self._tables[name].data
        assert isinstance(shelf, Shelf)
        return shelf

    async def _store(self, writes: Sequence[Write]) -> bool:
        """Send values and what is published of them; move them in memory once all that is acknowledged."""
        still = self._owner()
        if not still() or not await self._sender.send((record for one in writes for record in self._of(one)), still):
            return False
        if not still():
            return False
        shelves = {name: self._shelf(name).values_of for name in {one.table for one in writes}}
        for one in writes:
            shelves[one.table][one.partition][one.key.encode()] = one.stored
            if one.kept is not None:
                self._cache.put((one.table, one.partition, one.key), one.kept)
        return True

    def _of(self, write: Write) -> Iterator[Record]:
        """The changelog's record, and what is published."""
        yield Record(self._changelogs[write.table], write.partition, write.key.encode(), write.stored)
        if write.published is not None:
            yield self._named(write.published)

    def _named(self, record: Record) -> Record:
        name = topics.full(self._settings, record.topic)
        return Record(name, record.partition, record.key, record.value, record.headers)

    def _owner(self) -> Callable[[], bool]:
        """Whether the partitions are still as they are now, as far as this process can know."""
        generation = self.app.consumer_generation_id

        def still() -> bool:
            self._watchdog.check()
            same: bool = generation == self.app.consumer_generation_id and not self.app.rebalancing
            return same

        return still

    # ------------------------------------------------------------------ from Faust
    def _connect(self) -> None:
        """Hang our tasks and ears into the app."""
        app, vectoriser = self.app, self._vectoriser

        async def work() -> None:
            await self._work()

        async def tick() -> None:
            await self._tick()

        async def vectors() -> None:
            if vectoriser is not None:
                await asyncio.gather(vectoriser.work(lambda: bool(app.should_stop)), self._turn(vectoriser))

        async def revoked(*_: Any, **__: Any) -> None:
            self._line.clear()
            self._cache.clear()
            if vectoriser is not None:
                vectoriser.forget()

        async def recovered(*_: Any, **__: Any) -> None:
            self._cache.clear()
            if vectoriser is not None:
                self._note_all(vectoriser)

        for task in (work, tick, vectors):
            app.task(task)
        self._ears = revoked, recovered  # signals hold their receivers weakly
        app.on_partitions_revoked.connect(revoked)
        app.on_rebalance_complete.connect(recovered)

    async def _turn(self, vectoriser: Vectoriser) -> None:
        """Turn to the encoder of another bundle when that serves, and give every item a vector of its space."""
        while not self.app.should_stop:
            await asyncio.sleep(ENCODER_S)
            newer = await asyncio.to_thread(self._newer)
            if newer is not None:
                vectoriser.turn_to(newer)
                self._note_all(vectoriser)

    def _note_all(self, vectoriser: Vectoriser) -> None:
        """Items whose text has no vector yet, of all partitions that are ours."""
        catalogue = next(stage for stage in self._stages if stage.name == "catalogue")
        for partition, held in self._shelf("catalogue").values_of.items():
            for key in held:
                place = catalogue.name, partition, key.decode()
                item = self._cache.get(place, catalogue.empty).state.item
                vectoriser.note(partition, key.decode(), item)

    # ------------------------------------------------------------------ work
    async def _work(self) -> None:
        await self._sender.start()
        try:
            while not self._stopping:
                events = await self._line.take(self._settings.worker.batch)
                if events:
                    await self._batch(events)
        except Exception as error:
            log.exception("the work failed")
            finish(f"its work failed: {error!r}")
        finally:
            await self._sender.stop()
            self._idle.set()

    async def _settled(self) -> None:
        """Wait until the group has settled: what is read by then would be given up, and not be read again.

        Faust lets a partition's records through a moment before it says that the rebalance is over.
        """
        while self.app.rebalancing and not self._stopping:
            await asyncio.sleep(SETTLE_S)

    def _give_up(self, generation: int) -> None:
        """A batch came to nothing: its records are read again once the group has settled.

        Where the group has not changed they are not, and those after them must not overtake them.
        """
        self._figures["given_up"] += 1
        if generation == self.app.consumer_generation_id and not self.app.rebalancing:
            finish("a batch was given up, and nobody will read it again")

    async def _batch(self, read: Sequence[Read]) -> None:
        """Take records through the steps, send what comes of them, and have their offsets committed."""
        await self._settled()
        generation = self.app.consumer_generation_id
        still = self._owner()
        batch, done = await self._walk(read, generation)
        sent = await self._sender.send(map(self._named, batch.records()), still)
        writes = list(batch.writes())
        if not sent or not await self._store(writes):
            self._give_up(generation)
            return
        self.app.consumer.done.update({one.tp: one.record.offset + 1 for one in done})
        if self._vectoriser is not None:
            for one in writes:
                if one.table == "catalogue" and one.kept is not None:
                    self._vectoriser.note(one.partition, one.key, one.kept.state.item)
        for name, more in (("events", batch.events), ("refused", batch.refused), ("repeated", batch.repeated)):
            self._figures[name] += more
        self._figures["batches"] += 1

    async def _walk(self, read: Sequence[Read], generation: int) -> tuple[Batch, list[Read]]:
        """A batch of the first of these records, and which they are; the others go back into the line."""
        settings = self._settings
        batch = Batch(
            self._stages,
            self._cache,
            settings.log.partitions,
            settings.kafka.max_record_bytes,
            settings.worker.version,
            generation,
        )
        done: list[Read] = []
        for place, one in enumerate(read):
            if one.generation == generation:
                batch.take(self._entry(one.tp, one.record))
                done.append(one)
            if batch.messages >= settings.worker.batch:
                self._line.put_back(read[place + 1 :])
                break
            if place % TURN == TURN - 1:
                await asyncio.sleep(0)
        return batch, done

    def _entry(self, tp: Any, record: Any) -> Entry:
        topic = self._short[tp.topic]
        return Entry(topic, tp.partition, record.offset, record.key or b"", record.value, record.timestamp)

    # ------------------------------------------------------------------ how it stands
    async def _tick(self) -> None:
        asked: asyncio.Task[Seen] | None = None
        while not self.app.should_stop:
            if asked is None or asked.done():
                if asked is not None:
                    self._seen = asked.result()
                asked = asyncio.ensure_future(self._look())
            self._seen = self._seen._replace(at=clock())
            await asyncio.sleep(TICK_S)

    async def _look(self) -> Seen:
        """How far the brokers' logs go, against what is committed."""
        app, consumer = self.app, self.app.consumer
        recovery = app.tables.recovery
        recovering = bool(app.rebalancing or recovery.in_recovery or not app.tables.actives_ready)
        remaining = recovery.active_remaining_total() if recovering else 0
        seen = self._seen._replace(recovering=recovering, remaining=remaining)
        try:
            ours = [tp for tp in consumer.assignment() if tp.topic in self._short]
            self._partitions = sorted({tp.partition for tp in ours})
            ends, begins = (
                await asyncio.wait_for(
                    asyncio.gather(consumer.highwaters(*ours), consumer.earliest_offsets(*ours)), ASK_S
                )
                if ours
                else ({}, {})
            )
        except Exception as error:  # of many kinds: a broker that is away, a consumer that is not there yet
            log.debug("brokers do not answer: %r", error)
            return seen._replace(reachable=False)
        committed = {tp: max(consumer._committed_offset.get(tp) or 0, begins.get(tp) or 0) for tp in ours}
        lag = sum(max(0, (ends.get(tp) or 0) - committed[tp]) for tp in ours)
        return seen._replace(reachable=True, lag=lag, committed=sum(committed.values()))

    def describe(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether it is well, and its figures, for the health page."""
        seen, now = self._seen, clock()
        well = now - seen.at < self._settings.worker.session_s and seen.reachable and not seen.recovering
        return well, {
            **self._figures,
            "recovering": seen.recovering,
            "recovery_remaining": seen.remaining,
            "brokers_reachable": seen.reachable,
            "lag_records": seen.lag,
            "loop_age_s": round(now - seen.at, 3),
            "line_records": len(self._line),
            "vectors_waiting": self._vectoriser.waiting if self._vectoriser else 0,
            "vectors_encoded": self._vectoriser.encoded if self._vectoriser else 0,
            "partitions": self._partitions,
            "resident_bytes": resident_bytes(),
        }
