from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unavailable
from gateway.lanes import AT_ONCE, Keyed, Lane
from gateway.spool import Unsent


class Slow:
    """A broker that acknowledges when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[Unsent]] = []
        self.go = asyncio.Event()
        self.failing: Exception | None = None
        self.in_flight = 0

    async def __call__(self, records: Sequence[Unsent]) -> None:
        self.in_flight += 1
        assert self.in_flight == 1, "two groups of one partition were in flight"
        self.sent.append(list(records))
        await self.go.wait()
        self.in_flight -= 1
        if self.failing is not None:
            raise self.failing


def event(number: int, size: int = 0) -> Keyed:
    return Keyed(b"s%d" % (number % 3), msgspec.json.encode({"n": number, "pad": "x" * size}))


def lane_to(send: Slow, pack: int = 500, most_bytes: int = 100_000) -> Lane:
    return Lane("clickstream", 1, send, pack=pack, most_bytes=most_bytes)


def numbers(record: Unsent) -> list[int]:
    found = msgspec.json.decode(record.value)
    return [one["n"] for one in (found if isinstance(found, list) else [found])]


def test_an_event_that_comes_alone_goes_at_once_with_its_key() -> None:
    async def play() -> None:
        send = Slow()
        send.go.set()
        lane = lane_to(send)
        await lane.put([event(1)])
        assert send.sent == [[Unsent("clickstream", 1, *event(1))]]
        await asyncio.sleep(0)
        assert lane.idle

    asyncio.run(play())


def test_what_comes_while_a_record_is_in_flight_goes_as_one_record_and_nobody_is_told_before() -> None:
    async def play() -> None:
        send = Slow()
        lane = lane_to(send)
        waiting = [lane.put([event(0)])]
        await asyncio.sleep(0.01)
        waiting += [lane.put([event(number)]) for number in range(1, 10)]
        await asyncio.sleep(0.01)
        assert [numbers(one) for group in send.sent for one in group] == [[0]]
        waiting.append(lane.put([event(10), event(11)]))
        assert not any(one.done() for one in waiting)
        send.go.set()
        await asyncio.gather(*waiting)
        ((first,), (second,)) = send.sent
        assert (numbers(first), numbers(second), second.key) == ([0], list(range(1, 12)), None)
        assert (lane.records, lane.values) == (2, 12)

    asyncio.run(play())


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(40, 400),
)
def test_however_events_come_each_is_sent_once_in_order_and_within_the_limits(
    posts: list[int], pack: int, most_bytes: int
) -> None:
    async def play() -> None:
        send = Slow()
        send.go.set()
        lane, made = lane_to(send, pack, most_bytes), 0
        waiting = []
        for size in posts:
            waiting.append(lane.put([event(made + n) for n in range(size)]))
            made += size
            if size % 2:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        records = [one for group in send.sent for one in group]
        assert [number for one in records for number in numbers(one)] == list(range(made))
        assert all(len(numbers(one)) <= pack for one in records)
        assert all(len(one.value) <= most_bytes for one in records if len(numbers(one)) > 1)

    asyncio.run(play())


def test_an_event_larger_than_a_record_goes_alone() -> None:
    async def play() -> None:
        send = Slow()
        send.go.set()
        await lane_to(send, most_bytes=100).put([event(1), event(2, size=500), event(3)])
        assert [numbers(one) for group in send.sent for one in group] == [[1], [2], [3]]

    asyncio.run(play())


def test_where_nothing_may_be_packed_many_records_go_together() -> None:
    async def play() -> None:
        send = Slow()
        send.go.set()
        await lane_to(send, pack=0).put([event(number) for number in range(AT_ONCE + 3)])
        assert [len(group) for group in send.sent] == [AT_ONCE, 3]
        assert [numbers(one)[0] for group in send.sent for one in group] == list(range(AT_ONCE + 3))

    asyncio.run(play())


def test_those_whose_events_were_not_kept_are_told_and_later_ones_are_not_concerned() -> None:
    async def play() -> None:
        send = Slow()
        lane = lane_to(send, pack=2)
        failing, halved = lane.put([event(0)]), lane.put([event(1), event(2), event(3)])
        await asyncio.sleep(0.01)
        send.failing = Unavailable("full")
        send.go.set()
        with pytest.raises(Unavailable, match="full"):
            await failing
        with pytest.raises(Unavailable, match="full"):
            await halved
        send.failing = None
        await lane.put([event(4)])

    asyncio.run(play())


def test_a_caller_who_went_away_keeps_nobody_waiting() -> None:
    async def play() -> None:
        send = Slow()
        lane = lane_to(send)
        first, second = lane.put([event(0)]), lane.put([event(1)])
        await asyncio.sleep(0)
        first.cancel()
        send.go.set()
        await second

    asyncio.run(play())
