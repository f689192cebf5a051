"""Kafka as a double that can be away: nothing that was kept is lost, and nothing overtakes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unavailable
from core.settings import KafkaSettings
from gateway import outlet as module
from gateway.outlet import Outlet
from gateway.spool import Spool, Unsent, frames


class Away(Exception):
    """What a client raises."""


class FakeKafka:
    """Takes records while `there`; a send that it refuses may hang, fail, or be written without an answer."""

    def __init__(self) -> None:
        self.there, self.how = True, "fails"
        self.log: list[bytes] = []
        self.connections = self.closed = 0
        self.looked: Callable[[], None] = lambda: None

    async def connect(self) -> FakeKafka:
        if not self.there:
            raise Away("no connection")
        self.connections += 1
        return self

    async def send(self, records: Sequence[Unsent]) -> None:
        await asyncio.sleep(0)
        self.looked()
        if self.there or self.how == "answer lost":
            self.log += [one.value for one in records]
        self.looked()
        if self.there:
            return
        if self.how == "fails":
            raise Away("no leader")
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "STUCK_S", 0.05)


def record(number: int) -> Unsent:
    return Unsent("clickstream", 0, b"k", b"%d" % number)


def play(
    folder: Path, kafka: FakeKafka, story: Callable[[Outlet], Coroutine[Any, Any, None]], most: int = 9999
) -> None:
    async def run() -> None:
        settings = KafkaSettings(send_s=0.05, spool_bytes=most)
        outlet = Outlet(settings, Spool(folder, most), kafka.connect)
        outlet.start()
        await asyncio.sleep(0.01)
        try:
            await story(outlet)
        finally:
            await outlet.stop()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


def test_while_kafka_answers_nothing_touches_the_disk(tmp_path: Path) -> None:
    kafka = FakeKafka()

    async def story(outlet: Outlet) -> None:
        await outlet.keep([record(1), record(2)])
        assert outlet.open
        assert not list(tmp_path.glob("*.spool"))

    play(tmp_path, kafka, story)
    assert (kafka.log, kafka.closed) == ([b"1", b"2"], 1)


@pytest.mark.parametrize("how", ["fails", "hangs", "answer lost"])
def test_what_is_kept_while_kafka_is_away_is_sent_in_order_once_it_is_back(tmp_path: Path, how: str) -> None:
    kafka = FakeKafka()
    kafka.how = how

    async def story(outlet: Outlet) -> None:
        await outlet.keep([record(0)])
        kafka.there = False
        for number in range(1, 6):
            await outlet.keep([record(number)])
        assert not outlet.open
        assert outlet.spool.records == 5
        kafka.there = True
        await until(lambda: outlet.open)
        await outlet.keep([record(6)])

    play(tmp_path, kafka, story)
    assert list(dict.fromkeys(kafka.log)) == [b"%d" % number for number in range(7)]


def test_what_the_spool_holds_goes_before_what_comes(tmp_path: Path) -> None:
    kafka = FakeKafka()
    kafka.there = False

    async def first(outlet: Outlet) -> None:
        await outlet.keep([record(1)])
        await outlet.keep([record(2)])

    async def second(outlet: Outlet) -> None:
        await outlet.keep([record(3)])
        kafka.there = True
        await until(lambda: outlet.open)
        await outlet.keep([record(4)])

    play(tmp_path, kafka, first)
    play(tmp_path, kafka, second)
    assert kafka.log == [b"1", b"2", b"3", b"4"]


def test_the_first_records_wait_for_the_connection_and_not_on_the_disk(tmp_path: Path) -> None:
    kafka = FakeKafka()

    async def slow() -> FakeKafka:
        await asyncio.sleep(0.02)
        return kafka

    async def run() -> None:
        outlet = Outlet(KafkaSettings(), Spool(tmp_path, 9999), slow)
        outlet.start()
        await outlet.keep([record(1)])
        await outlet.stop()

    asyncio.run(run())
    assert kafka.log == [b"1"]
    assert not list(tmp_path.glob("*.spool"))


def test_above_the_limit_nothing_is_taken_until_kafka_is_back(tmp_path: Path) -> None:
    kafka = FakeKafka()
    kafka.there = False

    async def story(outlet: Outlet) -> None:
        kept = 0
        while outlet.spool.bytes + 30 < 200:
            await outlet.keep([record(kept)])
            kept += 1
        large = Unsent("clickstream", 0, b"k", b"x" * 200)
        with pytest.raises(Unavailable, match="Kafka does not answer, and the spool holds"):
            await outlet.keep([large])
        kafka.there = True
        await until(lambda: outlet.open)
        assert kafka.log == [b"%d" % number for number in range(kept)]
        await outlet.keep([record(kept)])

    play(tmp_path, kafka, story, most=200)


def test_an_offer_is_refused_while_kafka_is_away_and_spools_nothing(tmp_path: Path) -> None:
    kafka = FakeKafka()

    async def story(outlet: Outlet) -> None:
        assert await outlet.offer([record(1)])
        kafka.there = False
        assert not await outlet.offer([record(2)])
        assert outlet.spool.empty

    play(tmp_path, kafka, story)


def test_while_an_answer_is_owed_nothing_more_is_sent(tmp_path: Path) -> None:
    kafka = FakeKafka()

    async def story(outlet: Outlet) -> None:
        kafka.there, kafka.how = False, "hangs"
        assert not await outlet.offer([record(1)])
        kafka.there = True
        for _ in range(5):
            assert not await outlet.offer([record(1)])
        assert not kafka.log

    play(tmp_path, kafka, story)


def test_room_is_asked_for_only_while_kafka_is_away(tmp_path: Path) -> None:
    kafka = FakeKafka()

    async def story(outlet: Outlet) -> None:
        outlet.check_room(1_000_000)
        kafka.there = False
        await outlet.keep([record(1)])
        outlet.check_room(10)
        with pytest.raises(Unavailable, match="spool_bytes"):
            outlet.check_room(1_000_000)

    play(tmp_path, kafka, story)


@given(st.lists(st.tuples(st.sampled_from(["fails", "answer lost", "there"]), st.integers(1, 3)), max_size=8))
def test_however_kafka_comes_and_goes_the_first_copies_are_all_there_in_order(acts: list[tuple[str, int]]) -> None:
    kafka, made = FakeKafka(), 0

    async def story(outlet: Outlet) -> None:
        nonlocal made
        for how, count in acts:
            kafka.there, kafka.how = how == "there", how
            for _ in range(count):
                await outlet.keep([record(made)])
                made += 1
        kafka.there = True
        await until(lambda: outlet.spool.empty)

    with tempfile.TemporaryDirectory() as name:
        play(Path(name), kafka, story)
    assert list(dict.fromkeys(kafka.log)) == [b"%d" % number for number in range(made)]


@given(st.lists(st.tuples(st.sampled_from(["fails", "answer lost", "there"]), st.integers(1, 3)), max_size=8))
def test_at_every_moment_a_crash_would_leave_every_accepted_record_with_kafka_or_on_the_disk(
    acts: list[tuple[str, int]],
) -> None:
    kafka, accepted, looks = FakeKafka(), set[bytes](), 0

    async def story(outlet: Outlet) -> None:
        for how, count in acts:
            kafka.there, kafka.how = how == "there", how
            for _ in range(count):
                value = b"%d" % len(accepted)
                await outlet.keep([Unsent("clickstream", 0, b"k", value)])
                accepted.add(value)
                kafka.looked()
        kafka.there = True
        await until(lambda: outlet.spool.empty)
        kafka.looked()

    with tempfile.TemporaryDirectory() as name:

        def look() -> None:
            nonlocal looks
            looks += 1
            found = [path.read_bytes() for path in sorted(Path(name).glob("*.spool"))]
            on_disk = {one.value for data in found for one in frames(data)}
            assert accepted <= on_disk | set(kafka.log)

        kafka.looked = look
        play(Path(name), kafka, story)
        assert looks
