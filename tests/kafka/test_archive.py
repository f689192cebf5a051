from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pytest

from core.bundle import Bundles
from core.decision import Decision, Label, Ranked
from core.events import encode
from core.settings import ArchiveSettings, BundleSettings, KafkaSettings, Settings
from jobs.pieces import TOPICS, parse, standing
from jobs.recordings import ArchiveRecording, told
from jobs.storage import open_storage
from jobs.train import run
from kafka_dev import Kafka
from streams import kafka, topics
from streams.messages import of_change, of_imported
from streams.partition import partition_of
from streams.recorded import Query
from tests.factories import T, event, fill, habits_log, item, small_settings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

CHILD = Path(__file__).with_name("archive_child.py")
PARTITIONS = Settings().log.partitions
RECORDS = 5_000


class Sent(NamedTuple):
    """A record as it was sent; where no partition is named it is that of the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    origin: str = ""


def produce(settings: Settings, records: Iterable[Sent]) -> dict[tuple[str, int, int], Sent]:
    """Send records one after the other, and tell where each one went: topic, partition, offset."""

    async def send() -> dict[tuple[str, int, int], Sent]:
        placed = {}
        async with kafka.opened(settings, lambda: kafka.producer(settings, "test")) as producer:
            asked = []
            for one in records:
                partition = one.partition if one.partition >= 0 else partition_of(one.key or b"", PARTITIONS)
                headers = [("origin", one.origin.encode())] if one.origin else []
                name = topics.full(settings, one.topic)
                asked.append(await producer.send(name, one.value, one.key, partition, headers=headers))
            for one, answer in zip(records, await asyncio.gather(*asked), strict=True):
                placed[one.topic, answer.partition, answer.offset] = one
        return placed

    records = list(records)
    return asyncio.run(send())


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Settings:
    """A shop with topics and a folder of its own, whose files are small."""
    settings = msgspec.structs.replace(
        settings,
        archive=ArchiveSettings(path=str(tmp_path / "archive"), every_s=0.3, rows=40),
        bundles=BundleSettings(path=tmp_path / "bundles"),
    )
    topics.create(settings)
    return settings


@contextmanager
def archiver(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An archiver at work, and the port of its page; it is killed at the end if it still runs."""
    command = [sys.executable, str(CHILD), msgspec.json.encode(settings, enc_hook=str).decode()]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    try:
        told = child.stdout.readline()
        assert told, "the archiver did not start"
        yield child, int(told)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def files(settings: Settings) -> list[str]:
    return open_storage(settings.archive.path).names()


def covered(settings: Settings) -> dict[tuple[str, int], int]:
    """How many offsets of each partition the files hold by their names."""
    stand, _ = standing(files(settings))
    return {place: sum(one.last - one.first + 1 for one in pieces) for place, pieces in stand.items()}


