"""The user tower's job: learn on histories and text vectors as they are, keep it only where it is clearly better.

Better than the weighted mean of the newest items, that is, on what shoppers took after all that was learnt from:
more of it among the first hundred, with certainty. Two things are judged so: for items with many events the tower's
state and for those with few their text, beside the same mixture by how often each item was taken, as what is popular
is no merit of a tower, which decides on the tower; and its query for the text channel beside the mean, whose place it
takes only if no group of targets, the rare ones least of all, loses, and if it tells better apart what is as popular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.catalogue import ItemChange
from core.events import Event
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.pairs import Histories, histories
from jobs.recordings import EVENTS, Recording, catalogue, told
from jobs.text_quality import Gain, Kernel, Question, cut, gains, ndcg, ranks_by
from models.pairs import Rows
from models.user_histories import Sequences
from models.user_tower import Floats, UserTower
from models.vectors import Vectors
from ranker.arrays import best

OFTEN: Final = 5  # times an item was taken up before it gets a residual of its own
KNOWN: Final = 10_000  # items with a residual at most: each request compares with them all
LONGEST: Final = 200  # newest acts of a shopper that are learnt from
GROUPS: Final = ((0, 10, "under 10"), (10, 50, "10-49"), (50, 1 << 60, "50+"))  # by events of the target so far
_ALL: Final = ((0, 1 << 60, "all"), *GROUPS)
MEASURE: Final = "recall@100"
EQUALS: Final = "among its equals"  # targets among items that were taken about as often

OLDER: Final = 0.6  # of the events, that a tower learns from and is judged by before a ranker learns from the rest
DOUBT: Final = 20.0  # events of an item before the state counts as much as its text
HEAT: Final = 0.07  # of cosines, as they are learnt with

Progress = Callable[[str, int, int], None]
Figures = dict[str, dict[str, Gain]]
Scores = Callable[[int, Sequence[Question]], Floats]  # of a part of the questions that starts at a number


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `tower` is None where the mean stays.

    `query` compares its vector in the text channel with the mean of recent items, `by_count` both its answers with
    the mean and how often items were taken; by group of targets ("all", "under 10", ...), then by measure.
    """

    tower: UserTower | None
    query: Figures
    by_count: Figures
    questions: dict[str, int]
    rounds: tuple[tuple[float, float, float], ...]
    positions_per_s: float
    seconds: float
    why: str


def of_recording(
    source: Recording,
    settings: Settings,
    embedder: Embedder,
    newest_ms: int,
    seconds: Callable[[], float],
    progress: Progress | None = None,
) -> Outcome:
    """Learn from the older events of a recording: the newer `1 - OLDER` of them are left for a ranker to learn from.

    Args:
        source: the recording.
        settings: of the shop.
        embedder: of item text, whose space the tower is for.
        newest_ms: the newest event.
        seconds: a clock.
        progress: told (what, done, total).

    Raises:
        Missing: too little was recorded.
    """
    since_ms = max(0, newest_ms - round(settings.tuning.window_s * 1000))
    times = sorted(entry.ts for entry in source.entries(EVENTS) if entry.ts >= since_ms)
    until_ms = times[int(OLDER * len(times))] if times else 0
    changes = (one for one in told(source, ("items",)) if isinstance(one, ItemChange) and one.ts < until_ms)
    items = catalogue(changes)
    found = histories((one for one in told(source, EVENTS) if isinstance(one, Event)), until_ms, since_ms)
    rows = {name: row for row, name in enumerate(items)}
    vectors = embedder.vectors(list(items.values()))
    return fit(found, rows, vectors, embedder.space_id, settings, seconds, progress)


