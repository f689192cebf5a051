"""What an answer is worth: figures query by query, and figures of all lists together.

Every figure per query is a pair of columns, and its mean is the sum of one over the sum of the
other: so a resampling of shoppers needs only sums, a query a figure does not apply to weighs 0,
and a ratio of means (popularity lift) is resampled like any mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]  # (queries, depth): is the item in this place wanted?
Column = tuple[str, Floats, Floats]  # name, values and weights of every query

TOP: Final = 10
RECALL_DEPTHS: Final = (10, 20, 100)
RETRIEVAL_DEPTHS: Final = (100, 300)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One query, what a system answered, and what was right.

    `items` is empty where the system had no answer. `shown`, where given, are the items that were
    to be ordered; `candidates` and `channels` (of each channel) are best first, and empty where
    the system has no retrieval of its own.
    """

    query_id: str
    shopper: str
    ts: int
    items: tuple[str, ...]
    targets: frozenset[str]
    candidates: tuple[str, ...] = ()
    shown: tuple[str, ...] | None = None
    first_time: bool = False
    bought: frozenset[str] = frozenset()
    cold_targets: frozenset[str] = frozenset()  # targets that nobody had touched before the query
    latency_ms: float | None = None
    catalogue_size: int = 0  # items known at the time of the query; 0: not told
    channels: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures query by query; both arrays are (queries, names)."""

    names: tuple[str, ...]
    values: Floats
    weights: Floats

    def means(self) -> dict[str, float]:
        """Each figure over all queries."""
        means = self.values.sum(axis=0) / self.weights.sum(axis=0)
        return dict(zip(self.names, means.tolist(), strict=True))

    def part(self, queries: NDArray[np.int64], name: str) -> Scores:
        """One figure of some of the queries."""
        column = [self.names.index(name)]
        return Scores((name,), self.values[queries][:, column], self.weights[queries][:, column])


def ranking(answer: Answered) -> list[str]:
    """The list as it counts: each item in its first place.

    Of a shown list, items that were not shown are dropped and missing ones are put last, by id.
    """
    listed = dict.fromkeys(answer.items)
    if answer.shown is None:
        return list(listed)
    shown = set(answer.shown)
    return [item for item in listed if item in shown] + sorted(shown - listed.keys())


def relevance(lists: Sequence[Sequence[str]], targets: Sequence[frozenset[str]], depth: int) -> Marks:
    """Which of the first `depth` places hold a target; places beyond the end of a list do not."""
    marks = np.zeros((len(lists), depth), dtype=np.bool_)
    for row, items, wanted in zip(marks, lists, targets, strict=True):
        first = items[:depth]
        row[: len(first)] = [item in wanted for item in first]
    return marks


def recall(marks: Marks, targets: NDArray[np.int64], k: int) -> Floats:
    """Hits among the first k over the most there could be, min(k, targets)."""
    hits: Floats = marks[:, :k].sum(axis=1).astype(np.float64)
    return hits / np.minimum(k, targets)


def ndcg(marks: Marks, targets: NDArray[np.int64], k: int) -> Floats:
    """Binary gain, discount 1 / log2(rank + 1), against the best list there could be.

    Järvelin and Kekäläinen 2002.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(k, targets) - 1]
    first = marks[:, :k]
    gain: Floats = first @ discount[: first.shape[1]]
    normalised: Floats = gain / ideal
    return normalised


def reciprocal_rank(marks: Marks, k: int) -> Floats:
    """1 / rank of the first hit; 0 where the first k hold none."""
    first = marks[:, :k]
    reciprocal: Floats = first.any(axis=1) / (first.argmax(axis=1) + 1.0)
    return reciprocal


def hit(marks: Marks, k: int) -> Floats:
    """1 where any of the first k is a target."""
    hits: Floats = marks[:, :k].sum(axis=1).astype(np.float64)
    return np.minimum(hits, 1.0)


def auc(wanted: Marks) -> float:
    """Share of (wanted, unwanted) pairs of one list in the right order; .5 where there is no pair.

    >>> auc(np.array([True, False, True, False]))
    0.75
    """
    unwanted = ~wanted
    if not wanted.any() or not unwanted.any():
        return 0.5
    below = unwanted.sum() - unwanted.cumsum()
    return float(below[wanted].mean() / unwanted.sum())


def gini(counts: Floats) -> float:
    """0 where every item is recommended as often as any other, towards 1 where one takes all.

    >>> gini(np.array([1.0, 1.0, 1.0, 1.0])), gini(np.array([0.0, 0.0, 0.0, 4.0]))
    (0.0, 0.75)
    """
    n, total = len(counts), counts.sum()
    if total == 0:
        return 0.0
    places = np.arange(1, n + 1)
    return float(((2 * places - n - 1) * np.sort(counts)).sum() / (n * total))


