"""Recent sessions and baskets of everybody, and which of them are like this one.

Nearest sessions by weighted overlap (Ludewig and Jannach, "Evaluation of Session-based
Recommendation Algorithms", 2018), over an inverted index of the most recent sessions of each
item (Kersbergen et al., "Serenade", SIGMOD 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.ids import signed64
from core.settings import SessionSettings
from ranker.arrays import grown, sum_by_key


class SessionIndex:
    """A ring of the newest sessions: `items[slot]` are item rows, -1 padded, `acts` their acts."""

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        slots, width = settings.kept, settings.width
        self.items = np.full((slots, width), -1, np.int32)
        self.acts = np.zeros((slots, width), np.int8)
        self.size = np.zeros(slots, np.int32)
        self.ts = np.zeros(slots, np.int64)
        self.shopper = np.zeros(slots, np.int64)
        self.recent = np.full((0, settings.per_item), -1, np.int32)  # slots by item row, a ring each
        self._next = np.zeros(0, np.int64)
        self._slot_of: dict[tuple[str, str], int] = {}
        self._owner: list[tuple[str, str] | None] = [None] * slots
        self._head = 0
        self.scratch = np.zeros(slots, np.int64)

    def grow(self, capacity: int) -> None:
        self.recent, self._next = grown(self.recent, capacity, -1), grown(self._next, capacity)

    def put(self, shopper: str, session: str, ts: int, pairs: Sequence[tuple[int, int]]) -> None:
        """Enter a session or what was added to it. `pairs` are (item row, act)."""
        slot = self._slot_of.get((shopper, session))
        if slot is not None and self.ts[slot] == ts and self.size[slot] == min(len(pairs), self.settings.width):
            return
        if slot is None:
            slot = self._take_slot(shopper, session)
        pairs = pairs[-self.settings.width :]
        count = len(pairs)
        rows = np.array([row for row, _ in pairs], np.int32)
        fresh = rows if not self.size[slot] else np.setdiff1d(rows, self.items[slot, : self.size[slot]])
        self.items[slot, :count], self.items[slot, count:] = rows, -1
        self.acts[slot, :count] = [act for _, act in pairs]
        self.size[slot], self.ts[slot] = count, ts
        self.recent[fresh, self._next[fresh] % self.settings.per_item] = slot
        self._next[fresh] += 1

    def _take_slot(self, shopper: str, session: str) -> int:
        slot, self._head = self._head, (self._head + 1) % self.settings.kept
        old = self._owner[slot]
        if old is not None:
            del self._slot_of[old]
        self._owner[slot] = (shopper, session)
        self._slot_of[shopper, session] = slot
        self.size[slot] = 0
        self.shopper[slot] = signed64(shopper)
        return slot

    def like(
        self, rows: NDArray[np.int64], weights: NDArray[np.floating[Any]], shopper: str, now_ms: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.float32]]:
        """The nearest sessions of other shoppers: their items `(sessions, width)`, acts, and similarity.

        A ring entry may point at a slot that has since been taken over; its session then matches
        by fewer items or none, which only costs the look.
        """
        slots = self.recent[rows]
        place = slots >= 0
        spread = np.broadcast_to(np.asarray(weights, np.float64)[:, None], slots.shape)[place]
        found, overlap = sum_by_key(slots[place], spread, self.scratch)
        other = self.shopper[found] != signed64(shopper)
        found, overlap = found[other], overlap[other]
        age = np.maximum(now_ms - self.ts[found], 0) / (self.settings.half_life_s * 1000.0)
        near = overlap / np.sqrt(self.size[found] + 1.0) * np.exp2(-age)
        if len(found) > self.settings.nearest:
            top = np.argpartition(-near, self.settings.nearest - 1)[: self.settings.nearest]
            found, near = found[top], near[top]
        return self.items[found], self.acts[found], near.astype(np.float32)
