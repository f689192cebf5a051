"""The archive: every record of the topics that are kept, in Parquet files by topic and day of arrival.

A file appears whole or not at all, and its name tells the offsets in it; where to go on is read
from the names. A process that is killed at any moment has therefore archived each offset once or
not yet, and no offset is committed anywhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from core.errors import Broken
from core.settings import ArchiveSettings
from jobs import archived_rows
from jobs.archived_rows import Row
from jobs.pieces import Piece, Place, day_of, lost, mergeable, standing
from jobs.storage import Storage
from streams.log import Entry

log = logging.getLogger("headwater")

WAITING_BYTES: Final = 256_000_000  # of all records that wait for their files
ROW_BYTES: Final = 2_000  # what a row takes in memory beside its value


@dataclass(slots=True)
class _Waiting:
    """Records of one partition that are in no file yet. `first` is the offset after the last file's."""

    first: int
    day: str = ""
    last: int = -1
    rows: list[Row] = field(default_factory=list)
    bytes: int = 0
    since_s: float = 0.0


@dataclass(slots=True, frozen=True)
class _Ready:
    """A file to be written. Trying again writes the same one, even if the first try did arrive."""

    piece: Piece
    rows: list[Row]
    bytes: int


class Archive:
    """Turns records into files; knows nothing of Kafka. One thread at a time.

    Args:
        storage: where the files go; the caller is alone there.
        settings: how many rows a file has at most, and how long a record waits for it.

    Raises:
        Unavailable: the storage cannot be listed.
    """

    def __init__(self, storage: Storage, settings: ArchiveSettings) -> None:
        self._storage, self._settings = storage, settings
        self._waiting: dict[Place, _Waiting] = {}
        self._ready: deque[_Ready] = deque()
        self._stand, replaced = standing(storage.names())
        storage.delete([piece.name for piece in replaced])
        self.files = self.rows = 0  # written since the start
        self.lost = sum(map(lost, self._stand.values()))

    def begin(self, place: Place, oldest: int, end: int) -> int:
        """Where to read a partition from, given the offsets that Kafka has from `oldest` to before `end`.

        Raises:
            Broken: the archive is ahead of the topic, which must have been made anew.
        """
        waiting = self._waiting.get(place)
        pieces = self._stand.get(place, [])
        wanted = waiting.first if waiting else pieces[-1].last + 1 if pieces else 0
        name = f"{place[0]}/{place[1]}"
        if end < wanted:
            raise Broken(
                f"{name} ends before offset {end}, and the archive {self._storage.where} has it up to {wanted - 1}: "
                "the topic was made anew; archive it into another folder (archive.path)"
            )
        if oldest > wanted and wanted:
            log.error("%s: %d records were deleted before they were archived", name, oldest - wanted)
            self.lost += oldest - wanted
        elif oldest:
            log.warning("%s: the archive begins with offset %d, what was before is gone", name, oldest)
        day = waiting.day if waiting else pieces[-1].day if pieces else ""
        self._waiting[place] = _Waiting(max(oldest, wanted), day)
        return self._waiting[place].first

    def take(self, entry: Entry, origin: str | None, now_s: float) -> None:
        """Add a record; those of one partition in the order of their offsets, one that is known is passed over.

        Args:
            entry: the record; `ts` is the time of arrival.
            origin: of a label.
            now_s: a clock that does not go back.
        """
        place = (entry.topic, entry.partition)
        waiting = self._waiting[place]
        if entry.offset < waiting.first or entry.offset <= waiting.last:
            return
        rows, day = archived_rows.rows(entry, origin), max(day_of(entry.ts), waiting.day)
        if waiting.rows and (day != waiting.day or len(waiting.rows) + len(rows) > self._settings.rows):
            self._close(place)
            waiting = self._waiting[place]
        if not waiting.rows:
            waiting.since_s = now_s
        waiting.day, waiting.last = day, entry.offset
        waiting.rows += rows
        waiting.bytes += sum(len(row["value"] or b"") + ROW_BYTES for row in rows)

    def due(self, now_s: float) -> None:
        """Close the files whose records have waited long enough, and the largest ones where too much waits."""
        for place, waiting in self._waiting.items():
            if waiting.rows and now_s - waiting.since_s >= self._settings.every_s:
                self._close(place)
        while sum(one.bytes for one in self._waiting.values()) > WAITING_BYTES:
            self._close(max(self._waiting, key=lambda place: self._waiting[place].bytes))

    def close(self, places: Iterable[Place] | None = None) -> None:
        """Close the files of some partitions, or of all, whatever they hold."""
        for place in list(self._waiting) if places is None else places:
            if place in self._waiting and self._waiting[place].rows:
                self._close(place)

    def write(self) -> None:
        """Write the files that are closed.

        Raises:
            Unavailable: the storage takes none now; calling again goes on with the same file.
        """
        while self._ready:
            ready = self._ready[0]
            self._storage.write(ready.piece.name, archived_rows.to_parquet(ready.piece.topic, ready.rows))
            self._stand.setdefault(ready.piece.place, []).append(ready.piece)
            self._ready.popleft()
            self.files += 1
            self.rows += ready.piece.rows

    def merge(self, today: str) -> bool:
        """Make one file of small ones of a finished day; False where there are none to merge.

        Until the small ones are gone a record stands in two files, which our own reader knows.

        Args:
            today: the day that is not finished.

        Raises:
            Corrupt: one of them is damaged.
            Unavailable: the storage fails; nothing is lost.
        """
        group = next(mergeable(self._stand, today, self._settings.rows), None)
        if group is None:
            return False
        whole = group[0]._replace(last=group[-1].last, rows=sum(piece.rows for piece in group))
        files = ((self._storage.read(piece.name), piece.name) for piece in group)
        frames = [rows for data, name in files for rows in archived_rows.slices(data, name)]
        self._storage.write(whole.name, archived_rows.as_file(pl.concat(frames)))
        self._storage.delete([piece.name for piece in group])
        pieces = self._stand[whole.place]
        start = pieces.index(group[0])
        pieces[start : start + len(group)] = [whole]
        return True

    def reached(self, place: Place) -> int:
        """The offset after the last record taken of a partition that was begun."""
        waiting = self._waiting[place]
        return max(waiting.first, waiting.last + 1)

    def figures(self) -> Mapping[str, Any]:
        """For the health page."""
        return {
            "archive": self._storage.where,
            "files_written": self.files,
            "rows_written": self.rows,
            "rows_waiting": sum(len(one.rows) for one in list(self._waiting.values())),
            "files_waiting": len(self._ready),
            "records_lost": self.lost,
        }

    def _close(self, place: Place) -> None:
        waiting = self._waiting[place]
        piece = Piece(place[0], waiting.day, place[1], waiting.first, waiting.last, len(waiting.rows))
        self._ready.append(_Ready(piece, waiting.rows, waiting.bytes))
        self._waiting[place] = _Waiting(waiting.last + 1, waiting.day)