def fit(
    found: Histories,
    rows: Mapping[str, int],
    vectors: Vectors,
    space_id: str,
    settings: Settings,
    seconds: Callable[[], float],
    progress: Progress | None = None,
) -> Outcome:
    """Learn from the older events, choose the round by the next ones, judge by the newest.

    A ranker that is to read its answers learns from lists that are newer than the tower's `max_event_ms`.

    Args:
        found: histories, as `jobs.pairs.histories` reads them.
        rows: of the items in `vectors`.
        vectors: (items, dim) unit vectors of the space.
        space_id: of the vectors.
        settings: of the shop.
        seconds: a clock.
        progress: told (what, done, total).

    Raises:
        Missing: too little was recorded to tell which is better.
    """
    from models.user_training import Plan, learn  # torch takes seconds to import

    parts = cut(found, rows, settings.tuning.held_out, "a user vector")
    learnt, choose, asked = parts.learnt, parts.choose, parts.asked
    known = often(learnt, rows)
    plan = Plan(
        temperature=HEAT,
        length=settings.ranking.user_items,
        limit_s=settings.tuning.limit_s,
        seed=settings.training.seed,
    )
    names = list(rows)

    def judge(tower: UserTower) -> float:
        """Both answers count."""
        query, state = (ranks_by(choose, one) for one in rules(tower, vectors, names, choose))
        return float(ndcg(query).mean() + ndcg(state).mean())

    about = space_id, learnt.newest_ms
    result = learn(sequences(learnt, rows), vectors, known, plan, about, judge, seconds, progress)
    taken = counts(parts.known, rows)
    figures = compare(result.tower, vectors, names, asked, taken, settings.ranking.user_items)
    asks, better = verdict(figures[0]), verdict(figures[1], groups=False)
    shape = msgspec.structs.replace(result.tower.shape, asks=asks[0])
    of_targets = taken[[one.target for one in asked]]
    return Outcome(
        tower=replace(result.tower, shape=shape) if better[0] else None,
        query=figures[0],
        by_count=figures[1],
        questions={name: int(np.count_nonzero((of_targets >= low) & (of_targets < high))) for low, high, name in _ALL},
        rounds=result.rounds,
        positions_per_s=result.positions / max(result.seconds, 1e-9),
        seconds=result.seconds,
        why=f"by number of events: {better[1]}. In the text channel: {asks[1]}",
    )


def compare(
    tower: UserTower, vectors: Vectors, names: Sequence[str], asked: Sequence[Question], taken: Rows, items: int
) -> tuple[Figures, Figures]:
    """The tower's query beside the mean of so many items, and two mixtures by number of events beside each other.

    One knows of the items with many events how often they were taken, and the mean; the other has the tower's state,
    and its query where that serves.
    """
    mean = by_mean(vectors, Kernel(items))
    by_query, by_state = rules(tower, vectors, names, asked)
    of_targets = taken[[one.target for one in asked]]
    query = by_group(ranks_by(asked, mean), ranks_by(asked, by_query), of_targets)
    query[EQUALS] = gains(*(ranks_by(asked, among_equals(one, taken)) for one in (mean, by_query)))
    text = by_query if verdict(query)[0] else mean
    share, popular = taken / (taken + DOUBT), by_popularity(taken)
    before = ranks_by(asked, lambda start, some: mixed(popular, mean(start, some), share))
    both = ranks_by(asked, lambda start, some: mixed(by_state(start, some), text(start, some), share))
    return query, by_group(before, both, of_targets)


def rules(tower: UserTower, vectors: Vectors, names: Sequence[str], asked: Sequence[Question]) -> tuple[Scores, Scores]:
    """Scores of all items by the tower's query, and by its state: cosines over its temperature."""
    queries, states = answers(tower, vectors, names, asked)
    keys = tower.keys(vectors, tower.places(names))
    return (
        lambda start, some: queries[start : start + len(some)] @ vectors.T / HEAT,
        lambda start, some: states[start : start + len(some)] @ keys.T / HEAT,
    )


def by_mean(vectors: Vectors, kernel: Kernel) -> Scores:
    """The same by the mean vector."""

    def scores(start: int, some: Sequence[Question]) -> Floats:
        users = np.stack([kernel.weights(one) @ vectors[one.history[: kernel.items]] for one in some])
        users /= np.linalg.norm(users, axis=1, keepdims=True)
        return np.asarray(users @ vectors.T / HEAT, np.float32)

    return scores


def by_popularity(taken: Rows) -> Floats:
    """The same scores for everybody, (1, items): by how often each item was taken."""
    return np.log(np.maximum(taken, 1)).astype(np.float32)[None]


