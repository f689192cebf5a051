"""The archive's files by name: which records each one holds, which of them count, and what is missing.

    <topic>/day=2026-11-22/<partition>-<first offset>-<last offset>-<rows>.parquet

A piece holds all records of one partition from `first` to `last`, which arrived on that day (UTC).
So the names alone tell where to go on, and no offset is stored anywhere else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, NamedTuple

TOPICS: Final = ("clickstream", "feedback", "items", "decisions", "labelled")

Place = tuple[str, int]
"""A topic and a partition of it."""

_NAME: Final = re.compile(
    r"(?P<topic>[a-z-]+)/day=(?P<day>\d{4}-\d\d-\d\d)/(?P<partition>\d+)-(?P<first>\d+)-(?P<last>\d+)-(?P<rows>\d+)\.parquet"
)


class Piece(NamedTuple):
    """One file."""

    topic: str
    day: str
    partition: int
    first: int
    last: int
    rows: int

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    @property
    def name(self) -> str:
        """The file's name in the archive.

        >>> Piece("items", "2026-11-22", 3, 0, 499, 500).name
        'items/day=2026-11-22/3-000000000000-000000000499-500.parquet'
        """
        return f"{self.topic}/day={self.day}/{self.partition}-{self.first:012}-{self.last:012}-{self.rows}.parquet"


def parse(name: str) -> Piece | None:
    """The piece of a name; None where it is the name of something else."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    numbers = (int(found[one]) for one in ("partition", "first", "last", "rows"))
    return Piece(found["topic"], found["day"], *numbers)


def day_of(ts: int) -> str:
    """The day of a time in ms, UTC.

    >>> day_of(1_700_000_000_000)
    '2023-11-14'
    """
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d")


def standing(names: Iterable[str]) -> tuple[dict[Place, list[Piece]], list[Piece]]:
    """The pieces of each partition by offset, and those that others have taken the place of.

    A piece within another one is left over from a merge that was cut short.
    """
    by_place = defaultdict[Place, list[Piece]](list)
    for piece in filter(None, map(parse, names)):
        by_place[piece.place].append(piece)
    replaced: list[Piece] = []
    stand: dict[Place, list[Piece]] = {}
    for place, pieces in sorted(by_place.items()):
        reached, stand[place] = -1, []
        for piece in sorted(pieces, key=lambda one: (one.first, -one.last, one.day)):
            (stand[place] if piece.last > reached else replaced).append(piece)
            reached = max(reached, piece.last)
    return stand, replaced


def lost(pieces: Sequence[Piece]) -> int:
    """How many offsets between a partition's pieces no piece holds."""
    return sum(max(0, later.first - earlier.last - 1) for earlier, later in pairwise(pieces))


def mergeable(stand: Mapping[Place, Sequence[Piece]], today: str, most_rows: int) -> Iterator[list[Piece]]:
    """Neighbours of one finished day that fit into one file, the largest groups that do."""
    for pieces in stand.values():
        group: list[Piece] = []
        for piece in pieces:
            if group and not _fits(group, piece, most_rows):
                if len(group) > 1:
                    yield group
                group = []
            if piece.day < today:
                group.append(piece)
        if len(group) > 1:
            yield group


def _fits(group: Sequence[Piece], piece: Piece, most_rows: int) -> bool:
    """Across a gap nothing is merged: the names would no longer tell of it."""
    rows = sum(one.rows for one in group) + piece.rows
    return piece.day == group[-1].day and piece.first == group[-1].last + 1 and rows <= most_rows
