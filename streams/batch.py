"""Records of Kafka taken through the steps, a batch at a time: what to send, and what to store.

Knows neither Kafka nor Faust. Nothing it is given changes: states move in an overlay, and the
worker takes them over once what the steps said has been acknowledged. A batch that is given up
half way leaves no trace.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from core.catalogue import ItemChange
from core.errors import BadInput
from core.events import Event, encode
from core.fields import AHEAD_MS
from core.ids import MINUTE_MS
from streams.kept import Cache, Kept, Place, origin_of, stored
from streams.log import Entry
from streams.messages import DEAD_LETTERS, Letter, Message, as_fed, messages, of_letter
from streams.partition import partition_of
from streams.profile import Output
from streams.topology import Stage
from streams.wire import PACKETS, Position, Told, packets, serve

log = logging.getLogger("headwater")

LETTER_CHARACTERS: Final = 100_000  # of what was refused; the rest can be read where the letter says it came from
ERA_BITS: Final = 52  # of a published version, for generations and messages of one era
GENERATION_BITS: Final = 24  # of a version, for the messages of one generation of the group
_OUTPUTS: Final = 1 << 20  # of one message and stage at most: the stage's number stands above


class Record(msgspec.Struct, frozen=True, gc=False):
    """Something to send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Write(msgspec.Struct, frozen=True, gc=False):
    """A changed value: what its table gets, and what is published of it. `kept` is it decoded, for a stage's table."""

    table: str
    partition: int
    key: str
    kept: Kept | None
    stored: bytes
    published: Record | None


class _From(msgspec.Struct, frozen=True, gc=False):
    """The message being worked on: the origin and position that its guard goes by, and where it was read."""

    origin: int
    position: Position
    topic: str
    partition: int
    read: tuple[int, int]  # offset, and index within the record


