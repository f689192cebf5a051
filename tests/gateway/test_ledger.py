from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from core.decision import Decision
from gateway import ledger as module
from gateway.ledger import Ledger
from gateway.spool import Unsent
from streams.partition import partition_of


def decision(number: int) -> Decision:
    return Decision(
        recommendation_id=f"r{number:03d}", ts=number, shopper=f"s{number % 7}", placement="", bundle="",
        ranker="blend", items=(),
    )  # fmt: skip


class Topic:
    def __init__(self) -> None:
        self.taken: list[Unsent] = []
        self.there = True

    async def offer(self, records: Sequence[Unsent]) -> bool:
        await asyncio.sleep(0)
        if self.there:
            self.taken += records
        return self.there

    def ids(self) -> list[str]:
        return [msgspec.msgpack.decode(one.value, type=Decision).recommendation_id for one in self.taken]


def test_decisions_arrive_in_order_under_their_shopper_also_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def play() -> None:
        topic = Topic()
        ledger = Ledger(4, topic.offer)
        ledger.start()
        for number in range(600):
            topic.there = not 100 <= number < 300
            ledger.add(decision(number))
            if number % 50 == 0:
                await asyncio.sleep(0.005)
        await ledger.stop(10.0)
        assert topic.ids() == [f"r{number:03d}" for number in range(600)]
        assert all(one.partition == partition_of(one.key or b"", 4) for one in topic.taken)
        assert {one.key for one in topic.taken} == {b"s%d" % n for n in range(7)}
        assert (len(ledger), ledger.dropped) == (0, 0)

    asyncio.run(play())


def test_while_kafka_is_away_the_newest_are_kept_and_the_others_counted() -> None:
    async def play() -> None:
        topic = Topic()
        size = len(msgspec.msgpack.encode(decision(100)))
        ledger = Ledger(4, topic.offer, most_bytes=10 * size)
        topic.there = False
        for number in range(100, 120):
            ledger.add(decision(number))
        assert (len(ledger), ledger.dropped) == (10, 10)
        topic.there = True
        ledger.start()
        await ledger.stop(10.0)
        assert topic.ids() == [f"r{number:03d}" for number in range(110, 120)]

    asyncio.run(play())


def test_the_end_does_not_wait_for_kafka_for_long() -> None:
    async def play() -> None:
        topic = Topic()
        topic.there = False
        ledger = Ledger(4, topic.offer)
        ledger.start()
        ledger.add(decision(1))
        await asyncio.wait_for(ledger.stop(0.05), 20)
        assert not topic.taken

    asyncio.run(play())
