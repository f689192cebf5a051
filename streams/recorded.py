"""A recorded stream: items, events and queries in time order, one JSON object a line.

A query may be answered only with the lines above it. The two dialects of event lines are
explained in `streams.recorded_line`.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from core.errors import BadInput, Missing
from core.events import MAX_ITEMS, Event
from streams.recorded_line import Entry, Query, decode_line, encode_line

__all__ = ["Entry", "Query", "Span", "first_of", "moment_before", "read", "span", "write"]


class Span(msgspec.Struct, frozen=True):
    """Times of the first and last line in ms, and how many lines there are of each kind."""

    first: int
    last: int
    counts: Mapping[str, int]


class _When(msgspec.Struct, gc=False):
    kind: str
    ts: int


_when: Final = msgspec.json.Decoder(_When)


def read(source: Path | IO[bytes] | IO[str], *, group: bool = True) -> Iterator[Entry]:
    """The lines of a recorded stream, in their order.

    Args:
        source: a file (gzip where its name ends in .gz), or an open one.
        group: make one purchase of consecutive short purchase lines that agree in shopper, session and
            time, as a shop sends a basket. It has the first line's `event_id`; a line that repeats
            `event_id` and item is dropped. Purchases in our own JSON are whole.

    Raises:
        BadInput: a line that is malformed, or older than the one above it; names file and line.
        Missing: there is no such file.
    """
    with _opened(source) as (lines, name):
        entries = _in_order(lines, name)
        yield from _grouped(entries) if group else (entry for entry, _ in entries)


def write(path: Path, entries: Iterable[Entry]) -> Counter[str]:
    """Write a recorded stream in our own JSON, gzipped where the name ends in .gz; returns the counts by kind.

    The file appears under its name only when it is complete.

    Raises:
        BadInput: an entry is older than the one before it.
    """
    counts: Counter[str] = Counter()
    partial = path.with_name(path.name + ".partial")
    last = 0
    with gzip.open(partial, "wb", compresslevel=6) if path.suffix == ".gz" else partial.open("wb") as file:
        for number, entry in enumerate(entries, 1):
            try:
                last = _not_before(last, entry.ts)
            except BadInput as reason:
                raise BadInput(f"{path}, entry {number}: {reason}") from None
            kind, line = encode_line(entry)
            file.write(line)
            counts[kind] += 1
    partial.replace(path)
    return counts


def span(path: Path) -> Span:
    """First and last time and the number of lines of each kind, without building the entries.

    Raises:
        BadInput: the stream is empty, or a line has no kind or time.
        Missing: there is no such file.
    """
    counts: Counter[str] = Counter()
    first = last = 0
    for row in _moments(path):
        first, last = row.ts if not counts else first, row.ts
        counts[row.kind] += 1
    if not counts:
        raise BadInput(f"{path}: the stream is empty")
    return Span(first, last, counts)


def first_of(path: Path, kind: str) -> int | None:
    """The time of the first line of a kind in ms, None where there is none; without building the entries.

    Raises:
        BadInput: a line above it has no kind or time.
        Missing: there is no such file.
    """
    return next((row.ts for row in _moments(path) if row.kind == kind), None)


def moment_before(path: Path, kind: str, until_ms: int, count: int) -> int | None:
    """The time in ms of the `count`-th newest moment before `until_ms` that has lines of a kind; None if fewer have.

    Raises:
        BadInput: a line above `until_ms` has no kind or time.
        Missing: there is no such file.
    """
    newest: deque[int] = deque(maxlen=count)
    for row in _moments(path):
        if row.ts >= until_ms:
            break
        if row.kind == kind and (not newest or newest[-1] != row.ts):
            newest.append(row.ts)
    return newest[0] if len(newest) == count else None


def _moments(path: Path) -> Iterator[_When]:
    with _opened(path) as (lines, name):
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                yield _when.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BadInput(f"{name}, line {number}: wanted an object with kind and ts: {error}") from None


@contextmanager
def _opened(source: Path | IO[bytes] | IO[str]) -> Iterator[tuple[Iterable[bytes | str], str]]:
    if not isinstance(source, Path):
        yield source, str(getattr(source, "name", "stream"))
        return
    if not source.is_file():
        raise Missing(f"no recorded stream at {source}")
    try:
        with gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb") as file:
            yield file, str(source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{source} is not a whole gzip file: {error}") from None


def _in_order(lines: Iterable[bytes | str], name: str) -> Iterator[tuple[Entry, Event | None]]:
    """Each entry, and once more where it may be a part of a basket."""
    last = 0
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            entry, part = decode_line(line.encode() if isinstance(line, str) else line)
            last = _not_before(last, entry.ts)
        except BadInput as reason:
            raise BadInput(f"{name}, line {number}: {reason}") from None
        yield entry, part


def _not_before(last: int, ts: int) -> int:
    if ts < last:
        raise BadInput(f"ts goes back in time: got {ts}, wanted {last} or more")
    return ts


def _grouped(entries: Iterable[tuple[Entry, Event | None]]) -> Iterator[Entry]:
    parts: list[Event] = []
    for entry, part in entries:
        if part is not None and parts and _belongs(part, parts):
            parts.append(part)
            continue
        if parts:
            yield _basket(parts)
        parts = [part] if part is not None else []
        if part is None:
            yield entry
    if parts:
        yield _basket(parts)


def _belongs(part: Event, parts: list[Event]) -> bool:
    first = parts[0]
    return (
        part.ts == first.ts
        and part.session_id == first.session_id
        and part.user_id == first.user_id
        and part.visitor_id == first.visitor_id
        and len(parts) < MAX_ITEMS
    )


def _basket(parts: list[Event]) -> Event:
    """The first part with the lines of all; a line sent twice counts once."""
    if len(parts) == 1:
        return parts[0]
    lines = {(part.event_id, line.item_id): line for part in reversed(parts) for line in part.items}
    unique = dict.fromkeys((part.event_id, line.item_id) for part in parts for line in part.items)
    return msgspec.structs.replace(parts[0], items=tuple([lines[key] for key in unique]))
