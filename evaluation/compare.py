"""Is one system better than another? All of them on the same queries: whole, by slice, over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from core.errors import BadInput
from evaluation.bootstrap import DRAWS, SEED, Estimate, Interval, estimates
from evaluation.metrics import TOP, Answered, Scores, list_figures, measure
from evaluation.slices import SLICES

HEADLINE: Final = f"ndcg@{TOP}"
MOST_WINDOWS: Final = 12
WINDOW_QUERIES: Final = 100  # fewer make an interval too wide to show a course

Systems = Mapping[str, Sequence[Answered]]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One system: figures with intervals, and those that only all lists together have."""

    system: str
    answered: int  # of the scored queries
    metrics: dict[str, Interval]
    lists: dict[str, float] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What `system` has above `reference`, query by query: better only where `low` is above 0."""

    system: str
    reference: str
    metrics: dict[str, Interval]


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The same comparison for some of the queries, or some of the targets.

    `reference` is the strongest other system here, unless one was named for the whole: who has no
    answer for a first-time shopper is not what has to be beaten there.
    """

    name: str
    about: str
    reference: str
    queries: int
    shoppers: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of each system for the queries from `start` to `end` (ms, both included)."""

    start: int
    end: int
    queries: int
    systems: dict[str, Interval]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All systems side by side. `reference` is the system that `subject` has to beat, "" for none."""

    subject: str
    reference: str
    asked: int
    queries: int  # those that have a target; the others cannot be scored
    shoppers: int
    first: int  # time of the first and of the last scored query, ms
    last: int
    draws: int
    seed: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]  # subject against every other system
    slices: tuple[Slice, ...] = ()
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trial:
    """Systems with the scores of the same queries in the same order."""

    answers: Systems
    scores: Mapping[str, Scores]
    shoppers: Sequence[str]
    draws: int
    seed: int

    def estimates(self) -> dict[str, dict[str, Estimate]]:
        return estimates(self.scores, self.shoppers, self.draws, self.seed)


