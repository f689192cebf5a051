from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from core.errors import BadSettings, Missing, Unavailable
from core.settings import KafkaSettings, Settings
from streams import kafka


class Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_one_kind_of_trouble_is_told_once_in_a_while_with_how_many_were_left_out() -> None:
    now = [0.0]
    collected, to = Collected(), logging.Logger("to")
    to.addHandler(collected)
    source = logging.Logger("source")
    source.addHandler(kafka.Rarely(to, every_s=30.0, clock=lambda: now[0]))
    for second in range(61):
        now[0] = float(second)
        source.warning("broker %d is gone", second)
        source.info("fetching")
        if second == 5:
            source.error("no leader")
    assert collected.lines == [
        "broker 0 is gone",
        "no leader",
        "broker 30 is gone (29 more like this)",
        "broker 60 is gone (29 more like this)",
    ]


def test_aiokafka_is_quieted_once() -> None:
    noisy = logging.getLogger("aiokafka")
    before, propagated = list(noisy.handlers), noisy.propagate
    try:
        kafka.quiet()
        kafka.quiet()
        assert sum(isinstance(one, kafka.Rarely) for one in noisy.handlers) == 1
        assert not noisy.propagate
    finally:
        noisy.handlers[:], noisy.propagate = before, propagated


def test_brokers_are_taken_apart() -> None:
    assert kafka.servers(Settings(kafka=KafkaSettings(bootstrap="a:1, b:2,"))) == ["a:1", "b:2"]
    with pytest.raises(BadSettings, match="names no broker"):
        kafka.servers(Settings())


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(Missing, match=r"headwater\[kafka\]"):
        kafka.producer(Settings(kafka=KafkaSettings(bootstrap="a:1")), "test")


class Ending:
    """A client that ends as aiokafka's does in an outage, or slowly."""

    def __init__(self, *, slow: bool) -> None:
        self._slow = slow

    async def start(self) -> None: ...

    async def stop(self) -> None:
        if self._slow:
            await asyncio.sleep(60)
        raise asyncio.CancelledError


def test_a_client_whose_own_task_was_cancelled_does_not_cancel_ours() -> None:
    async def play() -> None:
        with pytest.raises(Unavailable, match="told to whoever asked"):
            async with kafka.opened(Settings(), lambda: Ending(slow=False)):
                raise Unavailable("told to whoever asked")

    asyncio.run(play())


def test_whoever_is_cancelled_while_a_client_ends_is_cancelled() -> None:
    async def use() -> None:
        async with kafka.opened(Settings(), lambda: Ending(slow=True)):
            pass

    async def play() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
