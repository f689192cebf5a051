"""The driver without Kafka: walks the topology in one process, in the order of arrival.

Fed by the embedded log or by a recorded one; it knows no domain logic and no clock. A message
and all that follows from it are worked off before the next one, so that after `feed` the tables
are those of a whole prefix of the log.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from core.catalogue import ItemChange
from core.events import Event
from streams.attribution import Served
from streams.profile import Output
from streams.topology import STATE_TYPES, Stage, Step

Fetch = Callable[[str, bytes], bytes | None]
Sink = Callable[[str, str, Any], None]


class Table:
    """States of one stage by key: in memory, over a store that is asked for what is not."""

    def __init__(self, stage: Stage, fetch: Fetch | None) -> None:
        self._name, self._empty, self._fetch = stage.name, stage.empty, fetch
        self._states: dict[str, Any] = {}
        self._used: dict[str, None] = {}  # its keys, those fetched or written last standing last; with a store only
        self._dirty: dict[str, None] = {}  # a set in the order of writing, which no hash decides
        self._decoder = msgspec.msgpack.Decoder(STATE_TYPES[stage.name])

    def get(self, key: str) -> Any:
        state = self._states.get(key)
        if state is not None:
            return state
        if self._fetch is None:
            return self._empty
        stored = self._fetch(self._name, key.encode())
        state = self._states[key] = self.decode(stored) if stored is not None else self._empty
        self._used[key] = None
        return state

    def decode(self, stored: bytes) -> Any:
        return self._decoder.decode(stored)

    def peek(self, key: str) -> Any:
        """The state of a key, for another thread than the one that feeds: nothing is kept of the look."""
        state = self._states.get(key)
        if state is not None:
            return state
        stored = self._fetch(self._name, key.encode()) if self._fetch else None
        return self.decode(stored) if stored is not None else self._empty

    def put(self, key: str, state: Any) -> None:
        self._states[key] = state
        self._dirty[key] = None
        if self._fetch is not None:
            self._used.pop(key, None)
            self._used[key] = None

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every state in memory; all of them when there is no store behind."""
        return iter(self._states.items())

    def take_dirty(self) -> dict[bytes, bytes | None]:
        """The encoded states that changed since the last call. Empty states are deletions."""
        changed = {
            key.encode(): None if (state := self._states[key]) == self._empty else msgspec.msgpack.encode(state)
            for key in self._dirty
        }
        self._dirty.clear()
        return changed

    def shrink(self, most: int) -> None:
        """Forget the states that were written or fetched longest ago; only with a store behind, and nothing dirty."""
        if self._fetch is None or len(self._states) <= most or self._dirty:
            return
        for key in list(islice(self._used, len(self._states) - most)):
            del self._states[key], self._used[key]


class Runner:
    """Feeds messages to the stages and passes on what they publish and emit.

    Args:
        stages: what `topology.build` gives.
        publish: called with (serving topic, key, value) whenever a published state changed;
            the value None is a removal.
        emit: called with (topic, key, value) for records that no stage reads.
        fetch: the stored state of (stage name, key), or None for a run in memory alone.
    """

    def __init__(self, stages: Sequence[Stage], publish: Sink, emit: Sink, fetch: Fetch | None = None) -> None:
        self.tables = {stage.name: Table(stage, fetch) for stage in stages}
        self._publish, self._emit = publish, emit
        self._readers: dict[str, list[tuple[Step, Table, Stage]]] = defaultdict(list)
        for stage in stages:
            for topic in stage.reads:
                self._readers[topic].append((stage.step, self.tables[stage.name], stage))

    def feed(self, topic: str, key: str, message: Any) -> None:
        """Apply one message and everything that follows from it."""
        waiting = deque([Output(topic, key, message)])
        while waiting:
            said = waiting.popleft()
            topic, key, message = said.topic, said.key, said.value
            readers = self._readers.get(topic)
            if readers is None:
                self._emit(topic, key, message)
                continue
            for step, table, stage in readers:
                if not stage.hears(message):
                    continue
                before = table.get(key)
                after, outputs = step(before, message)
                if after is not before:
                    table.put(key, after)
                    if stage.publishes:
                        self._publish(stage.publishes, key, stage.serve(after))
                if outputs:
                    waiting.extend(outputs)

    def accept(self, message: Event | ItemChange | Served) -> None:
        """Feed a message of the source topics by its own key."""
        if isinstance(message, Event):
            self.feed(message.topic, message.shopper, message)
        elif isinstance(message, ItemChange):
            self.feed("items", message.item_id, message)
        else:
            self.feed("decisions", message.shopper, message)
