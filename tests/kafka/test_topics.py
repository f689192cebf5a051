from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from aiokafka.admin import NewTopic

from core.errors import Unavailable
from core.settings import KafkaSettings, LogSettings, Settings
from kafka_dev import Kafka
from streams import kafka, topics

pytestmark = pytest.mark.kafka


async def make_one(settings: Settings, name: str, partitions: int, **config: str) -> None:
    async with kafka.opened(settings, lambda: kafka.admin(settings)) as admin:
        await admin.create_topics([NewTopic(topics.full(settings, name), partitions, 1, topic_configs=config)])


def test_created_topics_are_as_wanted_and_are_made_once(settings: Settings) -> None:
    assert all(line.endswith(": missing") for line in topics.check(settings))
    assert topics.create(settings) == [one.name for one in topics.wanted(settings)]
    assert topics.check(settings) == []
    assert topics.create(settings) == []


def test_a_topic_that_is_otherwise_is_told_and_left_alone(settings: Settings) -> None:
    asyncio.run(make_one(settings, "clickstream", 3, **{"retention.ms": "60000"}))
    made = topics.create(settings)
    name = topics.full(settings, "clickstream")
    assert name not in made
    lines = topics.check(settings)
    assert f"{name}: 3 partitions, wanted 4" in lines
    assert f"{name}: retention.ms is 60000, wanted 604800000" in lines
    assert f"{name}: message.timestamp.type is CreateTime, wanted LogAppendTime" in lines
    assert all(line.startswith(name) for line in lines)


def test_the_description_counts_records_and_names_what_is_missing(settings: Settings) -> None:
    asyncio.run(make_one(settings, "items", 4, **{"cleanup.policy": "compact"}))

    async def write() -> None:
        async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
            for one in range(7):
                await producer.send_and_wait(topics.full(settings, "items"), b"{}", key=b"a", partition=one % 4)

    asyncio.run(write())
    rows = {row[0].removeprefix(settings.kafka.prefix): row[1:] for row in topics.describe(settings)}
    assert rows["items"] == ["4", "1", "compact", "newest of a key", "7"]
    assert rows["feedback"][0] == "missing"


def test_more_copies_than_brokers_are_refused_with_kafkas_reason(settings: Settings) -> None:
    three = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, replication=3))
    with pytest.raises(Unavailable, match="replication factor of 3"):
        topics.create(three)
    assert all(line.endswith(": missing") for line in topics.check(settings))


def test_a_broker_that_does_not_answer_is_told_within_seconds(cluster: Callable[[int], Kafka]) -> None:
    one = cluster(1)
    settings = Settings(kafka=KafkaSettings(bootstrap=one.bootstrap), log=LogSettings(partitions=1))
    one.kill()
    with pytest.raises(Unavailable, match="headwater dev kafka"):
        topics.check(settings)


def test_copies_that_lag_behind_are_told(cluster: Callable[[int], Kafka]) -> None:
    three = cluster(3)
    settings = Settings(
        kafka=KafkaSettings(bootstrap=three.bootstrap, replication=3, min_insync=2), log=LogSettings(partitions=1)
    )
    topics.create(settings)
    assert topics.check(settings) == []
    three.terminate(3)
    assert topics.check(settings) == []
    three.terminate(2)
    assert "clickstream: partition 0 has 1 copies in sync, 2 must be" in topics.check(settings)
