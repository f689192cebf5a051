"""What was recorded, wherever it lies: the log of one machine, or the archive of a shop on Kafka.

Whoever learns or measures reads it here, in the order of arrival.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from pathlib import Path
from typing import Final, Protocol

import polars as pl

from core.catalogue import Item, ItemChange, apply_change
from core.decision import Decision
from core.errors import BadInput, Missing, Unavailable
from core.ids import signed64
from core.settings import Settings
from jobs.archived_rows import entry, slices
from jobs.chronicle import in_time
from jobs.pieces import TOPICS, Piece, day_of, standing
from jobs.storage import Storage, open_storage
from streams.log import EmbeddedLog, Entry
from streams.messages import Message, messages
from streams.recorded import Entry as Recorded
from streams.recorded import Query, write

CHUNK: Final = 5_000  # entries of the embedded log at a time
KNOWN: Final = 1_000_000  # newest labels that a repeated one is recognised among
EVENTS: Final = ("clickstream", "feedback")


def catalogue(changes: Iterable[ItemChange]) -> dict[str, Item]:
    """Items by id, as they last were: what is sold no more still tells what goes together."""
    found: dict[str, Item] = {}
    for change in changes:
        item = apply_change(found.get(change.item_id), change)
        if item is not None:
            found[change.item_id] = item
    return found


class Recording(Protocol):
    """Records of the topics, as often as one likes; what came later than an iteration began may be in it or not."""

    name: str

    def entries(self, topics: Collection[str]) -> Iterator[Entry]:
        """The records of some topics in the order of arrival, each once.

        The `ts` of an entry is the time that its message tells, where it tells one.
        """

    def count(self, topics: Collection[str]) -> int:
        """How many records of some topics have ever been recorded, those included that are deleted by now."""


class LogRecording:
    """The embedded log of one machine."""

    name = "the log"

    def __init__(self, opened: EmbeddedLog) -> None:
        self._log = opened

    def entries(self, topics: Collection[str]) -> Iterator[Entry]:
        after: dict[tuple[str, int], int] = {}
        while entries := self._log.read_all(topics, after, CHUNK):
            for one in entries:
                after[one.topic, one.partition] = one.offset
                yield one

    def count(self, topics: Collection[str]) -> int:
        return sum(last + 1 for (topic, _), last in self._log.ends().items() if topic in topics)


class ArchiveRecording:
    """The archive. An event of a packed record is an entry of its own; rows with a `reason` are left out.

    Args:
        storage: where the archive lies.
        since_ms: of all topics but the catalogue, only what arrived on that day or later.
    """

    def __init__(self, storage: Storage, since_ms: int = 0) -> None:
        self._storage, self._since = storage, day_of(since_ms)
        self.name = f"the archive {storage.where}"

    def entries(self, topics: Collection[str]) -> Iterator[Entry]:
        """As the protocol says; over partitions by time of arrival, topic, partition and offset.

        In memory is one compressed file of each partition, and some thousand rows of it.
        """
        stand, _ = standing(self._storage.names())
        ordered = [
            self._partition(TOPICS.index(place[0]), pieces) for place, pieces in stand.items() if place[0] in topics
        ]
        for *_, found in merge(*ordered, key=lambda one: one[:3]):
            yield found

    def count(self, topics: Collection[str]) -> int:
        """The rows of the archive's files, by their names."""
        stand, _ = standing(self._storage.names())
        return sum(piece.rows for place, pieces in stand.items() if place[0] in topics for piece in pieces)

    def _partition(self, order: int, pieces: Sequence[Piece]) -> Iterator[tuple[int, int, int, Entry]]:
        """The entries of one partition, with what they are ordered by: an arrival that goes back counts as the last."""
        arrived_ms = 0
        repeated = _repeated() if pieces[0].topic == "labelled" else None
        for piece, data, reached in self._files(pieces):
            for frame in slices(data, piece.name):
                fresh = frame.filter(pl.col("offset") > reached, pl.col("reason").is_null())
                for row in fresh.iter_rows(named=True):
                    arrived_ms = max(arrived_ms, row["arrived_ms"])
                    if repeated is None or not repeated(row["origin"]):
                        yield arrived_ms, order, piece.partition, entry(piece.topic, row)

    def _files(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, bytes, int]]:
        """The files of one partition, and the last offset of those before. One may be merged away before it is read."""
        left, reached = deque(pieces), -1
        while left:
            piece = left.popleft()
            if piece.topic != "items" and piece.day < self._since:
                continue
            try:
                data = self._storage.read(piece.name)
            except Unavailable:
                now = standing(self._storage.names())[0].get(piece.place, [])
                if piece in now:
                    raise
                left = deque(one for one in now if one.last > reached)
                continue
            yield piece, data, reached
            reached = max(reached, piece.last)


