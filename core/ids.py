"""Names for the strings that travel through the product, and hashes that never change.

Hashes are BLAKE2b (standard library): the same on every machine and in every process,
unlike `hash()`, so a coin thrown today falls the same way in a replay next year.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NewType

ShopperId = NewType("ShopperId", str)  # a user id, or the visitor id of somebody not logged in

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def hash64(text: str | bytes) -> int:
    """A stable unsigned 64-bit hash.

    >>> hash64("tea") == hash64(b"tea")
    True
    """
    data = text.encode() if isinstance(text, str) else text
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def signed64(text: str | bytes) -> int:
    """`hash64` in the range of a signed integer, as SQLite and msgpack store it."""
    value = hash64(text)
    return value - (1 << 64) if value >= 1 << 63 else value


def coin(text: str | bytes) -> float:
    """A number in [0, 1) that depends on `text` alone: the only randomness a step may use."""
    return hash64(text) / 2**64


def digest(*parts: str | bytes) -> str:
    """Twenty hexadecimal digits for a sequence of parts; moving a boundary changes it."""
    state = blake2b(digest_size=10)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()
