"""Vectors that were computed once: by space and text, shared between processes and restarts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import BadSettings, Broken, Corrupt, Unavailable
from core.ids import digest
from models.vectors import Progress, TextEncoder, Vectors

_ASKED_AT_ONCE: Final = 500  # keys of one query: SQLite allows 999 in old builds
_STORED_AT_ONCE: Final = 2_048  # texts between two commits: what an interruption can cost
_WAIT_S: Final = 30.0
_PAUSE_S: Final = 0.02
_UNIT_WITHIN: Final = 1e-2
_TABLE: Final = "CREATE TABLE IF NOT EXISTS vectors (space TEXT, text TEXT, vector BLOB, PRIMARY KEY (space, text))"


class VectorCache:
    """float16 vectors in an SQLite file; any number of processes may share it.

    The file can be deleted at any time: it holds nothing that cannot be computed again.
    """

    def __init__(self, path: Path | None) -> None:
        """Open or create the file; None keeps everything in memory.

        Raises:
            BadSettings: the file cannot be opened or written.
            Corrupt: it is no SQLite database.
        """
        self._path = path
        self._lock = Lock()
        try:
            with self._errors():
                self._db = _open(path)
        except (OSError, Unavailable) as error:
            raise BadSettings(f"encoder.cache: {path} cannot be opened ({error})") from None

    def get(self, space_id: str, keys: Sequence[str], dim: int) -> dict[str, NDArray[np.float16]]:
        """The vectors that are there, by `text_key`.

        Raises:
            Unavailable: the file is locked for long.
            Corrupt: the file or a vector in it is damaged.
        """
        found: dict[str, NDArray[np.float16]] = {}
        for start in range(0, len(keys), _ASKED_AT_ONCE):
            asked = keys[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(asked))
            query = f"SELECT text, vector FROM vectors WHERE space = ? AND text IN ({marks})"
            with self._lock, self._errors():
                rows = self._db.execute(query, (space_id, *asked)).fetchall()
            found.update((key, np.frombuffer(blob, np.float16)) for key, blob in rows)
        if any(len(vector) != dim for vector in found.values()):
            raise Corrupt(f"vectors of another length than {dim} in {self._path}: delete the file, it is a cache")
        return found

    def put(self, space_id: str, vectors: Mapping[str, NDArray[np.float16]]) -> None:
        """Keep vectors by `text_key`; one that is there already stays.

        Raises:
            Unavailable: the file is locked for long, or the disk is full.
        """
        rows = ((space_id, key, vector.tobytes()) for key, vector in vectors.items())
        with self._lock, self._errors(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # locked for long, disk full, not writable
            raise Unavailable(f"the vectors in {self._path} cannot be reached now: {error}") from None
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"{self._path} cannot be read ({error}): delete the file, it is a cache") from None


def text_key(text: str) -> str:
    """What a text is kept under."""
    return digest(text)


def encode_cached(
    encoder: TextEncoder, cache: VectorCache, texts: Sequence[str], progress: Progress | None = None
) -> Vectors:
    """One unit vector a text, computing each distinct text at most once.

    All are rounded to float16, found or not, so that the answer does not depend on what the
    cache held.

    Args:
        encoder: computes what is missing.
        cache: read first, and written every couple of thousand texts, so that a run that was
            interrupted goes on where it stopped.
        texts: row i of the answer belongs to `texts[i]`.
        progress: told of distinct texts done, the found ones at once.
    """
    keys = [text_key(text) for text in texts]
    distinct = dict(zip(keys, texts, strict=True))
    known = cache.get(encoder.space_id, list(distinct), encoder.dim)
    missing = [key for key in distinct if key not in known]
    if progress is not None:
        progress(len(known), len(distinct))
    for start in range(0, len(missing), _STORED_AT_ONCE):
        some = missing[start : start + _STORED_AT_ONCE]
        fresh = encoder.encode([distinct[key] for key in some], _after(len(known), len(distinct), progress))
        rounded = dict(zip(some, _checked(fresh).astype(np.float16), strict=True))
        cache.put(encoder.space_id, rounded)
        known.update(rounded)
    return _stacked([known[key] for key in keys], encoder.dim)


def _after(before: int, total: int, progress: Progress | None) -> Progress | None:
    """Tell of a part as the part of the whole that it is."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _checked(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.abs(lengths - 1) < _UNIT_WITHIN).all():  # false for NaN too
        raise Broken(f"an encoder gave vectors that are not of unit length: {lengths.min()} to {lengths.max()}")
    return vectors


def _stacked(rows: list[NDArray[np.float16]], dim: int) -> Vectors:
    vectors = np.array(rows, np.float32).reshape(len(rows), dim)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(":memory:" if path is None else path, timeout=_WAIT_S, check_same_thread=False)
    try:
        _write_ahead(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(_TABLE)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Processes that open a new file at once meet at this switch, and here SQLite does not wait by itself."""
    tries = round(_WAIT_S / _PAUSE_S)
    for left in reversed(range(tries)):
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not left:
                raise
            time.sleep(_PAUSE_S)