def _repeated() -> Callable[[str | None], bool]:
    """Tells whether an origin was there before. A worker that begins anew tells all of its labels once more."""
    known: dict[int, None] = {}

    def repeated(origin: str | None) -> bool:
        if origin is None:
            return False
        mark = signed64(origin)
        if mark in known:
            return True
        known[mark] = None
        if len(known) > KNOWN:
            del known[next(iter(known))]
        return False

    return repeated


@contextmanager
def recording(settings: Settings, archive: str = "", *, since_ms: int = 0) -> Iterator[Recording]:
    """What the shop of these settings has recorded: the archive where it runs on Kafka, else its log.

    Args:
        settings: of the shop.
        archive: a folder or URL to read instead.
        since_ms: see `ArchiveRecording`; a log keeps what its retention says.

    Raises:
        BadSettings: no such kind of store, or the log's file fits no such settings.
    """
    if archive or settings.kafka.bootstrap:
        yield ArchiveRecording(open_storage(archive or settings.archive.path), since_ms)
        return
    opened = EmbeddedLog.open(settings.log)
    try:
        yield LogRecording(opened)
    finally:
        opened.close()


def told(source: Recording, topics: Collection[str]) -> Iterator[Message]:
    """What the records say; what cannot be read was dead-lettered when it came."""
    for one in source.entries(topics):
        try:
            found = messages(one)
        except BadInput:
            continue
        for message in found:
            if not isinstance(message, BadInput):
                yield message


def as_stream(source: Recording, *, queries: bool = False) -> Iterator[Recorded]:
    """A recorded stream in the order of time, for `streams.recorded.write`. The events are held in memory.

    Args:
        source: the recording.
        queries: ask again for each list that was served, at its time.
    """
    played = in_time(lambda: told(source, (*EVENTS, "items")), 0)
    asked = sorted(_queries(source), key=lambda one: one.ts) if queries else []
    # At one time the question comes first: what was seen at that very moment had not been taken in.
    yield from merge(asked, played, key=lambda one: one.ts)


def export(
    settings: Settings, to: Path, *, archive: str = "", since_ms: int = 0, queries: bool = False
) -> Counter[str]:
    """Write what was recorded as a recorded stream, for `headwater replay` and `evaluate`; the lines of each kind.

    Args:
        settings: of the shop.
        to: the file; gzipped where its name ends in .gz.
        archive: see `recording`.
        since_ms: see `ArchiveRecording`.
        queries: see `as_stream`.

    Raises:
        Missing: nothing was recorded.
    """
    with recording(settings, archive, since_ms=since_ms) as source:
        if not source.count((*EVENTS, "items")):
            raise Missing(f"{source.name} holds nothing: no file was written")
        return write(to, as_stream(source, queries=queries))


def _queries(source: Recording) -> Iterator[Query]:
    for decision in told(source, ("decisions",)):
        if isinstance(decision, Decision) and decision.items:
            yield Query(
                query_id=decision.recommendation_id,
                ts=decision.ts,
                shopper=decision.shopper,
                k=len(decision.items),
                placement=decision.placement,
            )
