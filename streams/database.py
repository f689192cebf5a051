"""The embedded log's SQLite file: its schema, its connections, and what SQLite's errors mean to us."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.errors import BadSettings, Broken, Unavailable
from core.settings import LogSettings

SCHEMA: Final = 1
APPLICATION: Final = int.from_bytes(b"hwlg", "big")  # marks the file as ours
CHECKPOINT_PAGES: Final = 4_000  # of 4 KiB; a checkpoint costs two fsyncs, so not after every few appends
WAL_BYTES: Final = 64 << 20  # the write-ahead file is cut back above this

# A place is one partition of one topic; its row outlives its records, so that no offset comes
# back after a trim. records.id is the order of arrival over all places.
_TABLES: Final = (
    "CREATE TABLE made (partitions INTEGER NOT NULL)",
    "CREATE TABLE places (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,"
    " last INTEGER NOT NULL, UNIQUE (topic, partition))",
    "CREATE TABLE records (id INTEGER PRIMARY KEY, place INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " ts INTEGER NOT NULL, arrived_ms INTEGER NOT NULL, key BLOB NOT NULL, value BLOB)",
    "CREATE UNIQUE INDEX records_by_place ON records (place, offset)",
    "CREATE TABLE seen (id INTEGER PRIMARY KEY, arrived_ms INTEGER NOT NULL)",
    "CREATE TABLE positions (consumer TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, PRIMARY KEY (consumer, topic, partition)) WITHOUT ROWID",
    "CREATE TABLE state (name TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (name, key))",
)
_MAY_PASS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Writer:
    """The one connection that writes."""

    def __init__(self, settings: LogSettings) -> None:
        """Open the file; make folder, file and tables where there are none.

        Raises:
            BadSettings: `log.path` cannot be opened, is no log of ours or of another schema
                version, or was made with another number of partitions.
            Broken: the file is damaged.
            Unavailable: another process holds the file for longer than `busy_s`.
        """
        self.lock = threading.Lock()
        self._db = _open(settings)
        self._busy_ms = round(settings.busy_s * 1000)
        self._wal = Path(f"{settings.path}-wal")
        self._wal_limit = WAL_BYTES
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk when the block has ended. The caller holds the lock."""
        with _errors():
            if self._closed:
                raise Unavailable("the log is closed")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
        self._cut_back()

    def close(self) -> None:
        """Wait for a running transaction, then close."""
        with self.lock:
            self._closed = True
            self._db.close()

    def _cut_back(self) -> None:
        """Empty the write-ahead file when it has grown long.

        SQLite's own checkpoints cannot while there is always some reader at work. One that
        reads for long is not waited for: the next try comes when the file is longer still.
        """
        try:
            size = self._wal.stat().st_size
            if size <= self._wal_limit:
                return
            self._db.execute("PRAGMA busy_timeout = 50")
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._wal_limit = size + WAL_BYTES if busy else WAL_BYTES
        except (OSError, sqlite3.OperationalError):
            self._wal_limit += WAL_BYTES  # the transaction itself is safe; only the file stays long
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {self._busy_ms}")


class Readers:
    """Connections that only read; they wait neither for the writer nor for each other."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the file as it is at its first statement, until the block ends."""
        if self._closed:
            raise Unavailable("the log is closed")
        with _errors():
            db = self._take()
            try:
                db.execute("BEGIN")
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.close()
                raise
        self._give_back(db)

    def close(self) -> None:
        """Close those not in use now; the others close when they come back."""
        self._closed = True
        for _ in range(len(self._idle)):
            self._take().close()

    def _give_back(self, db: sqlite3.Connection) -> None:
        if self._closed:
            db.close()
        else:
            self._idle.append(db)

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            db = _connect(self._settings)
            db.execute("PRAGMA query_only = ON")
            return db


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        if code in _MAY_PASS:
            raise Unavailable(f"the log cannot be used now: {error}") from error
        if code in _DAMAGED:
            raise Broken(f"the log file is damaged: {error}") from error
        raise


def _connect(settings: LogSettings) -> sqlite3.Connection:
    # Connections wander between threads but are used by one at a time: under the lock, or by who took them.
    return sqlite3.connect(settings.path, timeout=settings.busy_s, isolation_level=None, check_same_thread=False)


def _open(settings: LogSettings) -> sqlite3.Connection:
    try:
        settings.path.parent.mkdir(parents=True, exist_ok=True)
        db = _connect(settings)
    except (OSError, sqlite3.OperationalError) as error:
        raise BadSettings(f"log.path {settings.path} cannot be opened: {error}") from error
    try:
        with _errors():
            _check_owner(db, settings)
            _configure(db, settings)
            _create_tables(db, settings)
    except BaseException:
        db.close()
        raise
    return db


def _configure(db: sqlite3.Connection, settings: LogSettings) -> None:
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise BadSettings(f"log.path {settings.path} must be a file on a local disk: SQLite refuses WAL mode there")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    db.execute("PRAGMA cache_size = -32768")  # KiB; event ids lie all over their table


def _check_owner(db: sqlite3.Connection, settings: LogSettings) -> None:
    try:
        owner = _number(db, "PRAGMA application_id")
        version = _number(db, "PRAGMA user_version")
        tables = _number(db, "SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise BadSettings(f"log.path {settings.path} is not a headwater log: {error}") from error
        raise
    if owner != APPLICATION and (tables or version):
        raise BadSettings(f"log.path {settings.path} is a SQLite file of another program")
    if owner == APPLICATION and version != SCHEMA:
        raise BadSettings(
            f"{settings.path} has log schema {version}, this headwater reads {SCHEMA}: "
            "use the version that wrote it, or name a new file as log.path"
        )


def _create_tables(db: sqlite3.Connection, settings: LogSettings) -> None:
    """In one transaction: a process killed here leaves an empty file or a whole one."""
    db.execute("BEGIN IMMEDIATE")
    if _number(db, "PRAGMA user_version") == 0:
        for statement in _TABLES:
            db.execute(statement)
        db.execute("INSERT INTO made VALUES (?)", (settings.partitions,))
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
    db.execute("COMMIT")
    made = _number(db, "SELECT partitions FROM made")
    if made != settings.partitions:
        raise BadSettings(
            f"{settings.path} was made with {made} partitions, log.partitions is {settings.partitions}: "
            "set it back, or name a new file as log.path"
        )


def _number(db: sqlite3.Connection, question: str) -> int:
    (value,) = db.execute(question).fetchone()
    return int(value)
