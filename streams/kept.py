"""What a table of the worker holds of a key: a state with the positions it has taken in.

A position at or below the last one of its origin was taken in before: replays of a log are normal
(a worker that died, a partition that changed hands) and must not count twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from streams.topology import STATE_TYPES
from streams.wire import Position

ORIGINS: Final = ("clickstream", "feedback", "items", "decisions", "identity", "item-signals")
_MOST_PARTITIONS: Final = 1 << 16


def origin_of(topic: str, partition: int) -> int:
    """The number that stands for a partition of a topic in stored guards.

    >>> origin_of("feedback", 3)
    65539
    """
    return ORIGINS.index(topic) * _MOST_PARTITIONS + partition


Place = tuple[str, int, str]
"""Where a value is at home: stage, partition, key."""


class Kept(msgspec.Struct, array_like=True):
    """A state, its version, and the last position of each origin that has gone into it.

    `version` tells of two values of one key which is the newer one: it counts messages, from a higher number on
    in each generation of the group.
    """

    version: int
    guard: dict[int, Position]
    state: Any


_version: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, msgspec.Raw])


def version_of(stored: bytes) -> int:
    """Of two stored values of one key the one with the higher version is the newer."""
    return _version.decode(stored)[0]


def stored(version: int, guard: Mapping[int, Position], state: msgspec.Raw) -> bytes:
    """The bytes of a value; the state is encoded already, since it is published as well."""
    return msgspec.msgpack.encode((version, guard, state))


class Shelf(Protocol):
    """Where the stored values of a stage lie."""

    def get(self, stage: str, partition: int, key: bytes) -> bytes | None:
        """The stored value of a key; None where there is none."""
        ...


class Cache:
    """Decoded values over a shelf, those used last; what is handed out belongs to the caller to change only by copy."""

    def __init__(self, shelf: Shelf, most: int) -> None:
        self._shelf, self._most = shelf, most
        self._kept: OrderedDict[Place, Kept] = OrderedDict()
        self._decoders = {
            name: msgspec.msgpack.Decoder(tuple[int, dict[int, Position], kind])  # type: ignore[valid-type]
            for name, kind in STATE_TYPES.items()
        }

    def get(self, place: Place, empty: Any) -> Kept:
        """The value of a place, one of an empty state where there is none."""
        kept = self._kept.get(place)
        if kept is not None:
            self._kept.move_to_end(place)
            return kept
        stage, partition, key = place
        raw = self._shelf.get(stage, partition, key.encode())
        if raw is None:
            return Kept(0, {}, empty)
        kept = self._kept[place] = Kept(*self._decoders[stage].decode(raw))
        return kept

    def put(self, place: Place, kept: Kept) -> None:
        """Remember a value that the shelf has been given."""
        self._kept[place] = kept
        self._kept.move_to_end(place)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, as when partitions have changed hands."""
        self._kept.clear()