def health(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# ---------------------------------------------------------------------- exactly once
def mixture(count: int) -> list[Sent]:
    """Records of all topics: single and packed events, removals, empty ones, broken ones, repeated labels."""
    chance, made = random.Random(4), list[Sent]()
    for n in range(count):
        shopper = f"s{chance.randrange(50)}"
        key, kind = shopper.encode(), chance.random()
        one = event("view_item", f"i{n % 30}", ts=T + n, user_id=shopper)
        if kind < 0.6:
            made.append(Sent("clickstream", key, encode(one)))
        elif kind < 0.68:
            array = [encode(event("view_item", f"i{n}", ts=T + n + place)) for place in range(chance.randrange(1, 12))]
            bad = [b'{"name":"dance"}', b"7"][: chance.randrange(3)]
            made.append(Sent("clickstream", None, b"[" + b",".join(array + bad) + b"]", n % PARTITIONS))
        elif kind < 0.74:
            poison = chance.choice([None, b"\xff{", b"[]", b"{", b"", b"null", b'{"v":9}', b"[" * 3_000])
            made.append(Sent(chance.choice(TOPICS), key, poison))
        elif kind < 0.8:
            made.append(Sent("feedback", key, encode(event("rating", "i1", ts=T + n, user_id=shopper))))
        elif kind < 0.87:
            change = of_change(item(f"i{n}", ts=T + n))
            made.append(Sent("items", change.key, change.value if n % 5 else None))
        elif kind < 0.93:
            made.append(Sent("decisions", key, msgspec.msgpack.encode(decision(f"r{n}", shopper, T + n))))
        else:
            cause = n // 2  # of two labels, if both are drawn: the second one is repeated
            label = Label(1, f"r{cause}", "i1", "buy", T + cause, 5, True)
            key = f"s{cause % 50}".encode()
            made.append(Sent("labelled", key, msgspec.msgpack.encode(label), origin=f"clickstream/0/{cause}/0/0"))
    return made


def decision(name: str, shopper: str, ts: int) -> Decision:
    shown = (Ranked("i1", 1.0), Ranked("i2", 0.5))
    return Decision(
        recommendation_id=name, ts=ts, shopper=shopper, placement="home", bundle="b", ranker="blend", items=shown
    )


def test_killed_at_random_moments_the_archive_has_every_offset_exactly_once(shop: Settings) -> None:
    sent = produce(shop, mixture(RECORDS))
    chance, stops = random.Random(9), []
    for _ in range(6):
        enough = len(files(shop)) + chance.randrange(1, 12)
        with archiver(shop) as (child, _):
            while len(files(shop)) < enough:
                assert child.poll() is None, "the archiver ended by itself"
                time.sleep(0.002)
            time.sleep(chance.random() * 0.02)
            child.kill()
            child.wait()
        stops.append(sum(covered(shop).values()))
    assert all(0 < one < len(sent) for one in stops), "every kill hit it at work"
    assert stops == sorted(set(stops))
    with archiver(shop) as (child, port):
        until(lambda: sum(covered(shop).values()) == len(sent))
        until(lambda: sum(health(port)[1].get("lag", {"": 1}).values()) == 0)
        status, figures = health(port)
        assert (status, figures["healthy"], figures["records_lost"]) == (200, True, 0)
        child.terminate()
        assert child.wait(20) == 0
    assert set(check(shop, sent)) == set(TOPICS)


def check(shop: Settings, sent: dict[tuple[str, int, int], Sent]) -> Counter[str]:
    """What polars reads in the folder is what was sent; how many rows of each topic have a reason."""
    found = defaultdict[tuple[str, int, int], list[dict[str, Any]]](list)
    for topic in TOPICS:
        frame = pl.read_parquet(f"{shop.archive.path}/{topic}/**/*.parquet", hive_partitioning=True)
        assert frame["day"].n_unique() in (1, 2)
        for row in frame.sort("partition", "offset", "index").iter_rows(named=True):
            found[topic, row["partition"], row["offset"]].append(row)
    assert found.keys() == sent.keys()
    for place, one in sent.items():
        rows = found[place]
        assert [row["index"] for row in rows] == list(range(len(rows)))
        assert rows[0]["key"] == (one.key or None)
        if one.partition < 0:
            assert [row["value"] for row in rows] == [one.value]
        else:
            assert b"[" + b",".join(row["value"] for row in rows) + b"]" == one.value
    labels = list(told(ArchiveRecording(open_storage(shop.archive.path)), ("labelled",)))
    origins = {one.origin for one in sent.values() if one.origin}
    assert len(labels) == len(origins) < sum(1 for one in sent.values() if one.origin)
    return Counter(place[0] for place, rows in found.items() for row in rows if row["reason"])


# ---------------------------------------------------------------------- what else may happen
def test_one_that_is_asked_to_end_writes_what_it_has_read(shop: Settings) -> None:
    patient = msgspec.structs.replace(shop, archive=msgspec.structs.replace(shop.archive, every_s=3_600.0, rows=10_000))
    sent = produce(shop, mixture(200))
    with archiver(patient) as (child, port):
        until(lambda: health(port)[1].get("rows_waiting", 0) >= len(sent))
        assert files(shop) == []
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    assert sum(covered(shop).values()) == len(sent)


def test_small_files_of_a_day_that_is_over_are_merged_at_the_start(shop: Settings) -> None:
    sent = produce(shop, mixture(1_000))
    with archiver(shop) as (child, _):
        until(lambda: sum(covered(shop).values()) == len(sent))
        child.terminate()
        assert child.wait(20) == 0
    for day in list(Path(shop.archive.path).glob("*/day=*")):
        day.rename(day.with_name("day=2020-02-02"))
    small, large = files(shop), msgspec.structs.replace(shop.archive, rows=10_000)
    with archiver(msgspec.structs.replace(shop, archive=large)) as (child, port):
        until(lambda: len(files(shop)) == len(covered(shop)) < len(small))
        assert health(port)[0] == 200
        child.terminate()
        assert child.wait(20) == 0
    check(shop, sent)


def test_a_second_archiver_of_a_folder_does_not_start(shop: Settings) -> None:
    produce(shop, mixture(20))
    with archiver(shop), pytest.raises(AssertionError, match="did not start"), archiver(shop):
        pass


def test_what_kafka_deleted_before_it_was_archived_is_a_figure_on_the_page(shop: Settings) -> None:
    name = topics.full(shop, "clickstream")
    sent = [Sent("clickstream", b"a", encode(event("view_item", "tea", ts=T + n)), 0) for n in range(50)]
    produce(shop, sent[:10])
    with archiver(shop) as (child, _):
        until(lambda: covered(shop).get(("clickstream", 0)) == 10)
        child.terminate()
        assert child.wait(20) == 0
    produce(shop, sent[10:])
    asyncio.run(delete_before(shop, name, 30))
    with archiver(shop) as (_, port):
        until(lambda: covered(shop).get(("clickstream", 0)) == 30)
        assert health(port)[1]["records_lost"] == 20
    with archiver(shop) as (_, port):
        until(lambda: health(port)[1].get("records_lost") == 20)


def test_records_deleted_under_a_reader_that_stood_still_are_told_too(shop: Settings) -> None:
    name = topics.full(shop, "clickstream")
    sent = [Sent("clickstream", b"a", encode(event("view_item", "tea", ts=T + n)), 0) for n in range(40)]
    produce(shop, sent[:10])
    with archiver(shop) as (child, port):
        until(lambda: covered(shop).get(("clickstream", 0)) == 10)
        child.send_signal(signal.SIGSTOP)
        produce(shop, sent[10:])
        asyncio.run(delete_before(shop, name, 35))
        child.send_signal(signal.SIGCONT)
        until(lambda: health(port)[1]["records_lost"] > 0)
        until(lambda: max(one.last for one in map(parse, files(shop)) if one) == 39)
        # A fetch that was on its way before the stop may have brought some of them.
        assert health(port)[1]["records_lost"] == 40 - covered(shop)["clickstream", 0]


def test_a_folder_that_takes_nothing_for_a_while_loses_nothing(shop: Settings) -> None:
    sent = produce(shop, mixture(100))
    in_the_way = Path(shop.archive.path) / "clickstream"
    in_the_way.parent.mkdir()
    in_the_way.write_text("a file where a folder has to be")
    with archiver(shop) as (_, port):
        until(lambda: health(port)[0] == 503)
        assert "cannot be written" in health(port)[1]["storage_failing"]
        in_the_way.unlink()
        until(lambda: sum(covered(shop).values()) == len(sent))
        until(lambda: health(port)[0] == 200)


def test_a_broker_that_goes_and_comes_back_loses_nothing(cluster: Callable[[int], Kafka], tmp_path: Path) -> None:
    broker = cluster(1)
    settings = Settings(
        kafka=KafkaSettings(bootstrap=broker.bootstrap),
        archive=ArchiveSettings(path=str(tmp_path), every_s=0.3, rows=40),
    )
    topics.create(settings)
    first = produce(settings, mixture(300))
    with archiver(settings) as (child, port):
        until(lambda: sum(covered(settings).values()) > 0)
        broker.kill()
        until(lambda: health(port)[0] == 503)
        assert "does not answer" in health(port)[1]["kafka_failing"]
        broker.start()
        second = produce(settings, mixture(300))
        until(lambda: sum(covered(settings).values()) == len(first) + len(second))
        until(lambda: health(port)[0] == 200)
        assert health(port)[1]["records_lost"] == 0
        child.terminate()
        assert child.wait(20) == 0
    check(settings, first | second)


async def delete_before(settings: Settings, topic: str, offset: int) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete

    async with kafka.opened(settings, lambda: kafka.admin(settings)) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})


