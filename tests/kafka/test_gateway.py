"""The gateway on a real broker: what is accepted is on the topics or in the spool, and answers follow the topics."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.catalogue import Item
from core.decision import Decision
from core.errors import Unavailable
from core.profile import Profile
from core.settings import BundleSettings, ChannelSettings, GatewaySettings, KafkaSettings, LogSettings, Settings
from gateway.client import Client
from gateway.serving import Gateway, gateway_on_kafka
from kafka_dev import Kafka
from streams import kafka, topics
from streams.partition import partition_of
from streams.wire import ItemVector, serve
from tests import factories
from tests.gateway import running, words
from tests.ranker.tiny import DIM, SPACE, vector_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 2
served = partial(running.served, ends_within_s=40)
CHILD = """
import sys, time, msgspec
from core.settings import Settings
from gateway.serving import gateway_on_kafka
settings = msgspec.json.decode(sys.argv[1], type=Settings, dec_hook=lambda kind, value: kind(value))
gateway = gateway_on_kafka(settings, None, lambda: int(time.time() * 1000))
gateway.run(lambda: print(gateway.url, flush=True), signals=True)
"""


def now_ms() -> int:
    return int(time.time() * 1000)


def shop_of(broker: Kafka, prefix: str, folder: Path, **changed: Any) -> Settings:
    """A shop with its topics made."""
    fields: dict[str, Any] = {
        "bootstrap": broker.bootstrap,
        "prefix": prefix,
        "spool": folder / "spool",
        "send_s": 1.0,
    } | changed
    settings = msgspec.structs.replace(
        factories.small_settings(folder),
        gateway=GatewaySettings(port=0),
        log=LogSettings(partitions=PARTITIONS),
        kafka=KafkaSettings(**fields),
    )
    topics.create(settings)
    return settings


@pytest.fixture
def shop(broker: Kafka, prefix: str, tmp_path: Path) -> Settings:
    return shop_of(broker, prefix, tmp_path)


def written(settings: Settings, topic: str) -> list[Any]:
    """All records of a topic."""

    async def read() -> list[Any]:
        from aiokafka import TopicPartition

        found: list[Any] = []
        places = [TopicPartition(topics.full(settings, topic), number) for number in range(PARTITIONS)]
        async with kafka.opened(settings, lambda: kafka.reader(settings, "test")) as reader:
            reader.assign(places)
            await reader.seek_to_beginning()
            ends = await reader.end_offsets(places)
            while any([await reader.position(place) < ends[place] for place in places]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += records
        return found

    return asyncio.run(read())


def write(settings: Settings, topic: str, records: Mapping[str, bytes | None]) -> None:
    async def send() -> None:
        async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
            for key, value in records.items():
                place = partition_of(key.encode(), PARTITIONS)
                await producer.send_and_wait(topics.full(settings, topic), value, key.encode(), place)

    asyncio.run(send())


def events_of(records: Sequence[Any]) -> list[dict[str, Any]]:
    """The events of records, packed or not."""
    found: list[dict[str, Any]] = []
    for record in records:
        value = msgspec.json.decode(record.value)
        found += value if isinstance(value, list) else [value]
    return found


def ids_of(records: Sequence[Any]) -> list[str]:
    return [event["event_id"] for event in events_of(records)]


def view(number: int, visitor: str = "v", **fields: Any) -> dict[str, Any]:
    event = {"name": "view_item", "event_id": f"e{number}", "ts": now_ms(), "visitor_id": visitor, "item_id": "i1"}
    return event | fields


def status_of(url: str, path: str, body: Any = None) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of one call on a connection of its own."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, msgspec.json.encode(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass in time"
        time.sleep(0.05)


@contextmanager
def child_of(shop: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gateway in a process of its own, and where it listens; killed at the end if it still runs."""
    command = [sys.executable, "-c", CHILD, msgspec.json.encode(shop, enc_hook=str).decode()]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, env=os.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


def is_ready(url: str) -> bool:
    return status_of(url, "/readyz")[0] == 200


