"""Recent sessions and baskets of everybody, and which of them are like this one.

Nearest sessions by weighted overlap (Ludewig and Jannach, "Evaluation of Session-based
Recommendation Algorithms", 2018), over an inverted index of the most recent sessions of each
item (Kersbergen et al., "Serenade", SIGMOD 2022).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.ids import signed64
from core.settings import SessionSettings
from ranker.arrays import grown, sum_by_key


class SessionIndex:
    """A ring of the newest sessions: `items[slot]` are item rows, -1 padded, `acts` their acts.

    `recent[item]` are slots of the newest sessions that hold the item, and of no others.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        slots, width = settings.kept, settings.width
        self.items = np.full((slots, width), -1, np.int32)
        self.acts = np.zeros((slots, width), np.int8)
        self.size = np.zeros(slots, np.int32)
        self._log_size = np.zeros(slots, np.float32)
        self.ts = np.zeros(slots, np.int64)
        self.shopper = np.zeros(slots, np.int64)
        self.recent = np.full((0, settings.per_item), -1, np.int32)  # slots by item row, a ring each
        self._next = np.zeros(0, np.int64)
        self._slot_of: dict[tuple[str, str], int] = {}
        self._owner: list[tuple[str, str] | None] = [None] * slots
        self._mark: list[tuple[int, int, int]] = [(0, 0, 0)] * slots  # what tells two states of a session apart
        self._head = 0
        self.scratch = np.zeros(slots, np.int64)

    def grow(self, capacity: int) -> None:
        self.recent, self._next = grown(self.recent, capacity, -1), grown(self._next, capacity)

    def __len__(self) -> int:
        return len(self._slot_of)

    def holds(self, shopper: str, session: str, ts: int, acts: Collection[int]) -> bool:
        """Whether a session is there as it stands now, with its last time and all its acts."""
        slot = self._slot_of.get((shopper, session))
        return slot is not None and self._mark[slot] == (ts, len(acts), sum(acts))

    def put(self, shopper: str, session: str, ts: int, pairs: Sequence[tuple[int, int]]) -> None:
        """Enter a session or what was added to it, unless a newer one would go. `pairs` are (item row, act)."""
        slot = self._slot_of.get((shopper, session))
        if slot is None and self._owner[self._head] is not None and ts < self.ts[self._head]:
            return
        if slot is None:
            slot = self._take_slot(shopper, session)
        self._mark[slot] = ts, len(pairs), sum([act for _, act in pairs])
        pairs = pairs[-self.settings.width :]
        count = len(pairs)
        rows, before = np.array([row for row, _ in pairs], np.int32), self.items[slot, : self.size[slot]]
        fresh = np.setdiff1d(rows, before) if len(before) else rows
        self._unlink(slot, np.setdiff1d(before, rows))
        self.items[slot, :count], self.items[slot, count:] = rows, -1
        self.acts[slot, :count] = [act for _, act in pairs]
        self.size[slot], self.ts[slot], self._log_size[slot] = count, ts, np.log1p(count)
        self.recent[fresh, self._next[fresh] % self.settings.per_item] = slot
        self._next[fresh] += 1

    def forget(self, shopper: str) -> None:
        """Drop the sessions of a shopper who has none any more."""
        for slot in np.flatnonzero(self.shopper == signed64(shopper)).tolist():
            self._clear(slot)

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Mean log1p of how many items the newest sessions with each item have; NaN where there are none."""
        slots = self.recent[rows]
        held = slots >= 0
        sums, count = (self._log_size[slots] * held).sum(1), held.sum(1)
        return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

    def _take_slot(self, shopper: str, session: str) -> int:
        slot, self._head = self._head, (self._head + 1) % self.settings.kept
        self._clear(slot)
        self._owner[slot] = (shopper, session)
        self._slot_of[shopper, session] = slot
        self.shopper[slot] = signed64(shopper)
        return slot

    def _clear(self, slot: int) -> None:
        owner = self._owner[slot]
        if owner is None:
            return
        del self._slot_of[owner]
        self._unlink(slot, self.items[slot, : self.size[slot]])
        self._owner[slot], self.size[slot], self.shopper[slot] = None, 0, 0

    def _unlink(self, slot: int, rows: NDArray[np.int32]) -> None:
        """Let items forget a session that no longer holds them."""
        if len(rows):
            slots = self.recent[rows]
            slots[slots == slot] = -1
            self.recent[rows] = slots

    def like(
        self, rows: NDArray[np.int64], weights: NDArray[np.floating[Any]], shopper: str, now_ms: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.float32]]:
        """The nearest sessions of other shoppers: their items `(sessions, width)`, acts, and similarity."""
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
