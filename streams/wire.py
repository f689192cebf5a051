"""What stands in the records that workers write to Kafka: serving values, vectors, and packets between steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from streams.topology import DERIVED, SERVING

TOLD_AT_ONCE: Final = 500  # messages of one packet
PACKET_BYTES: Final = 500_000
VECTORS: Final = "item-vectors"  # a serving topic that no step writes: the worker's encoder does

M = TypeVar("M")

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


class Told(msgspec.Struct, Generic[M], frozen=True, array_like=True, gc=False):
    """One message of a packet, with the position of the one that caused it."""

    position: Position
    key: str
    value: M


class Packet(msgspec.Struct, Generic[M], frozen=True, array_like=True):
    """A record of item-signals or identity: messages of one partition, caused by records of one other.

    A repeated one stands under a new offset; `topic`, `partition` and each message's position
    tell that it was there before.
    """

    v: int
    topic: str
    partition: int
    told: tuple[Told[M], ...]


PACKETS: Final = {
    topic: msgspec.msgpack.Decoder(Packet[DERIVED[topic]])  # type: ignore[valid-type]
    for topic in ("item-signals", "identity")
}
"""The topics that hold packets, and what reads one of theirs."""


def packets(topic: str, partition: int, told: Sequence[Told[Any]]) -> Iterator[bytes]:
    """Records that tell messages caused by those of one partition, in their order, none of them too long."""
    for start in range(0, len(told), TOLD_AT_ONCE):
        yield from _portions(topic, partition, tuple(told[start : start + TOLD_AT_ONCE]))


def _portions(topic: str, partition: int, told: tuple[Told[Any], ...]) -> Iterator[bytes]:
    """One record, or two halves of it where it would become too long."""
    record = msgspec.msgpack.encode(Packet(1, topic, partition, told))
    if len(record) <= PACKET_BYTES or len(told) == 1:
        yield record
        return
    half = len(told) // 2
    yield from _portions(topic, partition, told[:half])
    yield from _portions(topic, partition, told[half:])


def serve(version: int, value: Any) -> bytes:
    """The record of a serving topic. Of two records of one key the one with the higher version is the newer."""
    return msgspec.msgpack.encode((version, value))


def decoders() -> dict[str, msgspec.msgpack.Decoder[tuple[int, Any]]]:
    """What reads the records of each serving topic: version and value."""
    kinds = {**SERVING, VECTORS: ItemVector}
    return {topic: msgspec.msgpack.Decoder(tuple[int, kind]) for topic, kind in kinds.items()}  # type: ignore[valid-type]
