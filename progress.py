"""How far long work has come: a bar on a terminal, a line now and then anywhere else. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

EVERY_S: Final = 3.0  # between two lines of the same work; more when it takes long


class Progress(Protocol):
    """Told how far it is; a `total` of 0 is one that is not known."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[Progress]:
    """Show what is told within the block."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console

    console = Console(file=stream)  # reads TERM and NO_COLOR
    if console.is_dumb_terminal:
        yield Lines(stream)
        return
    with _bars(console) as bars:
        yield bars


class Lines:
    """A line every few seconds, and one at the end of each piece of work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._work = ""
        self._begun = self._told = time.monotonic()
        self._ended = False

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._work:
            self._work, self._begun, self._told, self._ended = what, now, now, False
        if self._ended:
            return
        self._ended = 0 < total <= done
        if self._ended or now - self._told >= max(EVERY_S, 0.2 * (now - self._begun)):
            self._told = now
            of = f" of {total:,}" if total else ""
            print(f"{what}: {done:,}{of}, {now - self._begun:.0f} s", file=self._stream, flush=True)


@contextmanager
def _bars(console: object) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    assert isinstance(console, Console)
    tasks: dict[str, TaskID] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bars(*columns, console=console) as bars:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield tell
