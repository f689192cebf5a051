"""What may be handed on of an answer of the brokers, without any broker."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

faust_app = pytest.importorskip("streams.faust_app", reason="Faust comes with the extra kafka")

HERE = faust_app.TP("clickstream", 0)


class Sought:
    """The consumer's thread: notes what was sought."""

    def __init__(self) -> None:
        self.sought: list[int] = []

    def _ensure_consumer(self) -> "Sought":
        return self

    def seek(self, tp: object, offset: int) -> None:
        self.sought.append(offset)

    async def call_thread(self, call: Any, *given: Any) -> None:
        call(*given)


class Reading(faust_app.Consumer):  # type: ignore[misc,name-defined]
    """The consumer as far as it hands records on."""

    def __init__(self, expected: int | None) -> None:
        self._asked: dict[Any, int] = {}
        self._read_offset: Any = defaultdict(lambda: None, {HERE: expected})
        self._thread, self.flow_active, self.suspend_flow = Sought(), True, asyncio.Event()
        self.heard: list[int] = []
        self.app = SimpleNamespace(
            hear=self._hear, consumer_generation_id=1, tables=SimpleNamespace(changelog_topics=frozenset())
        )

    async def _hear(self, read: Sequence[Any]) -> None:
        self.heard += [one.record.offset for one in read]

    async def wait_first(self, *waited: Any, **_: Any) -> None:
        await waited[0]
        for rest in waited[1:]:
            rest.close()


def handed_on(reading: Reading, *offsets: int) -> list[int]:
    reading.heard.clear()
    assert asyncio.run(reading._hand_on(1, HERE, [SimpleNamespace(offset=offset) for offset in offsets]))
    return list(reading.heard)


def test_records_are_handed_on_in_order_and_once() -> None:
    reading = Reading(5)
    assert handed_on(reading, 5, 6) == [5, 6]
    assert handed_on(reading, 5, 6, 7) == [7]
    assert handed_on(reading, 6, 7) == []


def test_an_answer_that_begins_further_on_is_asked_for_again() -> None:
    reading = Reading(5)
    assert handed_on(reading, 900, 901) == []
    assert reading._thread.sought == [5]
    assert handed_on(reading, 5, 6) == [5, 6]


def test_a_gap_that_is_there_a_second_time_is_believed() -> None:
    reading = Reading(5)
    assert handed_on(reading, 8, 9) == []
    assert handed_on(reading, 8, 9) == [8, 9]
    assert handed_on(reading, 10) == [10]
    assert handed_on(reading, 12) == [], "another gap is another question"
    assert reading._thread.sought == [5, 11]


def test_before_it_is_known_where_to_begin_nothing_is_taken() -> None:
    reading = Reading(None)
    assert handed_on(reading, 0, 1) == []
    assert reading._thread.sought == []


def test_what_is_dropped_because_the_group_changes_is_not_counted_as_read() -> None:
    reading = Reading(5)
    assert not asyncio.run(reading._hand_on(0, HERE, [SimpleNamespace(offset=5)]))
    assert reading._read_offset[HERE] == 5


def test_of_two_values_in_a_changelog_the_one_that_has_taken_in_more_wins() -> None:
    import msgspec

    def value(version: int) -> bytes:
        return msgspec.msgpack.encode((version, {}, "state"))

    shelf = object.__new__(faust_app.Shelf)
    shelf.values_of = defaultdict(dict)
    records = [SimpleNamespace(partition=2, key=b"k", value=value(version)) for version in (3, 7, 5)]
    shelf.apply(records)
    assert shelf.values_of[2][b"k"] == value(7)