def measure(answers: Sequence[Answered], *, depth: int, popularity: Mapping[str, float] | None = None) -> Scores:
    """Every figure that these queries allow, query by query.

    Args:
        answers: queries that have a target; an unanswered one scores 0.
        depth: places the lists were asked to have; recall beyond it is left out, since a list
            that was cut says nothing of what stood below.
        popularity: item → events, for novelty and popularity lift; None leaves both out.
    """
    lists = [ranking(answer) for answer in answers]
    columns = [*_accuracy(answers, lists, depth), *_retrieval(answers)]
    if popularity is not None:
        columns += _popularity(answers, lists, popularity)
    kept = [column for column in columns if column[2].sum() > 0]
    shape = (len(answers), len(kept))
    return Scores(
        names=tuple(name for name, _, _ in kept),
        values=np.array([values for _, values, _ in kept]).T.reshape(shape),
        weights=np.array([weights for _, _, weights in kept]).T.reshape(shape),
    )


def list_figures(answers: Sequence[Answered]) -> dict[str, float]:
    """Figures of all lists together, which have no mean over queries: coverage, Gini, latency in ms."""
    figures: dict[str, float] = {}
    free = [answer for answer in answers if answer.shown is None]
    catalogue = max((answer.catalogue_size for answer in free), default=0)
    if catalogue:
        counts = Counter(item for answer in free for item in ranking(answer)[:TOP])
        # an item that was removed later is in the lists, but not in the size of a later catalogue
        every = np.zeros(max(catalogue, len(counts)))
        every[: len(counts)] = list(counts.values())
        figures[f"coverage@{TOP}"] = len(counts) / len(every)
        figures[f"gini@{TOP}"] = gini(every)
    times = [answer.latency_ms for answer in answers if answer.latency_ms is not None]
    if times:
        p50, p99 = np.percentile(times, [50, 99])
        figures |= {"p50_ms": float(p50), "p99_ms": float(p99)}
    return figures


def _accuracy(answers: Sequence[Answered], lists: Sequence[Sequence[str]], depth: int) -> Iterator[Column]:
    wanted = [answer.targets for answer in answers]
    sizes = np.array([len(targets) for targets in wanted], dtype=np.int64)
    marks = relevance(lists, wanted, max(RECALL_DEPTHS))
    every = np.ones(len(answers))
    yield f"ndcg@{TOP}", ndcg(marks, sizes, TOP), every
    for k in RECALL_DEPTHS:
        if k <= max(depth, TOP):
            yield f"recall@{k}", recall(marks, sizes, k), every
    k = min(20, max(depth, TOP))
    yield f"mrr@{k}", reciprocal_rank(marks, k), every
    yield f"hit@{TOP}", hit(marks, TOP), every
    ordered = np.array([answer.shown is not None for answer in answers], dtype=np.float64)
    if ordered.any():
        areas = np.zeros(len(answers))
        for row in np.flatnonzero(ordered).tolist():
            areas[row] = auc(relevance([lists[row]], [wanted[row]], len(lists[row]))[0])
        yield "auc", areas, ordered


def _retrieval(answers: Sequence[Answered]) -> Iterator[Column]:
    if not any(answer.candidates for answer in answers):
        return
    wanted = [answer.targets for answer in answers]
    sizes = np.array([len(targets) for targets in wanted], dtype=np.int64)
    lists = [list(dict.fromkeys(answer.candidates)) for answer in answers]
    marks = relevance(lists, wanted, max(RETRIEVAL_DEPTHS))
    free = np.array([answer.shown is None for answer in answers], dtype=np.float64)
    for k in RETRIEVAL_DEPTHS:
        yield f"retrieval recall@{k}", recall(marks, sizes, k) * free, free


def _popularity(
    answers: Sequence[Answered], lists: Sequence[Sequence[str]], popularity: Mapping[str, float]
) -> Iterator[Column]:
    """Novelty counts an item without events as one of a single event, for a share of 0 has no logarithm."""
    total = max(sum(popularity.values()), 1.0)
    rows = np.zeros((3, len(answers)))  # bits of surprise, events of the list's items, events of the targets
    counted = np.zeros(len(answers))
    for n, (answer, items) in enumerate(zip(answers, lists, strict=True)):
        if answer.shown is None and items:
            events = np.array([popularity.get(item, 0.0) for item in items[:TOP]])
            surprise = -np.log2(np.maximum(events, 1.0) / total)
            rows[:, n] = surprise.mean(), events.mean(), np.mean([popularity.get(t, 0.0) for t in answer.targets])
            counted[n] = 1.0
    yield f"novelty@{TOP}", rows[0], counted
    yield f"popularity lift@{TOP}", rows[1], rows[2]