def among_equals(scores: Scores, taken: Rows) -> Scores:
    """The same scores, and none for items that were taken more or less often than the target, by powers of two."""
    steps = np.floor(np.log2(taken + 1.0))

    def found(start: int, some: Sequence[Question]) -> Floats:
        equal = steps == steps[[one.target for one in some]][:, None]
        return np.where(equal, scores(start, some), np.float32(-np.inf))

    return found


def mixed(state: Floats, text: Floats, share: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The chance of each item: by its state as far as `share` says, else by its text."""
    return np.asarray(share * _chances(state) + (1 - share) * _chances(text))


def _chances(scores: Floats) -> NDArray[np.float64]:
    found = np.exp((scores - scores.max(1, keepdims=True)).astype(np.float64))
    return np.asarray(found / found.sum(1, keepdims=True))


def sequences(found: Histories, rows: Mapping[str, int]) -> Sequences:
    """What shoppers took up, oldest first; the same item twice in a row counts once, as the strongest it was."""
    starts, items, amounts = [0], list[int](), list[float]()
    for who, touches in found.shoppers():
        unwanted = found.against.get(who, {})
        begun = len(items)
        for one in touches[-LONGEST:]:
            row = rows.get(one.item)
            if row is None or one.item in unwanted:
                continue
            if len(items) > begun and items[-1] == row:
                amounts[-1] = max(amounts[-1], one.strength)
            else:
                items.append(row)
                amounts.append(one.strength)
        if len(items) > begun:
            starts.append(len(items))
    return Sequences(
        np.array(starts, np.int64), np.array(items, np.int64), np.log1p(np.array(amounts)).astype(np.float32)
    )


def counts(found: Histories, rows: Mapping[str, int]) -> Rows:
    """How often each item was taken up, by row."""
    taken = [rows[one.item] for _, touches in found.shoppers() for one in touches if one.item in rows]
    return np.bincount(np.array(taken, np.int64), minlength=len(rows))


def often(found: Histories, rows: Mapping[str, int]) -> tuple[tuple[str, ...], Rows]:
    """Names and rows of the items that are common enough for a residual."""
    taken = counts(found, rows)
    common = np.sort(best(np.flatnonzero(taken >= OFTEN), taken[taken >= OFTEN], KNOWN))
    names = list(rows)
    return tuple([names[row] for row in common.tolist()]), common


def answers(
    tower: UserTower, vectors: Vectors, names: Sequence[str], asked: Sequence[Question]
) -> tuple[Floats, Floats]:
    """Queries and states of the questions' histories."""
    queries, states = [], []
    for one in asked:
        newest = one.history[: tower.shape.length]
        held = tower.places([names[row] for row in newest.tolist()])
        queries.append(tower.query(vectors[newest], one.weights[: len(newest)]))
        states.append(tower.state(vectors[newest], held))
    return np.stack(queries), np.stack(states)


def by_group(before: NDArray[np.int64], after: NDArray[np.int64], taken: NDArray[np.int64]) -> Figures:
    """Figures of all questions, and of those whose target was taken up so often."""
    figures = {}
    for low, high, name in _ALL:
        some = (taken >= low) & (taken < high)
        if some.any():
            figures[name] = gains(before[some], after[some])
    return figures


def verdict(figures: Mapping[str, Mapping[str, Gain]], *, groups: bool = True) -> tuple[bool, str]:
    """Whether the second of the two compared may take over, and why.

    Args:
        figures: by group of targets and measure; with those of `EQUALS`, it must also be better at telling items apart
            that are as popular as each other.
        groups: no group may surely lose. What takes nothing's place but is found beside it need not be held to that.
    """
    whole = figures["all"]
    said = f"on newer events {MEASURE} {whole[MEASURE]}; ndcg@10 {whole['ndcg@10']}"
    worse = [name for _, _, name in GROUPS if groups and name in figures and figures[name][MEASURE].gain.high < 0]
    if worse:
        return False, f"the mean stays, targets of {', '.join(worse)} events lose: {said}"
    if whole[MEASURE].gain.low <= 0 or whole["ndcg@10"].gain.mean < 0:
        return False, f"the mean stays, it is not clearly worse: {said}"
    equals = figures.get(EQUALS)
    if equals is not None and equals["ndcg@10"].gain.low <= 0:
        return False, f"the mean stays, only what is popular is found better: {said}; {EQUALS} {equals['ndcg@10']}"
    return True, said
