"""Records on their way from the consumer to the steps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any


class Line:
    """First in, first out; full, it makes those wait who bring more.

    Args:
        most: records.
        most_bytes: of their values; one record more than that may stand here.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._read: deque[Any] = deque()
        self._bytes = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._read)

    async def put(self, read: Sequence[Any]) -> None:
        """All of them, as soon as there is room for one."""
        await self._room.wait()
        self._read.extend(read)
        self._bytes += sum(map(_size, read))
        self._news.set()
        self._make_room()

    async def take(self, most: int) -> list[Any]:
        """Up to so many; none after a second of waiting."""
        if not self._read:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 1.0)
            except TimeoutError:
                return []
        read = [self._read.popleft() for _ in range(min(most, len(self._read)))]
        self._bytes -= sum(map(_size, read))
        self._make_room()
        return read

    def put_back(self, read: Sequence[Any]) -> None:
        """To the head of the line."""
        self._read.extendleft(reversed(read))
        self._bytes += sum(map(_size, read))
        self._make_room()

    def clear(self) -> None:
        """Everybody goes home."""
        self._read.clear()
        self._bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        if len(self._read) < self._most and self._bytes < self._most_bytes:
            self._room.set()
        else:
            self._room.clear()


def _size(one: Any) -> int:
    return len(one.record.value or b"")
