"""Dead letters on Kafka: read without a group, and appended to their topics again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from core.errors import Missing
from core.settings import Settings
from streams import kafka
from streams.letters import GATEWAY, Outcome, asked, is_original, judge_all, origin_of
from streams.log import Entry, New
from streams.messages import DEAD_LETTERS, Letter
from streams.partition import partition_of
from streams.topics import full, partitions
from streams.topology import SOURCES

READ_S: Final = 60.0  # for some records to come
POLL_MS: Final = 500
AT_ONCE: Final = 500

_decoder: Final = msgspec.json.Decoder(Letter)


async def newest(settings: Settings, most: int) -> list[Letter]:
    """See `streams.letters.newest`."""
    counts = await _partitions(settings)
    async with kafka.opened(settings, lambda: kafka.reader(settings, "letters")) as reader:
        found = [one async for one in _letters(settings, reader, counts[DEAD_LETTERS], most)]
    told = [one if one.ts else msgspec.structs.replace(one, ts=arrived) for arrived, one in found]
    return sorted(_once(told), key=lambda one: -one.ts)[:most]


async def replay(settings: Settings, now_ms: int, text: str) -> list[Outcome]:
    """See `streams.letters.replay`."""
    counts = await _partitions(settings)
    async with kafka.opened(settings, lambda: kafka.reader(settings, "letters")) as reader:
        every = [one async for one in _letters(settings, reader, counts[DEAD_LETTERS], None) if asked(one[1], text)]
        found = _once([letter for _, letter in sorted(every, key=lambda one: one[0])])
        originals = {one.origin: await _original(settings, reader, counts, one) for one in found}
    largest = settings.kafka.max_record_bytes
    outcomes, records = judge_all(found, now_ms, lambda letter: originals[letter.origin], largest)
    await _append(settings, records)
    return outcomes


def _once(found: Sequence[Letter]) -> list[Letter]:
    """A worker that starts again may write a letter again; those of the gateway all have the same origin."""
    told: dict[object, Letter] = {}
    for number, letter in enumerate(found):
        told.setdefault(number if letter.origin == GATEWAY else letter.origin, letter)
    return list(told.values())


async def _letters(settings: Settings, reader: Any, count: int, most: int | None) -> AsyncIterator[tuple[int, Letter]]:
    """When each came (ms) and what it is, by partition, oldest first: the last `most` of each, or all."""
    from aiokafka import TopicPartition

    places = [TopicPartition(full(settings, DEAD_LETTERS), number) for number in range(count)]
    async with kafka.answers(settings):
        first, ends = await reader.beginning_offsets(places), await reader.end_offsets(places)
    reader.assign(places)
    for place in places:
        reader.seek(place, first[place] if most is None else max(first[place], ends[place] - most))
    while True:
        async with kafka.answers(settings, READ_S):
            if not [place for place in places if await reader.position(place) < ends[place]]:
                return
            batches = await reader.getmany(timeout_ms=POLL_MS)
        for place, records in batches.items():
            for record in records:
                if record.value is not None and record.offset < ends[place]:
                    yield record.timestamp, _letter(record)


async def _partitions(settings: Settings) -> dict[str, int]:
    counts = await partitions(settings, (DEAD_LETTERS, *SOURCES))
    if DEAD_LETTERS not in counts:
        name = full(settings, DEAD_LETTERS)
        raise Missing(f"no topic {name} on {settings.kafka.bootstrap}: headwater topics create makes it")
    return counts


def _letter(record: Any) -> Letter:
    try:
        return _decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        place = f"{DEAD_LETTERS}/{record.partition}/{record.offset}"
        return Letter(f"no letter: {error}", place, record.timestamp, record.value.decode("utf-8", "replace"))


async def _original(settings: Settings, reader: Any, counts: Mapping[str, int], letter: Letter) -> Entry | None:
    """The refused record itself, if it is still there: a letter holds only the beginning of a large one, as text."""
    from aiokafka import TopicPartition

    origin = origin_of(letter)
    if origin is None or origin.topic not in SOURCES or origin.partition >= counts.get(origin.topic, 0):
        return None
    place = TopicPartition(full(settings, origin.topic), origin.partition)
    async with kafka.answers(settings, READ_S):
        first, ends = await reader.beginning_offsets([place]), await reader.end_offsets([place])
        if not first[place] <= origin.offset < ends[place]:
            return None
        reader.assign([place])
        reader.seek(place, origin.offset)
        record = await reader.getone()
    entry = Entry(origin.topic, origin.partition, record.offset, record.key or b"", record.value, record.timestamp)
    return entry if record.offset == origin.offset and is_original(letter, entry) else None


async def _append(settings: Settings, records: Sequence[New]) -> None:
    if not records:
        return
    async with kafka.opened(settings, lambda: kafka.producer(settings, "letters")) as producer:
        for begin in range(0, len(records), AT_ONCE):
            async with kafka.answers(settings, READ_S):
                acks = [await _send(settings, producer, one) for one in records[begin : begin + AT_ONCE]]
                await asyncio.gather(*acks)


async def _send(settings: Settings, producer: Any, record: New) -> Any:
    partition = partition_of(record.key, settings.log.partitions)
    return await producer.send(full(settings, record.topic), record.value, key=record.key, partition=partition)
