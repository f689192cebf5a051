from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from core.errors import BadInput, Missing
from core.settings import Settings
from streams import kafka, topics
from streams.letters import newest, replay
from streams.log import Entry
from streams.messages import Letter, Message, messages, of_letter
from streams.partition import partition_of
from tests.factories import T

pytestmark = pytest.mark.kafka

VIEW = {"name": "view_item", "event_id": "e1", "user_id": "ida", "item_id": "a", "ts": T}


def raw(value: object) -> str:
    return msgspec.json.encode(value).decode()


def write(settings: Settings, topic: str, *values: bytes, partition: int = 0) -> list[tuple[int, int]]:
    """Offset and time of each record."""

    async def send() -> list[tuple[int, int]]:
        async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
            name = topics.full(settings, topic)
            acks = [await producer.send_and_wait(name, one, partition=partition) for one in values]
            return [(one.offset, one.timestamp) for one in acks]

    return asyncio.run(send())


def put(settings: Settings, *letters: Letter) -> None:
    write(settings, "dead-letter", *(of_letter(one).value or b"" for one in letters))


def read(settings: Settings, topic: str) -> list[tuple[Any, list[Message | BadInput]]]:
    """Each record of a topic with what it says."""

    async def fetch() -> list[Any]:
        from aiokafka import TopicPartition

        async with kafka.opened(settings, lambda: kafka.reader(settings, "test")) as reader:
            places = [TopicPartition(topics.full(settings, topic), one) for one in range(settings.log.partitions)]
            ends = await reader.end_offsets(places)
            reader.assign(places)
            found: list[Any] = []
            while len(found) < sum(ends.values()):
                found += [one for some in (await reader.getmany(timeout_ms=200)).values() for one in some]
            return found

    return [
        (one, list(messages(Entry(topic, one.partition, one.offset, one.key or b"", one.value, one.timestamp))))
        for one in asyncio.run(fetch())
    ]


@pytest.fixture
def shop(settings: Settings) -> Settings:
    topics.create(settings)
    return settings


def test_letters_are_read_newest_first_and_one_origin_once(shop: Settings) -> None:
    old, new = Letter("old", "clickstream/0/1", T, "x"), Letter("new", "gateway", T + 5, "y")
    put(shop, old, new, old, Letter("new", "gateway", T + 5, "y"))
    write(shop, "dead-letter", b"no letter at all", partition=3)
    found = newest(shop, 10)
    assert found[1:] == [new, new, old]
    assert (found[0].origin, found[0].raw) == ("dead-letter/3/0", "no letter at all")
    assert len(newest(shop, 2)) == 2


def test_a_letter_of_a_failed_step_gets_the_time_it_was_written(shop: Settings) -> None:
    put(shop, Letter("the step failed", "clickstream/0/1", 0, "x"))
    assert newest(shop, 1)[0].ts > T


def test_what_is_good_now_goes_to_the_partition_of_its_key(shop: Settings) -> None:
    pot = Letter("r", "gateway", T, raw({"item_id": "pot", "title": "Pot"}))
    put(shop, Letter("r", "gateway", T, raw(VIEW)), pot, Letter("bad", "clickstream/0/9", T, "{"))
    outcomes = replay(shop, T)
    assert [one.records for one in outcomes] == [1, 1, 0]
    assert "not JSON" in outcomes[2].reason
    ((view, _),) = read(shop, "clickstream")
    assert (view.key, view.partition) == (b"ida", partition_of(b"ida", shop.log.partitions))
    ((change, _),) = read(shop, "items")
    assert (change.key, change.partition) == (b"pot", partition_of(b"pot", shop.log.partitions))


def test_a_repeated_replay_repeats_event_ids_and_nothing_else(shop: Settings) -> None:
    put(shop, Letter("r", "gateway", T, raw({k: v for k, v in VIEW.items() if k not in ("event_id", "ts")})))
    replay(shop, T)
    replay(shop, T + 1_000)
    (_, (first,)), (_, (second,)) = read(shop, "clickstream")
    assert first == second


def test_the_record_itself_is_read_where_the_letter_has_lost_bytes(shop: Settings) -> None:
    good = raw([VIEW, VIEW | {"event_id": "e2", "item_id": "b"}]).encode()
    ((offset, ts),) = write(shop, "clickstream", good, partition=2)
    put(shop, Letter("the record was too large", f"clickstream/2/{offset}/1", ts, "\ufffd cut"))
    (outcome,) = replay(shop, T)
    assert outcome.records == 1, outcome.reason
    said = [one for record, found in read(shop, "clickstream") if record.key for one in found]
    assert [getattr(one, "event_id", "") for one in said] == ["e2"]


def test_a_record_that_is_another_one_now_is_not_taken_for_it(shop: Settings) -> None:
    ((offset, ts),) = write(shop, "clickstream", raw(VIEW).encode(), partition=2)
    put(shop, Letter("r", f"clickstream/2/{offset}", ts - 1, "\ufffd"), Letter("r", "clickstream/2/77", T, "\ufffd"))
    assert ["not UTF-8" in one.reason for one in replay(shop, T)] == [True, True]


def test_only_letters_with_the_text_are_tried(shop: Settings) -> None:
    put(shop, Letter("early", "gateway", T, raw(VIEW)), Letter("r", "feedback/0/1", T, "{"))
    assert [one.records for one in replay(shop, T, "early")] == [1]
    assert [one.reason != "" for one in replay(shop, T, "feedback/")] == [True]
    assert len(read(shop, "clickstream")) == 1


def test_without_topics_it_says_how_to_make_them(settings: Settings) -> None:
    with pytest.raises(Missing, match="topics create"):
        newest(settings, 5)
