"""What stands in the records that workers write to Kafka: serving values, vectors, and packets between steps."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from streams.topology import SERVING

VECTORS: Final = "item-vectors"  # a serving topic that no step writes: the worker's encoder does

Position = tuple[int, int, int]
"""Where something stands in a partition: offset, index within a packed record, and how many-eth output to one key."""


class ItemVector(msgspec.Struct, frozen=True, array_like=True):
    """Value of `item-vectors`: a unit vector of one item's text in one space.

    `vector` is float32, little-endian; `text_ts` is that of the catalogue entry it was made from.
    """

    v: int
    space_id: str
    text_ts: int
    vector: bytes


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message of a packet, with the position of the one that caused it."""

    position: Position
    key: str
    value: msgspec.Raw


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """A record of item-signals or identity: messages of one partition, caused by records of one other.

    A repeated one stands under a new offset; `topic`, `partition` and each message's position
    tell that it was there before.
    """

    v: int
    topic: str
    partition: int
    told: tuple[Told, ...]


def serve(version: int, value: Any) -> bytes:
    """The record of a serving topic. Of two records of one key the one with the higher version is the newer."""
    return msgspec.msgpack.encode((version, value))


def decoders() -> dict[str, msgspec.msgpack.Decoder[tuple[int, Any]]]:
    """What reads the records of each serving topic: version and value."""
    kinds = {**SERVING, VECTORS: ItemVector}
    return {topic: msgspec.msgpack.Decoder(tuple[int, kind]) for topic, kind in kinds.items()}  # type: ignore[valid-type]
