"""Records that Kafka cannot take now, on the disk until it can.

A folder of segments, numbered in order. A record is a frame of its length and CRC-32 (both
little-endian, 32 bits) and its bytes; `append` returns after fsync. A process killed in the
middle of a frame leaves a torn tail, which nobody was promised: reading ends before it, and the
next process begins a segment of its own.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from core.claim import Claim
from core.disk import sync
from core.errors import Unavailable

log = logging.getLogger("headwater")

SEGMENT_BYTES: Final = 8_000_000  # what is read, sent and deleted as one
SUFFIX: Final = ".spool"
_HEAD: Final = struct.Struct("<II")


class Unsent(NamedTuple):
    """A record on its way to a topic, by the topic's short name."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


_decoder: Final = msgspec.msgpack.Decoder(tuple[str, int, bytes | None, bytes])


def frame(record: Unsent) -> bytes:
    """A record as a segment holds it."""
    payload = msgspec.msgpack.encode(tuple(record))
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes) -> Iterator[Unsent]:
    """The records of a segment up to the first frame that is not whole."""
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + size]
        if not size or len(payload) < size or zlib.crc32(payload) != checksum:
            break
        yield Unsent(*_decoder.decode(payload))
        at += _HEAD.size + size
    if at < len(data):
        log.warning("spool: %d bytes at the end of a segment are no whole record and are left out", len(data) - at)


class _Segment(NamedTuple):
    path: Path
    records: int
    bytes: int


class Spool:
    """One folder, for one process. `append` and the reading methods may be called from two threads.

    Raises:
        Unavailable: another process holds the folder, or it cannot be written to.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        try:
            self._claim = Claim(folder / "lock", f"{folder} is in use: each gateway needs a kafka.spool of its own")
        except OSError as error:
            raise Unavailable(f"the spool {folder} cannot be used: {error}") from None
        self._segments = [_found(one) for one in sorted(folder.glob(f"*{SUFFIX}"))]
        self._number = max((int(one.path.stem) for one in self._segments), default=0)
        self._open: _Open | None = None

    @property
    def bytes(self) -> int:
        """What all segments hold."""
        return sum(one.bytes for one in self._parts())

    @property
    def records(self) -> int:
        """How many records wait; one may be packed of many events."""
        return sum(one.records for one in self._parts())

    @property
    def empty(self) -> bool:
        return not self._segments and self._open is None

    def check_room(self, size: int) -> None:
        """Refuse what would make it larger than it may be.

        Raises:
            Unavailable: with so many bytes more.
        """
        if self.bytes + size > self._most:
            raise Unavailable(
                f"Kafka does not answer, and the spool holds {self.bytes:,} of {self._most:,} bytes (kafka.spool_bytes)"
            )

    def append(self, records: Sequence[Unsent]) -> None:
        """Write all of them, or none; on the disk on return.

        Raises:
            Unavailable: there would be more than the limit, or the disk takes no more.
        """
        data = b"".join(map(frame, records))
        self.check_room(len(data))
        try:
            if self._open is None:
                self._number += 1
                self._open = _Open(self._folder / f"{self._number:012d}{SUFFIX}")
            self._open.write(data, len(records))
        except OSError as error:
            if self._open is not None and not self._open.whole:
                self._seal()
            raise Unavailable(f"Kafka does not answer, and the spool cannot be written: {error.strerror}") from None
        if self._open.bytes >= SEGMENT_BYTES:
            self._seal()

    def oldest(self) -> list[Unsent]:
        """The records of the oldest segment, which takes no more from now on; empty when nothing waits.

        Must not run beside `append`.
        """
        if not self._segments and self._open is not None:
            self._seal()
        return list(frames(self._segments[0].path.read_bytes())) if self._segments else []

    def drop_oldest(self) -> None:
        """Delete the oldest segment: Kafka has acknowledged all of it."""
        self._segments[0].path.unlink()
        self._segments.pop(0)
        sync(self._folder)

    def close(self) -> None:
        """Let another process have the folder."""
        if self._open is not None:
            self._seal()
        self._claim.release()

    def _parts(self) -> list[_Segment | _Open]:
        now = self._open  # may be sealed by the other thread meanwhile
        return [*self._segments, now] if now is not None else [*self._segments]

    def _seal(self) -> None:
        assert self._open is not None
        self._segments.append(self._open.close())
        self._open = None


class _Open:
    """The segment that is written to."""

    def __init__(self, path: Path) -> None:
        self._path, self.bytes, self.records, self.whole = path, 0, 0, True
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        sync(path.parent)

    def write(self, data: bytes, records: int) -> None:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            self.whole = False  # what follows a torn frame would not be found
            os.ftruncate(self._file, self.bytes)
            self.whole = True
            raise
        self.bytes += len(data)
        self.records += records

    def close(self) -> _Segment:
        os.close(self._file)
        return _Segment(self._path, self.records, self.bytes)


def _found(path: Path) -> _Segment:
    data = path.read_bytes()
    return _Segment(path, sum(1 for _ in frames(data)), len(data))
