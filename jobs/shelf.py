"""The items of a shop in memory that wait for their vectors."""

from __future__ import annotations

from collections.abc import Sequence

from core.catalogue import Item
from jobs.embedding import Embedder
from ranker.space import Space


class Shelf:
    """Each embedder with the space that it fills."""

    def __init__(self, spaces: Sequence[tuple[Embedder, Space]]) -> None:
        self._spaces = spaces
        self._waiting: dict[str, Item] = {}

    def put(self, item_id: str, item: Item | None) -> None:
        """Note that an item is new or has changed, or with None that it is no longer sold."""
        if not self._spaces:
            return
        if item is not None:
            self._waiting[item_id] = item
            return
        for _, space in self._spaces:
            space.remove([item_id])

    def embed(self) -> None:
        """Give the items that came or changed since the last time their vectors."""
        if not self._waiting:
            return
        items, self._waiting = list(self._waiting.values()), {}
        names = [item.item_id for item in items]
        for embedder, space in self._spaces:
            space.offer(embedder.space_id, names, embedder.vectors(items))
