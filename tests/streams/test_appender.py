import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest

from core.errors import Unavailable
from streams.appender import Appender
from streams.records import Placed, Row

Waiting = list[Future[list[Placed | None]]]


class Disk:
    """Remembers what was written together; while the gate is shut, a write waits."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.entered, self.gate = Event(), Event()
        self.full = False

    def write(self, rows: Sequence[Row]) -> list[Placed | None]:
        self.entered.set()
        assert self.gate.wait(10)
        if self.full:
            raise Unavailable("disk full")
        if any(row.key == b"bad" for row in rows):
            raise OverflowError("a bad record")
        self.writes.append([row.ts for row in rows])
        return [(0, row.ts) for row in rows]


def row(number: int, key: bytes = b"good") -> Row:
    return Row(("clickstream", 0), None, number, key, b"")


@contextmanager
def while_one_is_written(disk: Disk, *calls: Sequence[Row]) -> Iterator[tuple[Appender, Callable[[], Waiting]]]:
    """Append one record and, while the disk is busy with it, the calls; the disk goes on when asked to."""
    appender = Appender(disk.write)
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        waiting = [pool.submit(appender.append, [row(0)])]
        assert disk.entered.wait(10)
        for place, call in enumerate(calls):
            waiting.append(pool.submit(appender.append, call))
            while appender._calls.qsize() <= place:
                time.sleep(0.001)

        def go_on() -> Waiting:
            disk.gate.set()
            return waiting

        yield appender, go_on
        disk.gate.set()
    appender.close()


def test_calls_that_come_during_a_write_share_the_next_one() -> None:
    disk = Disk()
    with while_one_is_written(disk, [row(1), row(2)], [row(3)], [row(4), row(5)]) as (_, go_on):
        placed = [future.result() for future in go_on()]
    assert disk.writes == [[0], [1, 2, 3, 4, 5]]
    assert placed == [[(0, 0)], [(0, 1), (0, 2)], [(0, 3)], [(0, 4), (0, 5)]]


def test_a_bad_record_fails_only_the_call_that_holds_it() -> None:
    disk = Disk()
    with while_one_is_written(disk, [row(1)], [row(2), row(3, b"bad")], [row(4)]) as (_, go_on):
        errors = [type(future.exception()) for future in go_on()]
    assert errors == [type(None), type(None), OverflowError, type(None)]
    assert disk.writes == [[0], [1], [4]]


def test_a_full_disk_fails_every_call_of_the_write() -> None:
    disk = Disk()
    with while_one_is_written(disk, [row(1)], [row(2)]) as (_, go_on):
        disk.full = True
        errors = [type(future.exception()) for future in go_on()]
    assert errors == [Unavailable] * 3


def test_what_waits_when_it_is_closed_is_still_written() -> None:
    disk = Disk()
    with while_one_is_written(disk, [row(1)]) as (appender, go_on), ThreadPoolExecutor(1) as pool:
        closing = pool.submit(appender.close)
        go_on()
        closing.result()
        with pytest.raises(Unavailable, match="closed"):
            appender.append([row(2)])
    assert disk.writes == [[0], [1]]
