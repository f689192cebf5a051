"""An archive of given records, without Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from core.settings import ArchiveSettings
from jobs.archive import Archive
from jobs.pieces import TOPICS
from jobs.storage import Storage
from streams.log import Entry, New
from streams.partition import partition_of

PARTITIONS = 2
END = 1 << 40  # of a partition that has no end


def placed(records: Iterable[New], arrived_ms: int, apart_ms: int = 1_000) -> list[Entry]:
    """Records as Kafka has them: with partition, offset, and the time at which they came."""
    ends = Counter[tuple[str, int]]()
    entries = []
    for number, record in enumerate(records):
        partition = partition_of(record.key, PARTITIONS)
        offset = ends[record.topic, partition]
        ends[record.topic, partition] += 1
        came = arrived_ms + number * apart_ms
        entries.append(Entry(record.topic, partition, offset, record.key, record.value, came))
    return entries


def begun(storage: Storage, *, rows: int = 100, every_s: float = 60.0) -> Archive:
    """An archive that goes on where the storage's files end."""
    archive = Archive(storage, ArchiveSettings(rows=rows, every_s=every_s))
    for topic in TOPICS:
        for partition in range(PARTITIONS):
            archive.begin((topic, partition), 0, END)
    return archive


def archive_all(storage: Storage, entries: Iterable[Entry], *, rows: int = 100) -> None:
    """Archive records to the last."""
    archive = begun(storage, rows=rows)
    for entry in entries:
        archive.take(entry, None, 0.0)
    archive.close()
    archive.write()
