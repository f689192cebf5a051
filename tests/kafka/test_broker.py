"""The broker that the other tests run on: what it acknowledged survives, and it dies with who started it."""

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from kafka_dev import READY_TOPIC, Kafka

pytestmark = pytest.mark.kafka

MORE_THAN_A_MEGABYTE = 5_000_000


async def make(kafka: Kafka, topic: str, copies: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, copies, topic_configs={"max.message.bytes": "8000000"})])
    finally:
        await admin.close()


async def produce(kafka: Kafka, topic: str, values: list[bytes], timeout_ms: int = 30_000) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, acks="all", max_request_size=8_000_000, request_timeout_ms=timeout_ms
    )
    try:
        await producer.start()
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def read(kafka: Kafka, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[bytes] = []
        while len(found) < end:
            found.append((await consumer.getone()).value)
        return found
    finally:
        await consumer.stop()


def test_acknowledged_records_survive_a_kill(cluster: Callable[[int], Kafka]) -> None:
    kafka = cluster(1)
    values = [b"record-%d" % one for one in range(200)]
    asyncio.run(make(kafka, "kept"))
    asyncio.run(produce(kafka, "kept", values))
    kafka.kill()
    assert kafka.alive() == []
    kafka.start()
    assert asyncio.run(read(kafka, "kept")) == values


def test_a_record_of_five_megabytes_is_taken(broker: Kafka, prefix: str) -> None:
    asyncio.run(make(broker, prefix + "big"))
    asyncio.run(produce(broker, prefix + "big", [b"x" * MORE_THAN_A_MEGABYTE]))
    (value,) = asyncio.run(read(broker, prefix + "big"))
    assert len(value) == MORE_THAN_A_MEGABYTE


@pytest.mark.timeout(300)  # on a busy machine three brokers take their time to start, twice
def test_of_three_brokers_one_may_die_and_two_may_not(cluster: Callable[[int], Kafka]) -> None:
    kafka = cluster(3)
    asyncio.run(make(kafka, "copied", copies=3))
    kafka.kill(1)
    asyncio.run(produce(kafka, "copied", [b"with two"]))
    kafka.kill(2)
    with pytest.raises(KafkaError):
        asyncio.run(produce(kafka, "copied", [b"with one"], timeout_ms=4_000))
    kafka.start(1, 2)
    assert asyncio.run(read(kafka, "copied"))[0] == b"with two"


def test_a_paused_broker_answers_nobody_until_it_goes_on(cluster: Callable[[int], Kafka]) -> None:
    kafka = cluster(1)
    kafka.pause()
    with pytest.raises((KafkaError, TimeoutError)):
        asyncio.run(asyncio.wait_for(produce(kafka, READY_TOPIC, [b"x"], timeout_ms=2_000), 4.0))
    kafka.resume()
    asyncio.run(produce(kafka, READY_TOPIC, [b"x"]))


def test_a_broker_dies_with_who_started_it(tmp_path: Path) -> None:
    child = """
        import os, signal, sys
        from pathlib import Path
        from kafka_dev import Kafka
        print(Kafka(Path(sys.argv[1])).start().pid(1), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(child), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    pid = int(done.stdout)
    until = time.monotonic() + 20.0
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