class Batch:
    """Feed it records with `take`, in the order of each partition; then send `records` and store `writes`.

    Args:
        stages: what `topology.build` gives.
        cache: the states as they are stored.
        partitions: of every topic.
        max_bytes: a record of a source topic that is larger is refused.
        era: which time the workers have begun anew; what they publish then is newer than all before.
        generation: of the group. What an owner of a partition writes is newer than all that a former one does,
            also where that one wakes up late and had come further in one topic, though less far in another.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        cache: Cache,
        partitions: int,
        max_bytes: int,
        era: int = 1,
        generation: int = 0,
    ) -> None:
        self._cache, self._partitions, self._max_bytes = cache, partitions, max_bytes
        self._first, self._least = era << ERA_BITS, max(0, generation) << GENERATION_BITS
        self._readers: dict[str, list[tuple[int, Stage]]] = defaultdict(list)
        for number, stage in enumerate(stages):
            for topic in stage.reads:
                self._readers[topic].append((number, stage))
        self._stages = {stage.name: stage for stage in stages}
        self._states: dict[Place, Kept] = {}
        self._packets: dict[tuple[str, int, str, int], list[Told[Any]]] = defaultdict(list)
        self._plain: list[Record] = []
        self.events = 0  # messages of source topics taken in
        self.messages = 0  # of all topics
        self.refused = 0
        self.repeated = 0  # messages that a stage had taken in before

    # ------------------------------------------------------------------ taking in
    def take(self, entry: Entry) -> None:
        """Work off one record; what it says that cannot be used becomes a dead letter."""
        if entry.topic in PACKETS:
            self._unpack(entry)
            return
        try:
            if entry.value is not None and len(entry.value) > self._max_bytes:
                raise BadInput(f"a record of {len(entry.value):,} bytes, at most {self._max_bytes:,} are accepted")
            found = messages(entry)
        except BadInput as error:
            self._refuse(entry, -1, str(error))
            return
        for index, message in enumerate(found):
            if isinstance(message, BadInput):
                self._refuse(entry, index if len(found) > 1 else -1, str(message))
            else:
                self._source(entry, index, message)

    def _source(self, entry: Entry, index: int, message: Message) -> None:
        fed = as_fed(message)
        key = fed.item_id if isinstance(fed, ItemChange) else fed.shopper
        partition = partition_of(key.encode(), self._partitions)
        if fed.ts > entry.ts + AHEAD_MS:
            self._refuse(entry, index, f"it lies {(fed.ts - entry.ts) / MINUTE_MS:.0f} minutes ahead of its arrival")
            return
        if partition != entry.partition:
            self._forward(entry, partition, key, message)
            return
        self.events += 1
        position = (entry.offset, index, 0)
        origin = origin_of(entry.topic, entry.partition)
        self._apply(entry.topic, key, fed, _From(origin, position, entry.topic, partition, position[:2]))

    def _forward(self, entry: Entry, partition: int, key: str, message: Message) -> None:
        """Send a message to the partition where its key is at home: its producer hashes otherwise than Kafka's own.

        A repeated one is recognised by its event id; changes of items may be repeated.
        """
        if isinstance(message, Event):
            value: bytes | None = encode(message)
        elif isinstance(message, ItemChange):
            value = msgspec.json.encode(message)
        else:
            value = entry.value
        self._plain.append(Record(entry.topic, partition, key.encode(), value))

    def _unpack(self, entry: Entry) -> None:
        try:
            packet = PACKETS[entry.topic].decode(entry.value or b"")
            if packet.v != 1:
                raise ValueError(f"version {packet.v}, 1 is known")
            origin = origin_of(packet.topic, packet.partition)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(entry, -1, f"no packet of this version: {error}")
            return
        for index, one in enumerate(packet.told):
            source = _From(origin, one.position, entry.topic, entry.partition, (entry.offset, index))
            self._apply(entry.topic, one.key, one.value, source)

    def _apply(self, topic: str, key: str, message: Any, source: _From) -> None:
        self.messages += 1
        origin, position, partition = source.origin, source.position, source.partition
        for number, stage in self._readers[topic]:
            if not stage.hears(message):
                continue
            place = stage.name, partition, key
            moved = self._states.get(place)
            kept = moved or self._cache.get(place, stage.empty)
            last = kept.guard.get(origin)
            if last is not None and position <= last:
                self.repeated += 1
                continue
            try:
                after, outputs = stage.step(kept.state, message)
            except Exception as error:
                log.exception("stage=%s failed at %s", stage.name, _place(source))
                self._letter(_place(source), f"the step {stage.name} failed: {error!r}", 0, repr(message))
                continue
            if after is kept.state and not outputs and topic != "identity":
                continue  # an identity that says nothing today would say something when it is repeated
            if moved is None:
                kept = self._states[place] = Kept(max(kept.version, self._least), dict(kept.guard), kept.state)
            kept.version += 1
            kept.guard[origin] = position
            kept.state = after
            if outputs:
                self._say(outputs, number * _OUTPUTS, source)

    def _say(self, outputs: Sequence[Output], first: int, source: _From) -> None:
        """Each output under its position, which ends with how many before it went to the same key, from `first` on.

        How many went to others is no mark to know it by: when a message is worked on again, clickstream and
        feedback may come in another order, and with them other partners in a session.
        """
        said: dict[tuple[str, str], int] = {}
        offset, index = source.read
        for output in outputs:
            topic, key, value = output.topic, output.key, output.value
            to = topic, key
            ordinal = said[to] = said[to] + 1 if to in said else first
            home = key.encode()
            partition = partition_of(home, self._partitions)
            if topic in PACKETS:
                told = Told((offset, index, ordinal), key, value)
                self._packets[topic, partition, source.topic, source.partition].append(told)
            else:
                origin = f"{_place(source)}/{ordinal}".encode()
                self._plain.append(Record(topic, partition, home, _encode(value), (("origin", origin),)))

    def _refuse(self, entry: Entry, index: int, reason: str) -> None:
        self.refused += 1
        origin = f"{entry.topic}/{entry.partition}/{entry.offset}" + (f"/{index}" if index >= 0 else "")
        self._letter(origin, reason, entry.ts, _raw(entry, index))

    def _letter(self, origin: str, reason: str, ts: int, raw: str) -> None:
        letter = Letter(reason, origin, ts, raw[:LETTER_CHARACTERS])
        home = partition_of(origin.encode(), self._partitions)
        self._plain.append(Record(DEAD_LETTERS, home, None, of_letter(letter).value))

    # ------------------------------------------------------------------ what comes of it
    def records(self) -> Iterator[Record]:
        """What is to be acknowledged before any state is stored, in the order of each partition."""
        for (topic, partition, read, read_partition), told in self._packets.items():
            for value in packets(read, read_partition, told):
                yield Record(topic, partition, None, value)
        yield from self._plain

    def writes(self) -> Iterator[Write]:
        """The states that moved."""
        for (name, partition, key), kept in self._states.items():
            stage = self._stages[name]
            state = msgspec.Raw(_encode(kept.state))
            published = None
            if stage.publishes:
                served = stage.serve(kept.state)
                whole = state if served is kept.state else served
                value = None if served is None else serve(self._first + kept.version, whole)
                published = Record(stage.publishes, partition, key.encode(), value)
            yield Write(name, partition, key, kept, stored(kept.version, kept.guard, state), published)


_encode: Final = msgspec.msgpack.Encoder().encode


def _place(source: _From) -> str:
    return f"{source.topic}/{source.partition}/{source.read[0]}/{source.read[1]}"


def _raw(entry: Entry, index: int) -> str:
    """What was refused: of a packed record the one event, as JSON."""
    value = entry.value or b""
    if index >= 0 and value.lstrip().startswith(b"["):
        value = msgspec.json.encode(msgspec.json.decode(value)[index])
    return value.decode("utf-8", "replace")
