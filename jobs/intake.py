"""What an import reads, and the way of it into the embedded log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from core.catalogue import ItemChange
from core.errors import BadInput, Missing
from core.events import Event
from jobs.importing import Layout, Refusals, in_order, read_events, read_items
from jobs.presets import PRESETS, Preset, preset
from streams.log import EmbeddedLog
from streams.messages import of_imported
from streams.recorded import Entry, Query, read

AT_ONCE: Final = 2_000  # records of one append: each append waits for the disk once
STREAM: Final = "stream"  # the format of recorded streams
ALWAYS: Final = {"ts": 0}  # of an item that no time is known of: it is older than anything it will meet


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be imported, in time order; `refused` fills while it is read."""

    entries: Iterator[Entry]
    refused: Refusals
    preset: Preset | None = None


def source(name: str, preset_name: str, kind: str, layout: Layout) -> Source:
    """What a file or preset holds.

    Args:
        name: a file, or a preset that brings its own data; empty for `preset_name`'s own data.
        preset_name: reads the file as that data set's; empty for a file as `layout` describes it.
        kind: events or items: what the rows of a table are. Items without a time count as always there.
        layout: of a table; its format may be "stream" too.

    Raises:
        BadInput: nothing is named, or an unknown preset, or the file cannot be read.
        Missing: there is no such file, or a preset's data is not installed.
    """
    refused = Refusals()
    path = Path(name) if name else None
    if not preset_name and name in PRESETS and path is not None and not path.exists():
        preset_name, path = name, None
    if preset_name:
        found = preset(preset_name)
        return Source(found.read(path, refused), refused, found)
    if path is None:
        raise BadInput("name a file to import, or a preset (--list)")
    if not path.is_file():
        raise Missing(f"no file at {path}, and no preset of that name: {', '.join(PRESETS)}")
    if layout.format == STREAM:
        return Source(read(path), refused)
    if kind == "items":
        layout = replace(layout, defaults={**ALWAYS, **layout.defaults})
        return Source(read_items(path, layout, refused), refused)
    return Source(read_events(path, layout, refused), refused)


class Taken(msgspec.Struct, frozen=True):
    """What an import came to; `known` were in the log already, `queries` are not for a log."""

    events: int = 0
    items: int = 0
    known: int = 0
    queries: int = 0


def to_log(entries: Iterable[Entry], opened: EmbeddedLog, progress: Callable[[str, int, int], None]) -> Taken:
    """Append what is not there yet: events by their id, item changes by all they say.

    What the log no longer remembers (`log.dedupe_s`) is taken again.

    Raises:
        Unavailable: the log takes no writes; what was told of by then is in it.
    """
    events = items = known = queries = 0
    coming = iter(entries)
    while some := list(islice(coming, AT_ONCE)):
        messages = [entry for entry in some if not isinstance(entry, Query)]
        placed = opened.append([of_imported(message) for message in messages])
        fresh = [message for message, place in zip(messages, placed, strict=True) if place is not None]
        new_events = sum(isinstance(message, Event) for message in fresh)
        events, items = events + new_events, items + len(fresh) - new_events
        known, queries = known + len(messages) - len(fresh), queries + len(some) - len(messages)
        progress("importing", events + items + known, 0)
    return Taken(events, items, known, queries)


def latest(entries: Iterable[Entry], span_ms: int, end_ms: int) -> list[Entry]:
    """The last `span_ms` of a history, and the items that appear in it, moved so that it ends at `end_ms`.

    An item that was told of before comes at the beginning.
    """
    items: dict[str, ItemChange] = {}
    events: deque[Event] = deque()
    for entry in entries:
        if isinstance(entry, Event):
            events.append(entry)
            while entry.ts - events[0].ts > span_ms:
                events.popleft()
        elif isinstance(entry, ItemChange):
            items[entry.item_id] = entry
    if not events:
        return []
    first, by_ms = events[0].ts, end_ms - events[-1].ts
    used = {line.item_id for event in events for line in event.items}
    told = [msgspec.structs.replace(one, ts=max(one.ts, first) + by_ms) for name, one in items.items() if name in used]
    moved = [msgspec.structs.replace(event, ts=event.ts + by_ms) for event in events]
    return list(in_order(sorted(told, key=lambda one: one.ts), moved))
