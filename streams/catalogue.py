"""The catalogue step: what the shop sells now.

Reads items, keyed by item; its value goes to the topic `catalogue`, where a null is a removal.
An item whose `text_ts` moved needs a new vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.catalogue import Item, ItemChange, apply_change
from streams.profile import Output


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """State of the catalogue step: the item, or nothing when it is not (or no longer) sold."""

    v: int = 1
    item: Item | None = None


def upsert(state: Entry, message: ItemChange) -> tuple[Entry, Sequence[Output]]:
    """The entry after an upsert or a removal."""
    after = apply_change(state.item, message)
    return (state if after is state.item else Entry(1, after)), ()
