"""Group commit: appends that come together share one transaction, and one wait for the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

from core.errors import HeadwaterError, Unavailable
from streams.records import Placed, Row

Write = Callable[[Sequence[Row]], list[Placed | None]]


class _Call(NamedTuple):
    rows: Sequence[Row]
    placed: Future[list[Placed | None]]


class Appender:
    """A thread that writes what others want appended; they wait for it.

    While one transaction is on its way to the disk, the calls for the next one gather.
    """

    def __init__(self, write: Write) -> None:
        """`write` stores rows, all or none, and says where each one is."""
        self._write = write
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()  # None ends the thread
        self._gate = Lock()
        self._closed = False
        self._thread = Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[Row]) -> list[Placed | None]:
        """Return when the rows are written.

        Raises:
            Unavailable: closed, or what `write` raised.
        """
        call = _Call(rows, Future())
        with self._gate:
            if self._closed:
                raise Unavailable("the log is closed")
            self._calls.put(call)
        return call.placed.result()

    def close(self) -> None:
        """Write what is waiting and take no more."""
        with self._gate:
            self._closed = True
            self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            calls = [self._calls.get()]
            with suppress(Empty):
                while True:
                    calls.append(self._calls.get_nowait())
            going = calls[-1] is not None
            if waiting := [call for call in calls if call is not None]:
                self._write_together(waiting)

    def _write_together(self, calls: Sequence[_Call]) -> None:
        try:
            placed = self._write([row for call in calls for row in call.rows])
        except Exception as error:
            self._refuse(calls, error)
            return
        start = 0
        for call in calls:
            end = start + len(call.rows)
            call.placed.set_result(placed[start:end])
            start = end

    def _refuse(self, calls: Sequence[_Call], error: Exception) -> None:
        """Hand an error to the callers; where it is about one of the records, only to its own."""
        if len(calls) > 1 and not isinstance(error, HeadwaterError):
            for call in calls:
                self._write_together([call])
            return
        for call in calls:
            call.placed.set_exception(error)
