"""What follows from what in the long run: EASE on faded histories, refitted by a job.

B = I - P / diag(P), P the inverse of the regularised Gram matrix of shoppers' histories
(Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019). Only the commonest items
are modelled, and of each item only its strongest ties are kept: a request adds up a few rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from core.profile import Memory, Profile
from core.settings import EaseSettings
from ranker import sequels
from ranker.arrays import Floats, Rows

FILE: Final = "ease.npz"
AFTER: Final = "after.npz"
_ONE_BUY: Final = np.log1p(6.0)  # the strength of a single purchase counts 1
_LONG: Final = 300  # items of a history, from which on a product of matrices is quicker than adding pair by pair
_BLOCK: Final = 512  # histories of one product
_DIRECT: Final = 256  # half a matrix that is not worth dividing


@dataclass(frozen=True, slots=True)
class Ease:
    """`ties[item, k]` is the place in `items` of its k-th strongest tie, -1 for none, `weights` how much it adds."""

    items: tuple[str, ...]
    ties: NDArray[np.int32]
    weights: Floats
    max_event_ms: int  # newest event of a shopper whose history was learnt from
    after: Ease | None = None  # sequels of every item, in the same form

    def save(self, folder: Path, name: str = FILE) -> None:
        if self.after is not None:
            self.after.save(folder, AFTER)
        np.savez(
            folder / name,
            items=np.array([item.encode() for item in self.items], object).astype(np.bytes_),
            ties=self.ties,
            weights=self.weights,
            max_event_ms=self.max_event_ms,
        )

    @classmethod
    def load(cls, folder: Path, name: str = FILE) -> Self | None:
        """What `save` wrote; None where nothing was."""
        if not (folder / name).exists():
            return None
        after = cls.load(folder, AFTER) if name == FILE else None
        with np.load(folder / name, allow_pickle=False) as found:
            items = tuple([item.decode() for item in found["items"].tolist()])
            return cls(items, found["ties"], found["weights"], int(found["max_event_ms"]), after)


class Ties:
    """An `Ease` by item row, for requests."""

    def __init__(self, ease: Ease, rows: Sequence[int]) -> None:
        """`rows` are those of `ease.items`, -1 where an item has none yet."""
        self.ease = ease
        self._row = np.asarray(rows, np.int64)
        known = np.flatnonzero(self._row >= 0)
        self.unheard = len(known) < len(rows)
        self._place = np.full(int(self._row.max(initial=-1)) + 2, -1, np.int64)
        self._place[self._row[known]] = known

    def knows(self, rows: Rows) -> NDArray[np.bool_]:
        """Which items are modelled."""
        return np.asarray(self._place[np.minimum(rows, len(self._place) - 1)] >= 0) & (rows < len(self._place))

    def follow(self, rows: Rows, weights: Floats) -> tuple[Rows, Floats]:
        """What the items of a history add to others: item rows, repeated, and amounts to be summed by row."""
        inside = rows < len(self._place)
        place = self._place[rows[inside]]
        mine, amount = place[place >= 0], weights[inside][place >= 0]
        ties = self.ease.ties[mine]
        real = ties >= 0
        found, amounts = self._row[ties[real]], (self.ease.weights[mine] * amount[:, None])[real]
        return found[found >= 0], amounts[found >= 0]


def strength(memory: NDArray[np.float64], last_ms: NDArray[np.float64], now_ms: int, half_life_ms: float) -> Floats:
    """How much an item counts in a history, `(items,)`.

    Args:
        memory: views, clicks, carts, buys by item.
        last_ms: when it was last used.
        now_ms: the moment of the request or of the fit.
        half_life_ms: after this long it counts half.
    """
    used = np.log1p(memory @ np.array([1.0, 2.0, 4.0, 6.0])) / _ONE_BUY
    faded = np.exp2(-np.maximum(now_ms - last_ms, 0) / half_life_ms)
    return np.asarray(used * faded, np.float32)


def fit(profiles: Iterable[Profile], now_ms: int, settings: EaseSettings) -> Ease | None:
    """Learn from the histories of all shoppers as they are now; None where nobody has two items."""
    histories = [p for p in profiles if len(p.memory) > 1]
    items = _commonest((p.memory for p in histories), settings.items)
    if len(items) < 2:
        return None
    place = {item: n for n, item in enumerate(items)}
    gram = _gram((_history(p.memory, place, now_ms, settings.half_life_s * 1000.0) for p in histories), len(items))
    ties, weights = _strongest(_solve(gram, settings.ridge), settings.ties)
    newest = max(p.last for p in histories)
    return Ease(items, ties, weights, newest, Ease(*sequels.fit(histories, settings.ties), newest))


def _commonest(memories: Iterable[Mapping[str, Memory]], most: int) -> tuple[str, ...]:
    shoppers = Counter[str]()
    for memory in memories:
        shoppers.update([item for item, one in memory.items() if one.views or one.clicks or one.carts or one.buys])
    ranked = sorted(((item, count) for item, count in shoppers.items() if count > 1), key=lambda one: (-one[1], one[0]))
    return tuple([item for item, _ in ranked[:most]])


def _history(
    memory: Mapping[str, Memory], place: Mapping[str, int], now_ms: int, half_life_ms: float
) -> tuple[Rows, Floats]:
    known = [(place[item], one) for item, one in memory.items() if item in place]
    table = np.array([(m.views, m.clicks, m.carts, m.buys, m.last) for _, m in known], np.float64).reshape(-1, 5)
    weights = strength(table[:, :4], table[:, 4], now_ms, half_life_ms)
    return np.fromiter((row for row, _ in known), np.int64, len(known)), weights


def _gram(histories: Iterable[tuple[Rows, Floats]], items: int) -> Floats:
    """How often items lie in one history, weighed, `(items, items)`."""
    gram = np.zeros((items, items), np.float32)
    long: list[tuple[Rows, Floats]] = []
    for rows, weights in histories:
        if len(rows) < _LONG:
            gram[rows[:, None], rows] += weights[:, None] * weights
            continue
        long.append((rows, weights))
        if len(long) == _BLOCK:
            gram += _product(long, items)
            long.clear()
    return gram + _product(long, items) if long else gram


def _product(histories: Sequence[tuple[Rows, Floats]], items: int) -> Floats:
    """The same of a few, as one product of matrices."""
    matrix = np.zeros((len(histories), items), np.float32)
    for n, (rows, weights) in enumerate(histories):
        matrix[n, rows] = weights
    return np.asarray(matrix.T @ matrix, np.float32)


def _solve(gram: Floats, ridge: float) -> Floats:
    """The weight that an item gives each other one, `(from, to)`; overwrites `gram`."""
    gram[np.diag_indices_from(gram)] += ridge
    weights = _inverse(gram)
    weights /= -np.diag(weights)
    weights[np.diag_indices_from(weights)] = 0.0
    return weights


def _inverse(matrix: Floats) -> Floats:
    """The inverse of a symmetric positive definite matrix, by halves and the Schur complement of the first.

    Next to nothing but products of matrices: a third of the time of a general inverse, which solves for each column.
    """
    half = len(matrix) // 2
    if half < _DIRECT:
        return np.asarray(np.linalg.inv(matrix), np.float32)
    across = matrix[:half, half:]
    inverse = np.empty_like(matrix)
    first = inverse[:half, :half] = _inverse(matrix[:half, :half])
    towards = first @ across
    last = inverse[half:, half:] = _inverse(matrix[half:, half:] - across.T @ towards)
    inverse[:half, half:] = -towards @ last
    inverse[half:, :half] = inverse[:half, half:].T
    inverse[:half, :half] -= inverse[:half, half:] @ towards.T
    return inverse


def _strongest(weights: Floats, most: int) -> tuple[NDArray[np.int32], Floats]:
    """The largest weights of each row by amount, and where they stand; -1 where a row has fewer."""
    most = min(most, weights.shape[1] - 1)
    ties = np.argpartition(-np.abs(weights), most - 1, axis=1)[:, :most]
    kept = np.take_along_axis(weights, ties, 1)
    return np.where(kept != 0.0, ties, -1).astype(np.int32), kept
