"""The newest records of a recording, without reading what is older."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from core.settings import Settings
from jobs.recordings import CHUNK, recording
from streams.log import EmbeddedLog, Entry

Place = tuple[str, int]
SLACK_MS: Final = 60_000  # records may lie so far out of order


def recent(settings: Settings, topics: Collection[str], since_ms: int) -> Iterator[Entry]:
    """Records of some topics that are of `since_ms` (event time) or later, in the order of arrival.

    Of an archive, files of the days before are not read; of the log, the place to begin is looked up.

    Raises:
        Unavailable: the archive cannot be read.
    """
    if settings.kafka.bootstrap:
        with recording(settings, since_ms=since_ms) as source:
            yield from (one for one in source.entries(topics) if one.ts >= since_ms)
        return
    opened = EmbeddedLog.open(settings.log)
    try:
        places = [(place, last) for place, last in opened.ends().items() if place[0] in topics]
        after = {place: _before(opened, place, last, since_ms - SLACK_MS) for place, last in places}
        while entries := opened.read_all(topics, after, CHUNK):
            for one in entries:
                after[one.topic, one.partition] = one.offset
                if one.ts >= since_ms:
                    yield one
    finally:
        opened.close()


def _before(opened: EmbeddedLog, place: Place, last: int, since_ms: int) -> int:
    """An offset of a partition behind which all is that is no older; records lie in about the order of time."""
    low, high = -1, last
    while low < high:
        middle = (low + high) // 2
        found = opened.read(*place, middle, 1)
        if found and found[0].ts < since_ms:
            low = max(middle + 1, min(found[0].offset, last))
        else:
            high = middle
    return low