def engine(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/healthz", details="true")["engine"]
    return found


# ---------------------------------------------------------------------- writing
def test_an_event_goes_alone_under_its_shopper_and_what_was_refused_to_the_dead_letters(shop: Settings) -> None:
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        told = client.post("/v1/events", [view(1), {"name": "stare", "event_id": "bad"}])
        client.post("/v1/events", [{"name": "like", "event_id": "e2", "visitor_id": "w", "item_id": "i1"}])
    assert (told["accepted"], told["refused"][0]["event_id"]) == (1, "bad")
    (record,) = written(shop, "clickstream")
    assert (record.key, record.partition) == (b"v", partition_of(b"v", PARTITIONS))
    assert msgspec.json.decode(record.value)["event_id"] == "e1"
    assert ids_of(written(shop, "feedback")) == ["e2"]
    (letter,) = [msgspec.json.decode(one.value) for one in written(shop, "dead-letter")]
    assert (letter["origin"], '"stare"' in letter["raw"]) == ("gateway", True)


def test_many_posts_at_once_share_records_and_every_event_is_there_once_and_in_order(shop: Settings) -> None:
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        url = f"http://{client._connection.host}:{client._connection.port}"

        def shopper(name: str) -> None:
            with Client(url) as own:
                for number in range(20):
                    events = [view(number * 10 + n, name, event_id=f"{name}-{number * 10 + n}") for n in range(10)]
                    assert own.post("/v1/events", events) == {"accepted": 10}

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(shopper, [f"s{n}" for n in range(12)]))
        assert engine(client)["events_per_record"] > 10
    records = written(shop, "clickstream")
    assert len(records) < 240
    by_shopper: dict[str, list[int]] = {}
    for record in records:
        packed = events_of([record])
        assert {partition_of(event["visitor_id"].encode(), PARTITIONS) for event in packed} == {record.partition}
        assert record.key is None or len(packed) == 1
        for event in packed:
            name, number = event["event_id"].split("-")
            by_shopper.setdefault(name, []).append(int(number))
    assert by_shopper == {f"s{n}": list(range(200)) for n in range(12)}


def test_each_change_of_an_item_is_a_record_of_its_own_in_order(shop: Settings) -> None:
    changes = [{"item_id": f"i{n % 3}", "title": f"t{n}", "ts": 1_000 + n} for n in range(300)]
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        assert client.post("/v1/items", changes) == {"accepted": 300}
    found = [(record.key.decode(), msgspec.json.decode(record.value)) for record in written(shop, "items")]
    for item in ("i0", "i1", "i2"):
        wanted = [one["title"] for one in changes if one["item_id"] == item]
        assert [value["title"] for key, value in found if key == item] == wanted


def test_an_event_that_is_no_record_is_refused_and_the_others_are_not(
    broker: Kafka, prefix: str, tmp_path: Path
) -> None:
    shop = shop_of(broker, prefix, tmp_path, max_record_bytes=2_000)
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        told = client.post("/v1/events", [view(1), view(2, attributes={"note": "x" * 3_000})])
    assert told["accepted"] == 1
    assert "at most 2,000" in told["refused"][0]["reason"]
    assert ids_of(written(shop, "clickstream")) == ["e1"]


# ---------------------------------------------------------------------- answering
def fill(settings: Settings, items: Sequence[str]) -> None:
    """What workers would write of a shop with those items, one of which ida has seen."""
    ts = now_ms() - 60_000
    catalogue = [Item(item_id=one, since=ts, ts=ts, text_ts=ts, title=one.title()) for one in items]
    write(settings, "catalogue", {one.item_id: serve(1, one) for one in catalogue})
    vectors = [ItemVector(1, SPACE, ts, vector_of(one).astype("<f4").tobytes()) for one in items]
    write(settings, "item-vectors", {one: serve(ts, vector) for one, vector in zip(items, vectors, strict=True)})
    profile, _ = factories.after(factories.event("view_item", items[0], ts=ts, session_id="s"))
    write(settings, "profiles", {"ida": serve(7, profile)})


class Words:
    """An encoder of search queries and of titles."""

    space_id, dim, name, weights_sha256, folder = SPACE, DIM, "words", "0", None

    def vectors(self, items: Sequence[Item]) -> np.ndarray[Any, Any]:
        return np.stack([vector_of(one.title) for one in items])

    def query(self, text: str) -> np.ndarray[Any, Any]:
        return vector_of(text)