# ---------------------------------------------------------------------- training
def test_a_ranker_is_trained_from_the_archive_of_a_shop_on_kafka(shop: Settings, tmp_path: Path) -> None:
    log = [one for one in habits_log(shoppers=16, days=8) if not isinstance(one, Query)]
    produce(shop, _packed([of_imported(one) for one in log]))
    own = small_settings(tmp_path / "embedded", min_groups=60)
    fill(own, log)
    with archiver(shop) as (child, _):
        until(lambda: sum(one.rows for one in map(parse, files(shop)) if one) == len(log))
        child.terminate()
        assert child.wait(20) == 0
    on_kafka = msgspec.structs.replace(own, kafka=shop.kafka, archive=shop.archive, bundles=shop.bundles)
    now_ms = int(time.time() * 1000)
    outcome, embedded = (run(one, None, now_ms, lambda *_: None) for one in (on_kafka, own))
    assert outcome.manifest is not None
    assert outcome.manifest.ranker == "lambdarank"
    assert Bundles(shop.bundles.path, 5).current_id() == outcome.manifest.id
    assert outcome.lessons == embedded.lessons


def _packed(records: Sequence[Any]) -> list[Sent]:
    """Items as they are; events packed by 20 of one partition, as a gateway under load does it."""
    by_partition, made = defaultdict[int, list[bytes]](list), list[Sent]()
    for one in records:
        if one.topic == "items":
            made.append(Sent("items", one.key, one.value))
            continue
        assert one.topic == "clickstream"
        partition = partition_of(one.key, PARTITIONS)
        by_partition[partition].append(one.value)
        if len(by_partition[partition]) == 20:
            made.append(Sent("clickstream", None, b"[" + b",".join(by_partition.pop(partition)) + b"]", partition))
    rest = [Sent("clickstream", None, b"[" + b",".join(some) + b"]", where) for where, some in by_partition.items()]
    return made + rest
