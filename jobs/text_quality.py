"""How well vectors alone find what shoppers wanted next: no ids, no counts, no ranker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import Missing
from jobs.pairs import Histories, Touch
from models.pairs import Rows
from models.vectors import Vectors

AT_ONCE: Final = 256  # questions answered together: bounds the memory
MOST: Final = 3_000  # questions asked at most
FEWEST: Final = 50  # questions, below which nothing can be told
DRAWS, SEED = 2_000, 7


@dataclass(frozen=True, slots=True)
class Question:
    """A shopper's items, newest first with their weights, and the next new item. All are rows."""

    shopper: str
    history: Rows
    weights: NDArray[np.float32]
    target: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """How near an item is to a history: the mean vector's cosine, or a sum of `exp(cosine / width)` over its items.

    Attributes:
        items: newest ones of the history that count.
        fade: weight of one beside the next newer one.
        width: of the kernel; 0 for the mean vector.
    """

    items: int = 20
    fade: float = 0.85
    width: float = 0.0

    def weights(self, question: Question) -> NDArray[np.float32]:
        """Of the newest items."""
        some = question.weights[: self.items]
        return np.asarray(some * self.fade ** np.arange(len(some)), np.float32)


def questions(
    found: Histories, rows: Mapping[str, int], since_ms: int, until_ms: int, most: int = MOST
) -> list[Question]:
    """For each shopper who did something in a span of time and something before: the first new item in it.

    Args:
        found: histories that reach into the span.
        rows: of the items that have a vector.
        since_ms: the span begins; only what is older is the shopper's history.
        until_ms: the span ends before this.
        most: of the questions; evenly over the shoppers' names where there are more.
    """
    asked = []
    for who, touches in found.shoppers():
        unwanted = found.against.get(who, {})
        known = [one for one in touches if one.item in rows]
        past = [one for one in known if one.ts < since_ms]
        had = {one.item for one in past}
        new = [one for one in known if since_ms <= one.ts < until_ms and one.item not in had | unwanted.keys()]
        if past and new:
            asked.append(_question(who, past, rows[new[0].item], rows, unwanted))
    return asked[:: max(1, -(-len(asked) // most))]


class Cut(NamedTuple):
    """Histories in three parts of time: to learn from, to choose by, and to be judged by.

    `learnt` is what is older than `stop_ms`, `known` what is older than `last_ms`.
    """

    learnt: Histories
    known: Histories
    choose: list[Question]
    asked: list[Question]
    times: list[int]
    stop_ms: int
    last_ms: int


def cut(found: Histories, rows: Mapping[str, int], held: float, what: str) -> Cut:
    """Keep a share of the newest acts from what learns: one half to choose by, the newer one to judge by.

    Args:
        found: histories.
        rows: of the items that have a vector.
        held: the share.
        what: is to learn, for the error: "an encoder".

    Raises:
        Missing: too little was recorded to tell which is better.
    """
    times = found.times()
    if not times:
        raise Missing(f"nothing was recorded that {what} could learn from: import a history or post some first")
    stop_ms, last_ms = (times[int(len(times) * (1 - share))] for share in (held, held / 2))
    known = found.before(last_ms)
    choose = questions(known, rows, stop_ms, last_ms)
    asked = questions(found, rows, last_ms, times[-1] + 1)
    if min(len(choose), len(asked)) < FEWEST:
        raise Missing(
            f"{len(choose)} and {len(asked)} shoppers came back in the newest {held:.0%} of the events, and it takes "
            f"{FEWEST} each to tell whether {what} is better"
        )
    return Cut(found.before(stop_ms), known, choose, asked, times, stop_ms, last_ms)


def _question(
    who: str, past: Sequence[Touch], target: int, rows: Mapping[str, int], unwanted: Collection[str]
) -> Question:
    newest = {one.item: one.strength for one in past if one.item not in unwanted} or {past[-1].item: 1.0}
    last = {one.item: at for at, one in enumerate(past)}
    order = sorted(newest, key=lambda item: -last[item])
    history = np.array([rows[item] for item in order], np.int64)
    return Question(who, history, np.log1p(np.array([newest[item] for item in order], np.float32)), target)


def ranks(vectors: Vectors, asked: Sequence[Question], kernel: Kernel) -> NDArray[np.int64]:
    """The place of each target among all items that are not in the history, counted from 0; ties go against it."""
    return ranks_by(asked, lambda start, some: similarity(vectors, some, kernel))


def ranks_by(
    asked: Sequence[Question], scores_of: Callable[[int, Sequence[Question]], NDArray[np.floating[Any]]]
) -> NDArray[np.int64]:
    """The same by other scores, (questions, items), of a part of the questions that starts at a number."""
    found = np.empty(len(asked), np.int64)
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        scores = scores_of(start, some)
        for row, one in enumerate(some):
            mine = scores[row, one.target]
            own = scores[row, one.history] >= mine
            found[start + row] = np.count_nonzero(scores[row] >= mine) - 1 - np.count_nonzero(own)
    return found


def similarity(vectors: Vectors, asked: Sequence[Question], kernel: Kernel) -> NDArray[np.float32]:
    """How near each item is to each history, (questions, items); the history itself is as near as it may be."""
    weights = [kernel.weights(one) for one in asked]
    if kernel.width <= 0:
        users = np.stack([w @ vectors[one.history[: len(w)]] for w, one in zip(weights, asked, strict=True)])
        return np.asarray(users @ vectors.T, np.float32)
    sources = np.concatenate([one.history[: len(w)] for w, one in zip(weights, asked, strict=True)])
    near = np.exp((vectors[sources] @ vectors.T - 1.0) / kernel.width)  # (sources, items)
    near *= np.concatenate(weights)[:, None]
    return np.asarray(np.add.reduceat(near, np.cumsum([0, *map(len, weights[:-1])]), axis=0), np.float32)


def recall(places: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 where the target is among the first k."""
    return (places < k).astype(np.float64)


def ndcg(places: NDArray[np.int64], k: int | None = None) -> NDArray[np.float64]:
    """Of one target: 1 / log2(place + 2) where it is among the first k; None counts every place."""
    gain = 1.0 / np.log2(places + 2.0)
    return gain if k is None else np.where(places < k, gain, 0.0)


class Figure(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def figure(values: NDArray[np.float64]) -> Figure:
    """Percentile bootstrap over questions, of which a shopper has one; 0 of none."""
    if not len(values):
        return Figure(0.0, 0.0, 0.0)
    chance = np.random.default_rng(SEED)
    drawn = np.array([values[chance.integers(0, len(values), len(values))].mean() for _ in range(DRAWS)])
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Figure(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Gain:
    """One measure before and after training, and the paired difference."""

    before: Figure
    after: Figure
    gain: Figure

    def __str__(self) -> str:
        return f"before {self.before}, after {self.after}, gain {self.gain}"


def gains(before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[str, Gain]:
    """NDCG@10, recall@10 and recall@100 of the same questions' places."""
    measures: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
        "ndcg@10": lambda places: ndcg(places, 10),
        "recall@10": lambda places: recall(places, 10),
        "recall@100": lambda places: recall(places, 100),
    }
    return {name: _gain(measure(before), measure(after)) for name, measure in measures.items()}


def _gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> Gain:
    return Gain(figure(before), figure(after), figure(after - before))
