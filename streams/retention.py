"""What the embedded log may forget.

Choosing runs on a reader, so that nobody waits for a long scan; removing then takes the writer's
lock for a few thousand rows at a time. That is safe because a record never becomes needed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple


class Consumed(NamedTuple):
    """A place and the last offset that every group of its topic has consumed."""

    number: int
    topic: str
    offset: int


def consumed(db: sqlite3.Connection) -> list[Consumed]:
    """Every place; one whose topic no group consumes counts as consumed to its end."""
    rows = db.execute(
        "SELECT places.id, places.topic, places.last, count(groups.consumer), min(coalesce(positions.offset, -1))"
        " FROM places"
        " LEFT JOIN (SELECT DISTINCT consumer, topic FROM positions) AS groups ON groups.topic = places.topic"
        " LEFT JOIN positions ON positions.consumer = groups.consumer AND positions.topic = places.topic"
        " AND positions.partition = places.partition"
        " GROUP BY places.id"
    )
    return [Consumed(number, topic, offset if groups else last) for number, topic, last, groups, offset in rows]


def expired(db: sqlite3.Connection, place: Consumed, oldest_ms: int) -> Sequence[int]:
    """The offsets before the first record that arrived at `oldest_ms` or later, as far as consumed."""
    (first,) = db.execute("SELECT min(offset) FROM records WHERE place = ?", (place.number,)).fetchone()
    if first is None:
        return ()
    kept = db.execute(
        "SELECT offset FROM records WHERE place = ? AND arrived_ms >= ? ORDER BY offset LIMIT 1",
        (place.number, oldest_ms),
    ).fetchone()
    return range(first, min(place.offset + 1, kept[0] if kept else place.offset + 1))


def superseded(db: sqlite3.Connection, place: Consumed, oldest_ms: int) -> Sequence[int]:
    """The consumed offsets whose key has a newer record, and removals that arrived before `oldest_ms`.

    In order: a removal must not go before the values it removed.
    """
    rows = db.execute(
        "SELECT offset FROM records WHERE place = ?1 AND offset <= ?2 AND (value IS NULL AND arrived_ms < ?3"
        " OR offset NOT IN (SELECT max(offset) FROM records WHERE place = ?1 GROUP BY key)) ORDER BY offset",
        (place.number, place.offset, oldest_ms),
    )
    return [offset for (offset,) in rows]


def remove(db: sqlite3.Connection, place: Consumed, offsets: Sequence[int]) -> int:
    """Remove records by offset, which, unlike a row number, no later record can get."""
    doomed = ((place.number, offset) for offset in offsets)
    return db.executemany("DELETE FROM records WHERE place = ? AND offset = ?", doomed).rowcount


def old_ids(db: sqlite3.Connection, oldest_ms: int, after: int, limit: int) -> list[int]:
    """Hashes of event ids that arrived before `oldest_ms`, above `after`, in order."""
    rows = db.execute(
        "SELECT id FROM seen WHERE id > ? AND arrived_ms < ? ORDER BY id LIMIT ?", (after, oldest_ms, limit)
    )
    return [seen for (seen,) in rows]


def forget(db: sqlite3.Connection, ids: Sequence[int], oldest_ms: int) -> None:
    """Remove event ids, except those that have come again since."""
    doomed = ((seen, oldest_ms) for seen in ids)
    db.executemany("DELETE FROM seen WHERE id = ? AND arrived_ms < ?", doomed)