def test_answers_come_from_what_the_topics_say_and_follow_them(shop: Settings) -> None:
    fill(shop, ["red tea", "old tea", "red bike"])
    shop = msgspec.structs.replace(shop, channels=ChannelSettings())
    with served(Gateway(shop, Words(), now_ms)) as client:  # type: ignore[arg-type]
        url = f"http://{client._connection.host}:{client._connection.port}"
        eventually(lambda: is_ready(url))
        listed = client.get("/v1/recommendations", user_id="ida")["items"]
        assert {one["item_id"] for one in listed} == {"red tea", "old tea", "red bike"}
        assert any(reason.get("item_id") == "red tea" for one in listed for reason in one["reasons"])
        assert client.get("/v1/search", q="bike", n=1)["items"][0]["item_id"] == "red bike"
        found = engine(client)
        assert (found["items"], found["vectors"], found["shoppers"], found["lag_records"]) == (3, 3, 1, 0)
        write(shop, "catalogue", {"red bike": None})
        write(shop, "profiles", {"ida": serve(6, Profile())})  # of an older version: nothing changes
        eventually(lambda: engine(client)["items"] == 2)
        assert [one["item_id"] for one in client.get("/v1/search", q="bike")["items"]] == ["old tea", "red tea"]
        assert client.get("/v1/recommendations", user_id="ida")["items"][0]["reasons"]
        eventually(lambda: engine(client)["decisions_waiting"] == 0)
    decisions = [msgspec.msgpack.decode(one.value, type=Decision) for one in written(shop, "decisions")]
    assert [one.shopper for one in decisions] == ["ida", "ida"]
    assert {one.key for one in written(shop, "decisions")} == {b"ida"}


def test_a_bundle_of_another_space_takes_over_whatever_the_workers_are_at(shop: Settings, tmp_path: Path) -> None:
    fill(shop, ["red tea", "old tea", "red bike"])  # with vectors of a space that is not ours
    shop = msgspec.structs.replace(
        shop, channels=ChannelSettings(), bundles=BundleSettings(path=tmp_path / "bundles", probation_s=0)
    )
    base, old = words.Words(words.COLOURS), words.WordShop(shop, words.THINGS)
    old.sell("red tea")
    old.snapshot.refresh()
    made = words.bundle_of(shop, tmp_path, words.THINGS, 1, old)

    def found(client: Client, query: str) -> list[str]:
        return [one["item_id"] for one in client.get("/v1/search", q=query, n=2)["items"]]

    with words.encoders() as opened, served(Gateway(shop, base.embedder(), now_ms)) as client:
        url = f"http://{client._connection.host}:{client._connection.port}"
        eventually(lambda: is_ready(url))
        eventually(lambda: engine(client)["vectors"] == 3)
        assert sorted(base.encoded) == ["old tea", "red bike", "red tea"]
        assert set(found(client, "red")) == {"red tea", "red bike"}
        Bundles(shop.bundles.path, 5).promote(made)
        eventually(lambda: engine(client)["bundle"] == made)
        assert set(found(client, "a tea")) == {"red tea", "old tea"}
        ts = now_ms()
        write(shop, "catalogue", {"cup": serve(1, Item(item_id="cup", since=ts, ts=ts, text_ts=ts, title="old cup"))})
        ours = ItemVector(1, words.THINGS, ts, vector_of("kite").astype("<f4").tobytes())
        write(shop, "item-vectors", {"cup": serve(ts, ours)})
        eventually(lambda: found(client, "a kite")[0] == "cup")
        eventually(lambda: "cup" in base.encoded)
        assert "cup" not in opened.opened[made].encoded, "a worker had done it"
        assert engine(client)["unusable_records"] == 0


