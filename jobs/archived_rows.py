"""Rows of the archive: what a record of Kafka looks like to an analyst, and the record again."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import polars as pl

from core.catalogue import ItemChange
from core.decision import Decision, Label
from core.errors import BadInput, Corrupt
from core.events import Event
from core.fields import AHEAD_MS
from core.ids import MINUTE_MS
from streams.log import Entry
from streams.messages import Message, messages

log = logging.getLogger("headwater")

Row = dict[str, Any]

SLICE: Final = 5_000  # rows decoded at a time
_EVENTS: Final = ("clickstream", "feedback")
_UNUSABLE: Final = (BadInput, ValueError, TypeError, OverflowError, RecursionError)

_RECORD: Final[Mapping[str, Any]] = {
    "partition": pl.Int32, "offset": pl.Int64,
    "index": pl.Int32,  # of the event within a packed record
    "arrived_ms": pl.Int64, "key": pl.Binary, "value": pl.Binary,
    "reason": pl.String,  # why it is of no use; null for what can be used
    "ts": pl.Int64,
}  # fmt: skip
_EVENT: Final[Mapping[str, Any]] = {
    "name": pl.String, "event_id": pl.String, "shopper": pl.String, "user_id": pl.String, "visitor_id": pl.String,
    "session_id": pl.String, "item_ids": pl.List(pl.String), "quantities": pl.List(pl.Float64),
    "prices": pl.List(pl.Float64), "amount": pl.Float64, "currency": pl.String, "transaction_id": pl.String,
    "search_term": pl.String, "recommendation_id": pl.String, "placement": pl.String, "rating": pl.Float64,
}  # fmt: skip
SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "clickstream": {**_RECORD, **_EVENT},
    "feedback": {**_RECORD, **_EVENT},
    "items": {
        **_RECORD, "item_id": pl.String, "removed": pl.Boolean, "title": pl.String, "brand": pl.String,
        "categories": pl.List(pl.String), "price": pl.Float64, "in_stock": pl.Boolean,
    },
    "decisions": {
        **_RECORD, "recommendation_id": pl.String, "shopper": pl.String, "bundle": pl.String, "ranker": pl.String,
        "arm": pl.String, "placement": pl.String, "items": pl.List(pl.String),
    },
    "labelled": {
        **_RECORD, "recommendation_id": pl.String, "item": pl.String, "outcome": pl.String, "delay_ms": pl.Int64,
        "shown": pl.Boolean, "origin": pl.String,
    },
}  # fmt: skip

_raw_events: Final = msgspec.json.Decoder(list[msgspec.Raw])


def rows(entry: Entry, origin: str | None = None) -> list[Row]:
    """The rows of a record: one, or one for each event of a packed one. No record is without a row.

    What cannot be used has a `reason` and is kept as it came.

    Args:
        entry: the record; `ts` is the time of arrival.
        origin: of a label, which a repeated one has too.
    """
    made: list[Row] = []
    for index, (value, message) in enumerate(_parts(entry)):
        row: Row = {
            "partition": entry.partition,
            "offset": entry.offset,
            "index": index,
            "arrived_ms": entry.ts,
            "key": entry.key or None,
            "value": value,
        }
        if isinstance(message, BadInput):
            row["reason"] = str(message)
        else:
            row |= _readable(message) | {"ts": message.ts, "reason": _ahead(message, entry.ts)}
        if isinstance(message, Label):
            row["origin"] = origin
        made.append(row)
    return made


def to_parquet(topic: str, found: Sequence[Row]) -> bytes:
    """A file of rows. What one of them holds that Parquet cannot is left to its raw value, with the reason."""
    return as_file(_frame(topic, found))


def as_file(frame: pl.DataFrame) -> bytes:
    """A frame as a Parquet file, in groups of as many rows as are read at a time."""
    file = io.BytesIO()
    frame.write_parquet(file, compression="zstd", row_group_size=SLICE)
    return file.getvalue()


def slices(data: bytes, name: str = "a file") -> Iterator[pl.DataFrame]:
    """A file's rows, some thousands at a time.

    Raises:
        Corrupt: it is no such file.
    """
    whole = pl.scan_parquet(io.BytesIO(data))
    start = 0
    while len(found := _part(whole, start, name)):
        yield found
        start += SLICE


def _part(whole: pl.LazyFrame, start: int, name: str) -> pl.DataFrame:
    try:
        return whole.slice(start, SLICE).collect()
    except pl.exceptions.PolarsError as error:
        raise Corrupt(f"{name} of the archive cannot be read: {error}") from None


def _parts(entry: Entry) -> list[tuple[bytes | None, Message | BadInput]]:
    """Each message of a record with its own bytes."""
    try:
        found = messages(entry)
    except _UNUSABLE as error:
        return [(entry.value, error if isinstance(error, BadInput) else BadInput(f"cannot be read: {error!r:.300}"))]
    if not found:
        return [(entry.value, BadInput("no value" if entry.value is None else "an array without events"))]
    if entry.topic in _EVENTS and entry.value is not None and entry.value.lstrip()[:1] == b"[":
        return list(zip(map(bytes, _raw_events.decode(entry.value)), found, strict=True))
    return [(entry.value, found[0])]


def _ahead(message: Message, arrived_ms: int) -> str | None:
    """An event from far in the future would make all the others old."""
    ahead = message.ts - arrived_ms
    if isinstance(message, Event | ItemChange) and ahead > AHEAD_MS:
        return f"ts lies {ahead / MINUTE_MS:.0f} minutes after its arrival; {AHEAD_MS // MINUTE_MS} are accepted"
    return None


def _readable(message: Message) -> Row:
    """The columns of a message beside those that every record has."""
    if isinstance(message, Event):
        return _event(message)
    if isinstance(message, ItemChange):
        named = {name: getattr(message, name) for name in ("title", "brand", "categories", "price", "in_stock")}
        given = {name: value for name, value in named.items() if value is not msgspec.UNSET}
        return {"item_id": message.item_id, "removed": message.removed, **given}
    columns = SCHEMAS["decisions" if isinstance(message, Decision) else "labelled"]
    made = {name: getattr(message, name) for name in columns if name not in (*_RECORD, "items", "origin")}
    return made | ({"items": [one.item_id for one in message.items]} if isinstance(message, Decision) else {})


def _event(event: Event) -> Row:
    made = {name: getattr(event, name) for name in _EVENT if name in _EVENT_FIELDS}
    return made | {
        "shopper": event.shopper,
        "amount": event.value,
        "item_ids": [line.item_id for line in event.items],
        "quantities": [line.quantity for line in event.items],
        "prices": [line.price for line in event.items],
    }


_EVENT_FIELDS: Final = frozenset(Event.__struct_fields__)


def _frame(topic: str, found: Sequence[Row]) -> pl.DataFrame:
    schema = SCHEMAS[topic]
    try:
        return pl.DataFrame(found, schema=schema, strict=True)
    except (pl.exceptions.PolarsError, *_UNUSABLE) as error:
        if len(found) == 1:
            (row,) = found
            log.error("%s/%d/%d: %s", topic, row["partition"], row["offset"], error)
            kept = {name: value for name, value in row.items() if name in _RECORD and name not in ("ts", "reason")}
            return pl.DataFrame([kept | {"reason": f"no row can be made: {error!r:.300}"}], schema=schema)
        middle = len(found) // 2
        return pl.concat([_frame(topic, found[:middle]), _frame(topic, found[middle:])])


def entry(topic: str, row: Mapping[str, Any]) -> Entry:
    """The record of a row that can be used, as a log on one machine has it: with the time of what it says."""
    return Entry(topic, row["partition"], row["offset"], row["key"] or b"", row["value"], row["ts"])
