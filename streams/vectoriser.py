"""Gives new and changed item texts their vectors, in small batches beside the worker's own work.

Not a step: an encoder is no pure function of a record. What has a vector is remembered in a
table, so that a worker that takes over a partition encodes only what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from streams.batch import Record, Write
from streams.kept import stored
from streams.topics import VECTOR_TABLE
from streams.wire import VECTORS, ItemVector, serve

log = logging.getLogger("headwater")

AT_ONCE: Final = 128  # texts: about a second of one core, and an item waits no longer than that
REST_S: Final = 1.0  # after a failure


class Embed(Protocol):
    """What turns items into unit vectors of one space."""

    @property
    def space_id(self) -> str: ...

    def vectors(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """`(items, dim)`; called from a thread."""
        ...


class Had(NamedTuple):
    """Which text of an item has a vector, and in which space."""

    text_ts: int
    space_id: str


_had: Final = msgspec.msgpack.Decoder(tuple[int, dict[int, int], str])


def had(raw: bytes) -> Had:
    """What the table `vectors` says of an item."""
    text_ts, _, space_id = _had.decode(raw)
    return Had(text_ts, space_id)


class Vectoriser:
    """Notes items whose text has no vector yet and works them off.

    Args:
        embed: the encoder.
        known: what the table says of an item, by partition and key.
        publish: sends vectors and table values and stores the latter; False when it gave up
            because partitions changed hands.
    """

    def __init__(
        self,
        embed: Embed,
        known: Callable[[int, bytes], bytes | None],
        publish: Callable[[Sequence[Write]], Awaitable[bool]],
    ) -> None:
        self._embed, self._known, self._publish = embed, known, publish
        self._waiting: dict[tuple[int, str], Item | None] = {}
        self._news = asyncio.Event()
        self.encoded = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def note(self, partition: int, key: str, item: Item | None) -> None:
        """An item as it stands now; None for one that is sold no more."""
        raw = self._known(partition, key.encode())
        if item is None:
            if raw is not None:
                self._waiting[partition, key] = None
        elif raw is None or had(raw) != (item.text_ts, self._embed.space_id):
            self._waiting[partition, key] = item
        if self._waiting:
            self._news.set()

    def turn_to(self, embed: Embed) -> None:
        """Encode in another space from now on; what is missing there has to be noted anew."""
        self._embed = embed
        self.forget()

    def forget(self) -> None:
        """Partitions change hands: what is missing will be noted anew."""
        self._waiting.clear()

    async def work(self, stopping: Callable[[], bool]) -> None:
        """Encode what is noted until `stopping`."""
        while not stopping():
            try:
                await asyncio.wait_for(self._news.wait(), 1.0)
            except TimeoutError:
                continue
            await self._some()
            if not self._waiting:
                self._news.clear()

    async def _some(self) -> None:
        embed, some = self._embed, dict(list(self._waiting.items())[:AT_ONCE])
        items = [item for item in some.values() if item is not None]
        try:
            vectors = await asyncio.to_thread(embed.vectors, items) if items else np.zeros((0, 0), np.float32)
        except Exception:
            log.exception("items=%d not encoded, trying again", len(items))
            await asyncio.sleep(REST_S)
            return
        rows = iter(np.ascontiguousarray(vectors, "<f4"))
        writes = [
            _write(*place, item, None if item is None else (embed.space_id, next(rows))) for place, item in some.items()
        ]
        if await self._publish(writes):
            self.encoded += len(items)
            if embed is not self._embed:
                return  # what waits by now, waits for another space
            for place, item in some.items():
                if place in self._waiting and self._waiting[place] is item:
                    del self._waiting[place]


def _write(partition: int, key: str, item: Item | None, made: tuple[str, NDArray[np.float32]] | None) -> Write:
    """What is stored and published of an item's vector, with the space that it is of."""
    space, text_ts, value = "", 0, None
    if item is not None and made is not None:
        space, text_ts = made[0], item.text_ts
        value = serve(text_ts, ItemVector(1, space, text_ts, made[1].tobytes()))
    raw = stored(text_ts, {}, msgspec.Raw(msgspec.msgpack.encode(space)))
    return Write(VECTOR_TABLE, partition, key, None, raw, Record(VECTORS, partition, key.encode(), value))
