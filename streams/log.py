"""The embedded log: events, step state and consumed positions in one SQLite file.

What `append` has returned survives SIGKILL and power loss. `commit` moves state, positions and
derived records together, so that a process killed at any moment finds the state of a prefix of
the log. One connection writes, under a lock; readers have their own and wait for nobody.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from core.settings import LogSettings
from streams import retention
from streams.appender import Appender
from streams.database import Readers, Writer
from streams.records import Place, Placed, Row, arrivals, insert, row

TRIM_ROWS: Final = 5_000  # removed in one transaction, for which appends wait
FIRST_ID: Final = -(1 << 63)  # no hash of an event id is below


class Entry(NamedTuple):
    """A record as the log holds it. A value of None is a removal on a compacted topic."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    ts: int


class New(NamedTuple):
    """A record to append. A non-empty `event_id` is taken once per topic within `dedupe_s`."""

    topic: str
    key: bytes
    value: bytes | None
    ts: int
    event_id: str = ""


class EmbeddedLog:
    """One open file. All methods may be called from any thread."""

    def __init__(self, settings: LogSettings, compacted: Collection[str], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._compacted = frozenset(compacted)
        self._clock = clock
        self._writer = Writer(settings)
        self._readers = Readers(settings)
        self._news = threading.Condition()
        self._writes = 0
        self._waiter = threading.local()
        self._closed = False
        self._appender = Appender(self._write)

    @classmethod
    def open(
        cls,
        settings: LogSettings,
        *,
        compacted: Collection[str] = ("items",),
        clock: Callable[[], float] = time.time,  # noqa: TID251 - a log records when things arrive
    ) -> EmbeddedLog:
        """Open the file, or make it with its folder.

        Args:
            settings: where, and how many partitions every topic has.
            compacted: topics of which `trim` keeps the newest record of each key.
            clock: seconds since 1970; the time of arrival, which dedupe and retention go by.

        Raises:
            BadSettings: the path cannot be opened, or holds something else than a log that
                these settings fit.
            Broken: the file is damaged.
            Unavailable: another process keeps the file locked.
        """
        return cls(settings, compacted, clock)

    def append(self, records: Sequence[New]) -> list[Placed | None]:
        """Write records, all or none; durable on return.

        Callers that come while another one is being written share the next transaction, and
        with it the wait for the disk.

        Returns:
            (partition, offset) of each record, None for one whose event id was seen before.

        Raises:
            Unavailable: the disk is full or another process holds the file; nothing was written.
        """
        if not records:
            return []
        return self._appender.append(self._rows(records))

    def commit(
        self,
        group: str,
        *,
        positions: Mapping[Place, int],
        tables: Mapping[str, Mapping[bytes, bytes | None]],
        outputs: Sequence[New] = (),
    ) -> None:
        """Store what a group has consumed and made of it, all or nothing; durable on return.

        Args:
            group: who consumes. `trim` keeps every record that a group has not consumed of a
                topic in which it has a position; -1 says that it will start at the beginning.
            positions: the last consumed offset per topic and partition; others stay.
            tables: changed keys by table name; None removes the key.
            outputs: derived records to append.

        Raises:
            Unavailable: as for `append`.
        """
        rows = self._rows(outputs)
        moved = [(group, topic, partition, offset) for (topic, partition), offset in positions.items()]
        changed = [(name, key, value) for name, table in tables.items() for key, value in table.items()]
        with self._writer.lock, self._writer.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", moved)
            db.executemany(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (name, key) DO UPDATE SET value = excluded.value",
                [one for one in changed if one[2] is not None],
            )
            db.executemany(
                "DELETE FROM state WHERE name = ? AND key = ?", [one[:2] for one in changed if one[2] is None]
            )
            self._insert(db, rows)
        if rows:
            self._announce()

    def read(self, topic: str, partition: int, after: int, limit: int) -> list[Entry]:
        """The records of one partition behind offset `after`, oldest first; -1 for the beginning."""
        with self._readers.snapshot() as db:
            rows = db.execute(
                "SELECT topic, partition, offset, key, value, ts FROM places JOIN records ON place = places.id"
                " WHERE topic = ? AND partition = ? AND offset > ? ORDER BY offset LIMIT ?",
                (topic, partition, after, limit),
            )
            return [Entry._make(found) for found in rows]

    def read_all(self, topics: Collection[str], after: Mapping[Place, int], limit: int) -> list[Entry]:
        """The records of several topics behind `after`, in the order in which they arrived.

        Args:
            topics: which topics, all their partitions.
            after: the last offset known of each topic and partition; nothing known where absent.
            limit: how many at most.
        """
        with self._readers.snapshot() as db:
            numbered = db.execute("SELECT id, topic, partition FROM places")
            places = {number: (topic, partition) for number, topic, partition in numbered if topic in topics}
            known = {number: after.get(place, -1) for number, place in places.items()}
            found = islice(arrivals(db, known, limit), limit)
            return [Entry(*places[number], offset, key, value, ts) for number, offset, key, value, ts in found]

    def ends(self) -> dict[Place, int]:
        """The last offset of each topic and partition that ever had a record."""
        with self._readers.snapshot() as db:
            rows = db.execute("SELECT topic, partition, last FROM places")
            return {(topic, partition): last for topic, partition, last in rows}

    def positions(self, group: str) -> dict[Place, int]:
        """What a group has consumed: the last offset of each topic and partition."""
        with self._readers.snapshot() as db:
            rows = db.execute("SELECT topic, partition, offset FROM positions WHERE consumer = ?", (group,))
            return {(topic, partition): offset for topic, partition, offset in rows}

    def table(self, name: str) -> Generator[tuple[bytes, bytes], None, None]:
        """Keys and values of a table as of the first step of the iteration, by key.

        The write-ahead file cannot be cut back while an iteration is open.
        """
        with self._readers.snapshot() as db:
            yield from db.execute("SELECT key, value FROM state WHERE name = ? ORDER BY key", (name,))

    def get(self, name: str, key: bytes) -> bytes | None:
        """The value of a key in a table; None where there is none."""
        with self._readers.snapshot() as db:
            found = db.execute("SELECT value FROM state WHERE name = ? AND key = ?", (name, key)).fetchone()
            return found[0] if found else None

    def count(self, name: str) -> int:
        """How many keys a table has."""
        with self._readers.snapshot() as db:
            (keys,) = db.execute("SELECT count(*) FROM state WHERE name = ?", (name,)).fetchone()
            return int(keys)

    def trim(self, now_ms: int) -> int:
        """Remove what retention does not keep, and event ids older than `dedupe_s`.

        Records go `retention_s` after they arrived; on a compacted topic a record goes as soon as
        its key has a newer one, and a removal after `retention_s`. A record that some group of
        its topic has yet to consume stays. The file keeps its size and fills up again.

        Returns:
            How many records were removed.
        """
        oldest_ms = now_ms - round(self._settings.retention_s * 1000)
        with self._readers.snapshot() as db:
            places = retention.consumed(db)
        removed = sum(self._trim_place(place, oldest_ms) for place in places)
        self._forget_ids(now_ms - round(self._settings.dedupe_s * 1000))
        return removed

    def wait(self, timeout_s: float) -> None:
        """Return as soon as something was appended since this thread's last `wait`, or after the timeout.

        Appends of another process do not wake it. A wake-up may be idle.
        """
        with self._news:
            known = getattr(self._waiter, "writes", 0)
            self._news.wait_for(lambda: self._writes != known or self._closed, timeout_s)
            self._waiter.writes = self._writes

    def close(self) -> None:
        """Let what is being written end and close the file; later calls raise Unavailable."""
        self._appender.close()
        self._writer.close()
        self._readers.close()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _rows(self, records: Sequence[New]) -> list[Row]:
        return [row(record, self._settings.partitions) for record in records]

    def _write(self, rows: Sequence[Row]) -> list[Placed | None]:
        with self._writer.lock, self._writer.transaction() as db:
            placed = self._insert(db, rows)
        self._announce()
        return placed

    def _insert(self, db: sqlite3.Connection, rows: Sequence[Row]) -> list[Placed | None]:
        return insert(db, rows, int(self._clock() * 1000), round(self._settings.dedupe_s * 1000))

    def _announce(self) -> None:
        with self._news:
            self._writes += 1
            self._news.notify_all()

    def _trim_place(self, place: retention.Consumed, oldest_ms: int) -> int:
        choose = retention.superseded if place.topic in self._compacted else retention.expired
        with self._readers.snapshot() as db:
            offsets = choose(db, place, oldest_ms)
        removed = 0
        for start in range(0, len(offsets), TRIM_ROWS):
            with self._writer.lock, self._writer.transaction() as db:
                removed += retention.remove(db, place, offsets[start : start + TRIM_ROWS])
        return removed

    def _forget_ids(self, oldest_ms: int) -> None:
        last = FIRST_ID
        while True:
            with self._readers.snapshot() as db:
                ids = retention.old_ids(db, oldest_ms, last, TRIM_ROWS)
            if not ids:
                return
            with self._writer.lock, self._writer.transaction() as db:
                retention.forget(db, ids, oldest_ms)
            last = ids[-1]
