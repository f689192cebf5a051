"""The statements that place records in the embedded log and read them back in order of arrival."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from core.ids import signed64
from streams.partition import partition_of

Place = tuple[str, int]  # topic and partition
Placed = tuple[int, int]  # partition and offset


class Row(NamedTuple):
    """A record on its way in. `seen` is the hash of topic and event id, None without one."""

    place: Place
    seen: int | None
    ts: int
    key: bytes
    value: bytes | None


def row(record: tuple[str, bytes, bytes | None, int, str], partitions: int) -> Row:
    """A record of topic, key, value, ts and event id with its place."""
    topic, key, value, ts, event_id = record
    seen = signed64(f"{topic}\0{event_id}") if event_id else None
    return Row((topic, partition_of(key, partitions)), seen, ts, key, value)


def insert(db: sqlite3.Connection, rows: Sequence[Row], now_ms: int, dedupe_ms: int) -> list[Placed | None]:
    """Give each row the next offset of its place and write it; None for an event id that is known.

    Must run inside a write transaction: the next offsets are read from the file.
    """
    known = _known(db, rows, now_ms - dedupe_ms)
    numbers, lasts = _places(db)
    fresh: list[Row] = []
    records, placed = [], list[Placed | None]()
    for one in rows:
        if one.seen is not None and one.seen in known:
            placed.append(None)
            continue
        if one.seen is not None:
            known.add(one.seen)
        if one.place not in numbers:
            numbers[one.place] = _new_place(db, one.place)
        offset = lasts[one.place] = lasts.get(one.place, -1) + 1
        fresh.append(one)
        records.append((numbers[one.place], offset, one.ts, now_ms, one.key, one.value))
        placed.append((one.place[1], offset))
    db.executemany("INSERT INTO records (place, offset, ts, arrived_ms, key, value) VALUES (?, ?, ?, ?, ?, ?)", records)
    ids = sorted(one.seen for one in fresh if one.seen is not None)  # in order, as neighbours share a page
    db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", [(seen, now_ms) for seen in ids])
    touched = {one.place for one in fresh}
    db.executemany("UPDATE places SET last = ? WHERE id = ?", [(lasts[place], numbers[place]) for place in touched])
    return placed


def arrivals(db: sqlite3.Connection, after: Mapping[int, int], limit: int) -> Iterator[tuple[Any, ...]]:
    """(place, offset, key, value, ts) behind `after`, in order of arrival.

    Must run inside one read transaction: a record that arrives between two of the statements
    would otherwise be overtaken by a later one.

    Args:
        db: a reader.
        after: the places to read, by number, and the last offset known of each.
        limit: how many rows to fetch at a time.
    """
    start = _first_unread(db, after)
    wanted = json.dumps(list(after))
    while start is not None:
        # The plus keeps SQLite from sorting by way of the index on (place, offset).
        rows = db.execute(
            "SELECT id, place, offset, key, value, ts FROM records"
            " WHERE id >= ? AND +place IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (start, wanted, limit),
        ).fetchall()
        yield from (found[1:] for found in rows if found[2] > after[found[1]])
        start = rows[-1][0] + 1 if len(rows) == limit else None


def _first_unread(db: sqlite3.Connection, after: Mapping[int, int]) -> int | None:
    question = "SELECT id FROM records WHERE place = ? AND offset > ? ORDER BY offset LIMIT 1"
    found = (db.execute(question, one).fetchone() for one in after.items())
    return min((one[0] for one in found if one), default=None)


def _known(db: sqlite3.Connection, rows: Sequence[Row], oldest_ms: int) -> set[int]:
    """Which of the rows' event ids arrived at `oldest_ms` or later."""
    asked = [one.seen for one in rows if one.seen is not None]
    if not asked:
        return set()
    found = db.execute(
        "SELECT seen.id FROM json_each(?) AS asked CROSS JOIN seen ON seen.id = asked.value WHERE arrived_ms >= ?",
        (json.dumps(asked), oldest_ms),
    )
    return {seen for (seen,) in found}


def _places(db: sqlite3.Connection) -> tuple[dict[Place, int], dict[Place, int]]:
    """The number and the last offset of each place."""
    numbers, lasts = dict[Place, int](), dict[Place, int]()
    for number, topic, partition, last in db.execute("SELECT id, topic, partition, last FROM places"):
        numbers[topic, partition] = number
        lasts[topic, partition] = last
    return numbers, lasts


def _new_place(db: sqlite3.Connection, place: Place) -> int:
    number = db.execute("INSERT INTO places (topic, partition, last) VALUES (?, ?, -1)", place).lastrowid
    assert number is not None
    return number
