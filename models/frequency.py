"""How often an item is drawn, estimated from the draws themselves (Yi et al. 2019)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Frequency:
    """The chance of each item to be in a step's batch, from the steps between two of its visits.

    It needs no counts beforehand and no end: items may come at any time, and what is drawn more
    often than it used to be is noticed after some visits.

    Args:
        count: items so far; more come with `observe`.
        rate: how much one gap counts against those before.
    """

    def __init__(self, count: int = 0, rate: float = 0.1) -> None:
        self._rate = rate
        self.gap = np.zeros(count, np.float32)  # mean steps between two visits; 0 before the second one
        self.last = np.full(count, -1, np.int64)  # step of the newest visit

    def observe(self, step: int, items: NDArray[np.int64]) -> None:
        """Items, each once, that are in the batch of a step; steps count upwards from 0."""
        self._grow(int(items.max(initial=-1)) + 1)
        last = self.last[items]
        gap, taken = self.gap[items], (step - last).astype(np.float32)
        moved = (1 - self._rate) * gap + self._rate * taken
        self.gap[items] = np.where(last < 0, 0.0, np.where(gap > 0, moved, taken))
        self.last[items] = step

    def chance(self, items: NDArray[np.int64], step: int) -> NDArray[np.float32]:
        """Of each item to be in a batch; who was seen once at most is taken for one visit in all steps so far."""
        known = items < len(self.gap)
        gaps = np.zeros(len(items), np.float32)
        gaps[known] = self.gap[items[known]]
        return np.asarray(1.0 / np.maximum(np.where(gaps > 0, gaps, step + 1), 1.0), np.float32)

    def _grow(self, count: int) -> None:
        more = count - len(self.gap)
        if more > 0:
            self.gap = np.concatenate([self.gap, np.zeros(more, np.float32)])
            self.last = np.concatenate([self.last, np.full(more, -1, np.int64)])
