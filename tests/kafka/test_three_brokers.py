"""Three brokers, three copies, two in sync: one may go without anybody noticing, two may not, and nothing is lost.

That a producer is refused while two are away is tested with the brokers themselves, in test_broker.py.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.events import Event, parse
from core.settings import GatewaySettings, Settings
from gateway.serving import gateway_on_kafka
from kafka_dev import Kafka
from streams import topics
from tests.kafka.crashes import events, faults, settled
from tests.kafka.shop import Worker, drain, eventually, produce, quick_settings
from tests.kafka.states import Expected
from tests.kafka.test_gateway import engine, now_ms, served, status_of

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Unclosed AIOKafka:ResourceWarning"),  # connections that broke
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

EVENTS = 4_000


def shop_of(cluster: Kafka, prefix: str, folder: Path) -> Settings:
    settings = quick_settings(
        cluster.bootstrap, prefix, replication=3, min_insync=2, spool=folder / "spool", spool_bytes=20_000, send_s=1.0
    )
    topics.create(settings)
    return msgspec.structs.replace(settings, gateway=GatewaySettings(port=0))


def posted(number: int) -> dict[str, Any]:
    """An event over HTTP, of a session that it names, at a time that no other event has."""
    return {
        "name": "view_item", "event_id": f"posted-{number}", "ts": now_ms() + number, "user_id": f"p{number % 7}",
        "item_id": f"i{number % 5}", "session_id": f"s{number % 7}",
    }  # fmt: skip


def test_one_killed_during_writes_loses_nothing(cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path) -> None:
    brokers = cluster(3)
    settings = shop_of(brokers, prefix, tmp_path)
    log = events(EVENTS)
    with ExitStack() as ends:
        for _ in range(2):
            ends.enter_context(Worker(settings, tmp_path))
        produce(settings, log[:500])
        writer = threading.Thread(target=produce, args=(settings, log[500:]))
        writer.start()
        time.sleep(0.2)
        brokers.kill(2)
        writer.join()
        drain(settings, 240.0, 5.0)
    expected = Expected(settings)
    expected.take(log)
    assert faults(settings, expected, log) == []


def test_with_two_killed_nothing_is_taken_that_could_be_lost_and_all_goes_on_later(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    brokers = cluster(3)
    settings = shop_of(brokers, prefix, tmp_path)
    log: list[Event] = list(events(EVENTS))
    produce(settings, log)
    with ExitStack() as ends:
        worker = ends.enter_context(Worker(settings, tmp_path))
        client = ends.enter_context(served(gateway_on_kafka(settings, None, now_ms)))
        url = f"http://{client._connection.host}:{client._connection.port}"
        eventually(lambda: settled(worker, settings.log.partitions), 60.0, "work")
        first = posted(0)
        client.post("/v1/events", [first])
        log.append(parse(first))
        brokers.kill(2)
        brokers.kill(3)
        status = 0
        for number in range(1, 400):
            one = posted(number)
            status, headers, _ = status_of(url, "/v1/events", [one])
            if status == 503:
                assert headers["retry-after"] == "1"
                break
            log.append(parse(one))
        assert status == 503, "the spool has no limit"
        assert len(log) > EVENTS + 20
        assert worker.alive
        brokers.start(2, 3)
        eventually(lambda: engine(client)["spool_records"] == 0, 120.0, "an empty spool")
        drain(settings, 240.0, 5.0)
        assert worker.alive
    gc.collect()  # while what aiokafka left open may complain
    expected = Expected(settings)
    expected.take(log)
    assert faults(settings, expected, log) == []