def compare(
    systems: Systems,
    subject: str,
    *,
    reference: str | None = None,
    popularity: Mapping[str, float] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Score all systems on the same queries.

    Args:
        systems: name → answers. All must answer the same queries, in any order.
        subject: the system in question.
        reference: what it has to beat; None takes the other system with the highest NDCG@10.
        popularity: item → events, for novelty and popularity lift.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        BadInput: an unknown name, systems that answer different queries, or no query with a target.
    """
    for name in (subject, reference or subject):
        if name not in systems:
            raise BadInput(f"no system {name!r}; there are {', '.join(systems) or 'none'}")
    scored = {name: [a for a in answers if a.targets] for name, answers in aligned(systems).items()}
    queries = scored[subject]
    if not queries:
        raise BadInput(f"none of the {len(systems[subject])} queries has a target, so there is nothing to score")
    whole = _trial(scored, popularity, draws, seed)
    rows, differences = _side_by_side(whole, subject)
    return Comparison(
        subject=subject,
        reference=reference or _best(rows, subject),
        asked=len(systems[subject]),
        queries=len(queries),
        shoppers=len(set(whole.shoppers)),
        first=min(a.ts for a in queries),
        last=max(a.ts for a in queries),
        draws=draws,
        seed=seed,
        rows=rows,
        differences=differences,
        slices=tuple(_slices(whole, subject, reference, popularity)),
        windows=tuple(_windows(whole)),
    )


def intervals(
    answers: Sequence[Answered], *, popularity: Mapping[str, float] | None = None, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Interval]:
    """Every figure of one system, of queries that have a target."""
    one = {"": answers}
    found = _trial(one, popularity, draws, seed).estimates()[""]
    return {metric: estimate.interval() for metric, estimate in found.items()}


def paired(
    a: Sequence[Answered],
    b: Sequence[Answered],
    *,
    popularity: Mapping[str, float] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Interval]:
    """What `a` has above `b` on the same queries; raises BadInput where they are not the same."""
    both = aligned({"a": a, "b": b})
    trial = _trial(both, popularity, draws, seed)
    return _side_by_side(trial, "a")[1][0].metrics


def aligned(systems: Systems) -> dict[str, list[Answered]]:
    """The answers of every system in the order of the first one's queries.

    Raises:
        BadInput: a query that is missing, repeated, or not the same question in two systems.
    """
    found: dict[str, list[Answered]] = {}
    for name, answers in systems.items():
        by_id = {a.query_id: a for a in answers}
        if len(by_id) < len(answers):
            raise BadInput(f"{name} must answer each query once, got {len(answers)} answers to {len(by_id)} queries")
        first = next(iter(found.values()), list(answers))
        odd = by_id.keys() ^ {a.query_id for a in first}
        odd |= {a.query_id for a in first if not odd and _question(a) != _question(by_id[a.query_id])}
        if odd:
            one, other = next(iter(found)), sorted(odd)[0]
            raise BadInput(f"{one} and {name} must answer the same queries, got {len(odd)} that differ, as {other!r}")
        found[name] = [by_id[a.query_id] for a in first]
    return found


def _question(a: Answered) -> tuple[object, ...]:
    return a.shopper, a.ts, a.targets, a.shown, a.first_time, a.bought, a.cold_targets


def _best(rows: Sequence[Row], subject: str) -> str:
    others = [row for row in rows if row.system != subject]
    return max(others, key=lambda row: row.metrics[HEADLINE].mean).system if others else ""


def _trial(systems: Systems, popularity: Mapping[str, float] | None, draws: int, seed: int) -> _Trial:
    depth = max((len(a.items) for answers in systems.values() for a in answers), default=0)
    scores = {name: measure(answers, depth=depth, popularity=popularity) for name, answers in systems.items()}
    shoppers = [a.shopper for a in next(iter(systems.values()))]
    return _Trial(systems, scores, shoppers, draws, seed)


def _side_by_side(trial: _Trial, subject: str) -> tuple[tuple[Row, ...], tuple[Difference, ...]]:
    """A row for every system, and the differences of the subject to every other one, from the same draws."""
    found = trial.estimates()
    rows = tuple(
        Row(
            system=name,
            answered=sum(bool(a.items) for a in trial.answers[name]),
            metrics={metric: estimate.interval() for metric, estimate in figures.items()},
            lists=list_figures(trial.answers[name]),
        )
        for name, figures in found.items()
    )
    ours = found[subject]
    differences = tuple(
        Difference(
            system=subject,
            reference=name,
            metrics={m: (estimate - theirs[m]).interval() for m, estimate in ours.items() if m in theirs},
        )
        for name, theirs in found.items()
        if name != subject
    )
    return rows, differences


def _slices(
    whole: _Trial, subject: str, reference: str | None, popularity: Mapping[str, float] | None
) -> Iterator[Slice]:
    """Slices that are empty, or everything, are left out."""
    for name, about, choose in SLICES:
        queries = choose(whole.answers[subject])
        if not queries or queries == list(whole.answers[subject]):
            continue
        chosen = {system: choose(answers) for system, answers in whole.answers.items()}
        trial = _trial(chosen, popularity, whole.draws, whole.seed)
        rows, differences = _side_by_side(trial, subject)
        yield Slice(
            name=name,
            about=about,
            reference=reference or _best(rows, subject),
            queries=len(queries),
            shoppers=len(set(trial.shoppers)),
            rows=rows,
            differences=differences,
        )


def _windows(whole: _Trial) -> Iterator[Window]:
    """Stretches of time with about as many queries each; none where all was asked at one moment."""
    times = np.array([a.ts for a in next(iter(whole.answers.values()))], dtype=np.int64)
    parts = min(MOST_WINDOWS, len(times) // WINDOW_QUERIES)
    edges = np.quantile(times, np.arange(1, parts) / parts, method="higher") if parts > 1 else np.empty(0)
    window = np.searchsorted(np.unique(edges), times, side="right")
    numbers = np.unique(window)
    for number in numbers if len(numbers) > 1 else ():
        rows = np.flatnonzero(window == number)
        scores = {name: score.part(rows, HEADLINE) for name, score in whole.scores.items()}
        found = estimates(scores, [whole.shoppers[row] for row in rows.tolist()], whole.draws, whole.seed)
        yield Window(
            start=int(times[rows].min()),
            end=int(times[rows].max()),
            queries=len(rows),
            systems={name: figures[HEADLINE].interval() for name, figures in found.items()},
        )
