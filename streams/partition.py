"""Which partition a key goes to: the same answer as Kafka's default partitioner.

Both logs agree, so that a log moved from one machine to Kafka keeps every key where it was.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """MurmurHash2 (Austin Appleby, 2008) as Kafka's clients compute it: a signed 32-bit number.

    >>> murmur2(b"abc")
    479470107
    """
    h = SEED ^ len(data)
    whole = len(data) & ~3
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        k = k * _MULTIPLIER & _MASK
        h = (h * _MULTIPLIER & _MASK) ^ ((k ^ k >> 24) * _MULTIPLIER & _MASK)
    if whole != len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    h = (h ^ h >> 13) * _MULTIPLIER & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` on a topic of that many partitions, counted from 0.

    >>> partition_of(b"abc", 4)
    3
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions
