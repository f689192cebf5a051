"""From data files to events and catalogue changes, in time order; what is refused is told row by row.

What comes out is appended to the log or written as a recorded stream. Only the frame of mapped
columns is sorted; rows become objects batch by batch.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from core.catalogue import ItemChange, parse_change
from core.errors import BadInput
from core.events import MAX_ITEMS, Event, Line, parse
from core.ids import digest
from jobs.rows import Refusal, Refusals, Row, rows
from jobs.tables import Layout, open_table
from streams.recorded import Entry, write

__all__ = [
    "EVENT_NAMES", "ITEM_NAMES", "Layout", "Refusal", "Refusals",
    "events_of", "in_order", "items_of", "read_events", "read_items", "to_stream",
]  # fmt: skip

Sale = tuple[Any, ...]

_LINE: Final = ("item_id", "quantity", "price", "index")
_SOLD: Final = frozenset({"purchase", "refund"})
EVENT_NAMES: Final = (*(name for name in Event.__struct_fields__ if name not in ("v", "attributes")), *_LINE)
ITEM_NAMES: Final = (*(name for name in ItemChange.__struct_fields__ if name not in ("v", "attributes")), "category")


def read_events(path: Path, layout: Layout, refused: Refusals) -> Iterator[Event]:
    """The events of a table in time order, one a row; rows of one transaction make one purchase (or refund).

    A transaction's time is that of its earliest row, and an item that stands in it twice has its
    quantities summed. An event without an id gets one from its content, so that importing a file
    again adds nothing.

    Raises:
        BadInput: the table as a whole cannot be read; the text names the column.
        Missing: there is no such file.
    """
    return events_of(open_table(path, layout, EVENT_NAMES), refused, layout.defaults)


def read_items(path: Path, layout: Layout, refused: Refusals) -> Iterator[ItemChange]:
    """The catalogue changes of a table in time order: an item's first row, and later ones that differ.

    Raises:
        BadInput: the table as a whole cannot be read; the text names the column.
        Missing: there is no such file.
    """
    return items_of(open_table(path, layout, ITEM_NAMES), refused, layout.defaults)


def in_order(items: Iterable[ItemChange], events: Iterable[Event]) -> Iterator[Entry]:
    """Both in time order; at equal times the items come first, so that an event finds its item."""
    return heapq.merge(items, events, key=lambda entry: entry.ts)


def to_stream(entries: Iterable[Entry], path: Path) -> Counter[str]:
    """Write what was imported as a recorded stream; returns the number of lines by kind."""
    return write(path, entries)


def events_of(frame: pl.LazyFrame, refused: Refusals, defaults: Mapping[str, Any] | None = None) -> Iterator[Event]:
    """The events of a frame as `jobs.tables` describes it, grouped as `read_events` says."""
    pending: list[Row] = []
    sale: Sale | None = None
    for row in rows(_by_transaction(frame), refused, defaults or {}):
        now = _sale(row[1])
        if pending and (now is None or now != sale or len(pending) == MAX_ITEMS):
            yield from _event(pending, refused)
            pending = []
        sale = now
        pending.append(row)
    if pending:
        yield from _event(pending, refused)


def items_of(frame: pl.LazyFrame, refused: Refusals, defaults: Mapping[str, Any] | None = None) -> Iterator[ItemChange]:
    """The catalogue changes of a frame as `jobs.tables` describes it."""
    last: dict[str, str] = {}
    for row, raw in rows(frame.sort("ts", maintain_order=True), refused, defaults or {}):
        try:
            change = parse_change(raw)
        except BadInput as reason:
            refused.add(row, str(reason))
            continue
        content = digest(msgspec.json.encode(msgspec.structs.replace(change, ts=0)))
        if last.get(change.item_id) != content:
            last[change.item_id] = content
            yield change


def _by_transaction(frame: pl.LazyFrame) -> pl.LazyFrame:
    """In time order, the rows of a transaction side by side at the time of its first."""
    present = frame.collect_schema()
    if "transaction_id" not in present:
        return frame.sort("ts", maintain_order=True)
    whole = [name for name in ("transaction_id", "name", "user_id", "visitor_id") if name in present]
    first = pl.when(pl.col("transaction_id").is_not_null()).then(pl.col("ts").min().over(whole)).otherwise("ts")
    return frame.with_columns(first.alias("ts")).sort("ts", *whole, maintain_order=True)


def _sale(raw: dict[str, Any]) -> Sale | None:
    """What the rows of one sale share; None where the row is an event of its own."""
    name, transaction = raw.get("name"), raw.get("transaction_id")
    if transaction is None or name not in _SOLD:
        return None
    return transaction, name, raw.get("user_id"), raw.get("visitor_id"), raw.get("ts")


def _event(parts: list[Row], refused: Refusals) -> Iterator[Event]:
    """The event of the rows of one sale, or of a single row; the rows that are wrong are refused, the others stay."""
    try:
        yield _summed(parse(_joined([raw for _, raw in parts])))
    except BadInput as reason:
        if len(parts) == 1:
            refused.add(parts[0][0], str(reason))
            return
        good = [row for row in parts if _alone(row, refused)]
        if good:
            yield _summed(parse(_joined([raw for _, raw in good])))


def _alone(row: Row, refused: Refusals) -> bool:
    try:
        parse(row[1])
    except BadInput as reason:
        refused.add(row[0], str(reason))
        return False
    return True


def _joined(raws: list[dict[str, Any]]) -> dict[str, Any]:
    """One sale with the lines of all. Where no id is given it is derived, so that importing again repeats it."""
    first = raws[0]
    sale = _sale(first)
    if sale is None:
        return first
    whole = {key: value for key, value in first.items() if key not in _LINE}
    lines = [line for raw in raws for line in raw.get("items") or [{key: raw[key] for key in _LINE if key in raw}]]
    event_id = "t-" + digest(*map(str, sale), str(lines[0].get("item_id")))
    return {"event_id": event_id, **whole, "items": lines}


def _summed(event: Event) -> Event:
    """A sale with each item once; the price of one that stood there twice is the mean by piece."""
    if event.name not in _SOLD or len({line.item_id for line in event.items}) == len(event.items):
        return event
    lines: dict[str, Line] = {}
    for line in event.items:
        lines[line.item_id] = _added(lines[line.item_id], line) if line.item_id in lines else line
    return msgspec.structs.replace(event, items=tuple(lines.values()))


def _added(one: Line, other: Line) -> Line:
    pieces = one.quantity + other.quantity
    if one.price is None or other.price is None:
        return Line(one.item_id, pieces, one.price if other.price is None else other.price)
    return Line(one.item_id, pieces, (one.price * one.quantity + other.price * other.quantity) / pieces)
