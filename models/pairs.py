"""What goes with what: weighted pairs of items, by row, as training reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Targets of each item: those of item i are `targets[starts[i]:starts[i + 1]]`, with their weights.

    `against` holds, in the same way, what shoppers who liked an item did not want.
    """

    starts: Rows
    targets: Rows
    weights: NDArray[np.float32]
    against_starts: Rows
    against: Rows

    @classmethod
    def of(
        cls, items: int, one: Rows, other: Rows, weights: NDArray[np.float32], against: tuple[Rows, Rows] | None = None
    ) -> Pairs:
        """Pairs in both directions, equal ones added up; an item is no pair with itself.

        Args:
            items: how many there are; rows are below it.
            one: first items.
            other: second items.
            weights: of the pairs, above 0.
            against: items, and what those who liked them did not want.
        """
        keep = one != other
        one, other, weights = one[keep], other[keep], weights[keep]
        key = np.concatenate([one * items + other, other * items + one])
        unique, place = np.unique(key, return_inverse=True)
        summed = np.bincount(place, np.concatenate([weights, weights]), len(unique)).astype(np.float32)
        first, second = against if against is not None else (np.zeros(0, np.int64),) * 2
        unwanted = np.setdiff1d(first * items + second, unique)  # what goes together for others is not unwanted
        return cls(
            _starts(unique // items, items), unique % items, summed, _starts(unwanted // items, items), unwanted % items
        )

    def __len__(self) -> int:
        """Pairs, each in both directions."""
        return len(self.targets)

    @property
    def items(self) -> int:
        return len(self.starts) - 1

    def anchors(self) -> Rows:
        """The item that each target belongs to."""
        return np.repeat(np.arange(self.items), np.diff(self.starts))

    def strength(self) -> NDArray[np.float64]:
        """The sum of weights of each item."""
        return np.asarray(np.bincount(self.anchors(), self.weights, self.items), np.float64)

    def of_rows(self, rows: Rows) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """Targets of some items: place in `rows`, target, weight."""
        place, at = _slices(self.starts, rows)
        return place, self.targets[at], self.weights[at]

    def unwanted(self, rows: Rows) -> tuple[Rows, Rows]:
        """What goes with some items least of all: place in `rows`, item."""
        place, at = _slices(self.against_starts, rows)
        return place, self.against[at]


def _starts(sorted_rows: Rows, items: int) -> Rows:
    return np.searchsorted(sorted_rows, np.arange(items + 1)).astype(np.int64)


def _slices(starts: Rows, rows: Rows) -> tuple[Rows, Rows]:
    counts = starts[rows + 1] - starts[rows]
    place = np.repeat(np.arange(len(rows)), counts)
    first = np.repeat(starts[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return place, first + np.arange(len(place))