def test_it_is_not_ready_before_everything_was_read(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.views import Views

    hold, take = threading.Event(), Views.take

    def slowly(views: Views, topic: str, key: bytes, value: bytes | None) -> None:
        assert hold.wait(60)
        take(views, topic, key, value)

    fill(shop, ["red tea"])
    monkeypatch.setattr(Views, "take", slowly)
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        url = f"http://{client._connection.host}:{client._connection.port}"
        status, headers, body = status_of(url, "/readyz")
        assert (status, headers["retry-after"]) == (503, "1")
        assert msgspec.json.decode(body)["status"] == "waiting"
        hold.set()
        eventually(lambda: is_ready(url))
        assert engine(client)["items"] == 1


def test_it_says_when_topics_are_missing_and_goes_on_once_they_are_there(
    broker: Kafka, prefix: str, tmp_path: Path
) -> None:
    made = shop_of(broker, prefix, tmp_path)
    shop = msgspec.structs.replace(made, kafka=msgspec.structs.replace(made.kafka, prefix=f"{prefix}other-"))
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        url = f"http://{client._connection.host}:{client._connection.port}"
        eventually(lambda: b"headwater topics create" in status_of(url, "/readyz")[2])
        topics.create(shop)
        eventually(lambda: is_ready(url))


# ---------------------------------------------------------------------- outages
def test_an_outage_loses_nothing_that_was_accepted(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    broker = cluster(1)
    shop = shop_of(broker, prefix, tmp_path, spool_bytes=20_000)
    write(shop, "catalogue", {"i1": serve(1, Item(item_id="i1", since=1, ts=1))})
    accepted, refused = list[str](), 0
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        url = f"http://{client._connection.host}:{client._connection.port}"
        eventually(lambda: is_ready(url))
        client.post("/v1/events", [view(0)])
        broker.kill()
        headers: Mapping[str, str] = {}
        for number in range(1, 400):
            status, headers, _ = status_of(url, "/v1/events", [view(number, f"s{number % 5}")])
            if status == 503:
                refused = number
                break
            accepted.append(f"e{number}")
        assert len(accepted) > 20
        assert refused, "the spool has no limit"
        assert headers["retry-after"] == "1"
        assert 0 < engine(client)["spool_bytes"] <= 20_000
        assert client.get("/v1/recommendations", visitor_id="s1")["items"][0]["item_id"] == "i1"
        assert b"headwater_engine_spool_bytes" in client.page("/metrics")[1]
        broker.start()
        eventually(lambda: engine(client)["spool_records"] == 0)
        client.post("/v1/events", [view(1_000, "s1")])
        write(shop, "catalogue", {"i2": serve(1, Item(item_id="i2", since=1, ts=1))})
        eventually(lambda: engine(client)["items"] == 2)
    events = events_of(written(shop, "clickstream"))
    assert {"e0", "e1000", *accepted} <= {event["event_id"] for event in events}
    for shopper in {event["visitor_id"] for event in events}:
        numbers = [int(event["event_id"][1:]) for event in events if event["visitor_id"] == shopper]
        assert list(dict.fromkeys(numbers)) == sorted(set(numbers))  # the first of each in the order of the calls


def test_a_broker_that_hangs_delays_no_call_for_longer_than_the_limit_and_loses_nothing(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    broker = cluster(1)
    shop = shop_of(broker, prefix, tmp_path)
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        client.post("/v1/events", [view(0)])
        broker.pause()
        assert client.post("/v1/events", [view(1)]) == {"accepted": 1}
        assert client.post("/v1/events", [view(2)]) == {"accepted": 1}
        assert engine(client)["spool_records"] == 2
        broker.resume()
        eventually(lambda: engine(client)["spool_records"] == 0)
    assert set(ids_of(written(shop, "clickstream"))) == {"e0", "e1", "e2"}


def test_the_next_gateway_sends_what_a_killed_one_had_in_its_spool(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    broker = cluster(1)
    shop = shop_of(broker, prefix, tmp_path, send_s=0.3)
    broker.kill()
    with child_of(shop) as (child, url):
        with Client(url) as client:
            for number in range(30):
                assert client.post("/v1/events", [view(number, f"s{number % 3}")]) == {"accepted": 1}
        child.send_signal(signal.SIGKILL)
    broker.start()
    assert not written(shop, "clickstream")
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        eventually(lambda: engine(client)["spool_records"] == 0)
    assert Counter(ids_of(written(shop, "clickstream"))) == Counter(f"e{n}" for n in range(30))
    assert not list(shop.kafka.spool.glob("*.spool"))


def test_gateways_that_are_killed_at_any_moment_lose_nothing_they_accepted(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    broker = cluster(1)
    shop = shop_of(broker, prefix, tmp_path, send_s=0.3)
    accepted: dict[str, list[int]] = {f"s{n}": [] for n in range(4)}
    random = np.random.default_rng(4)

    def shopper(name: str, url: str, start: int) -> None:
        number = start
        with Client(url) as client:
            try:
                while True:
                    client.post("/v1/events", [view(0, name, event_id=f"{name}-{number}")])
                    accepted[name].append(number)
                    number += 1
            except Unavailable:
                return  # the process is gone

    acts: list[Callable[[], object]] = [lambda: None, broker.kill, lambda: None, broker.start, lambda: None]
    for life, act in enumerate(acts):
        with child_of(shop) as (child, url), ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(shopper, name, url, 10_000 * life) for name in accepted]
            time.sleep(0.3)
            act()
            time.sleep(float(random.uniform(0.3, 1.5)))
            child.kill()
            for call in calls:
                call.result()
    with served(gateway_on_kafka(shop, None, now_ms)) as client:
        eventually(lambda: engine(client)["kafka"] == "open")
    found: dict[str, list[int]] = {name: [] for name in accepted}
    for one in events_of(written(shop, "clickstream")):
        name, number = one["event_id"].split("-")
        found[name].append(int(number))
    for name, numbers in accepted.items():
        assert len(numbers) > 20
        assert set(numbers) <= set(found[name])
        kept = set(numbers)
        assert [number for number in dict.fromkeys(found[name]) if number in kept] == numbers
