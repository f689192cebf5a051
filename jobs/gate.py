"""Whether a new bundle may take over: judged on lists that came after those it learnt from.

Both sides answer the same moments; differences are paired, and whole shoppers are drawn, for the lists
of one shopper are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.disk import read_json
from jobs.lessons import Lesson
from ranker.arrays import Floats

DRAWS: Final = 1_000
TOP: Final = 10
TOLERATED: Final = -0.005  # of NDCG@10 and recall: the lower bound may lie this far below the champion
LEAST: Final = 0.95  # of the champion's coverage and of its recall of cold items
MOST_POPULAR: Final = 1.10  # of the champion's average popularity
SLOWER: Final = 1.5  # times the champion's time for an answer
SLOW_MS: Final = 3.0  # below which slower is fast enough
LOG_MOST: Final = 30.0  # of a count; beyond it is damage
COLD: Final = 30  # lists with a cold target, below which their recall says nothing
POPULAR: Final = "trending_score"  # the feature that alone is what everybody is to be better than
VERDICT: Final = "verdict.json"

Score = Callable[[Floats], NDArray[np.floating[Any]]]
Values = NDArray[np.float64]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of both on the same lists, the difference with its 95 % interval, and what else was compared.

    `figures` are (challenger, champion) by measure. A bundle that is held is better, but a person has to
    say whether what it costs is worth it.
    """

    result: Literal["promoted", "held", "refused"]
    why: str
    lists: int
    challenger: float
    champion: float
    difference: tuple[float, float, float]
    figures: dict[str, tuple[float, float]] = {}
    health: dict[str, float] = {}  # of new vectors, see jobs.vector_health

    @property
    def promote(self) -> bool:
        return self.result == "promoted"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side's lists are worth, list by list; nan where a measure says nothing of a list.

    Attributes:
        ndcg: at 10.
        recall: of what was wanted, among all candidates.
        cold: recall at 10 of what nobody had touched before.
        popularity: mean use of the first ten items so far.
        covered: how many different items stood among the first ten of all lists.
        ms: median time of an answer; nan where it was not taken.
    """

    ndcg: Values
    recall: Values
    cold: Values
    popularity: Values
    covered: int
    ms: float


def judge(
    challenger: Score,
    champion: Score,
    lessons: Sequence[Lesson],
    against: str,
    names: Sequence[str] = (),
    *,
    guarded: bool = False,
) -> Verdict:
    """Compare two rankers on equal candidates.

    Args:
        challenger: scores of a list's features, `(rows,)`.
        champion: what serves now: a ranker, or the blend's own column.
        lessons: lists newer than any the challenger learnt from.
        against: what to call the champion.
        names: of the features, for measures of which items are shown.
        guarded: hold what shows fewer, or only more popular items; not of the first ranker, which the
            blend is no measure for.
    """
    sides = [measure(one, lessons, names) for one in (challenger, champion)]
    broken = []
    if POPULAR in names:
        column = names.index(POPULAR)
        floor = measure(lambda matrix: np.nan_to_num(matrix[:, column], nan=-1.0), lessons).ndcg.mean()
        if sides[0].ndcg.mean() <= floor:
            broken.append(f"what is popular now is worth {floor:.4f}")
    shoppers = [one.shopper for one in lessons]
    return decide(sides[0], sides[1], shoppers, against, broken=broken, guarded=guarded)


def decide(
    ours: Measured,
    theirs: Measured,
    shoppers: Sequence[str],
    against: str,
    *,
    broken: Sequence[str] = (),
    guarded: bool = True,
    more: Mapping[str, float] | None = None,
) -> Verdict:
    """The verdict on what was measured; percentile bootstrap over shoppers.

    Args:
        ours: of the challenger.
        theirs: of the champion, list by list the same.
        shoppers: whose lists they are; one without a name counts as a shopper of its own.
        against: what to call the champion.
        broken: what is wrong with the challenger, whatever its lists are worth.
        guarded: see `judge`.
        more: figures of the challenger that the champion has none of.
    """
    gain = interval(ours.ndcg - theirs.ndcg, shoppers)
    better = gain[0] > 0 and gain[1] > TOLERATED
    doubts = list(_doubts(ours, theirs, shoppers)) if guarded else []
    result: Literal["promoted", "held", "refused"] = "refused"
    if better and not broken:
        result = "held" if doubts else "promoted"
    words = f"NDCG@10 {_signed(gain)} against {against} on {len(shoppers)} newer lists"
    whys = {"promoted": f"better: {words}", "held": f"better, but {'; '.join(doubts)}: {words}"}
    refusal = f"broken, {'; '.join(broken)}: {words}" if broken else f"not better: {words}"
    return Verdict(
        result=result,
        why=whys.get(result, refusal),
        lists=len(shoppers),
        challenger=float(ours.ndcg.mean()),
        champion=float(theirs.ndcg.mean()),
        difference=gain,
        figures=_figures(ours, theirs),
        health={name: round(value, 6) for name, value in (more or {}).items()},
    )


def _doubts(ours: Measured, theirs: Measured, shoppers: Sequence[str]) -> list[str]:
    """What is worse than before, beside the order of the lists."""
    found = []
    if np.isfinite(ours.recall).any():
        lost = interval(ours.recall - theirs.recall, shoppers)
        if lost[1] <= TOLERATED:
            found.append(f"recall of all candidates {_signed(lost)}")
    if ours.covered < LEAST * theirs.covered:
        found.append(f"it shows {ours.covered:,} different items instead of {theirs.covered:,}")
    known = np.isfinite(ours.cold)
    if np.count_nonzero(known) >= COLD and ours.cold[known].mean() < LEAST * theirs.cold[known].mean():
        found.append(
            f"recall@10 of cold items {ours.cold[known].mean():.4f} instead of {theirs.cold[known].mean():.4f}"
        )
    mine, yours = _mean(ours.popularity), _mean(theirs.popularity)
    if mine > MOST_POPULAR * yours:
        found.append(f"the mean popularity of what it shows is {mine:.1f} instead of {yours:.1f}")
    if ours.ms > SLOW_MS and ours.ms > SLOWER * theirs.ms:
        found.append(f"an answer takes {ours.ms:.1f} ms instead of {theirs.ms:.1f} ms")
    return found


def _figures(ours: Measured, theirs: Measured) -> dict[str, tuple[float, float]]:
    both = {
        "ndcg@10": (_mean(ours.ndcg), _mean(theirs.ndcg)),
        "recall": (_mean(ours.recall), _mean(theirs.recall)),
        "cold recall@10": (_mean(ours.cold), _mean(theirs.cold)),
        "popularity": (_mean(ours.popularity), _mean(theirs.popularity)),
        "coverage": (float(ours.covered), float(theirs.covered)),
        "ms": (ours.ms, theirs.ms),
    }
    rounded = {name: (round(a, 6), round(b, 6)) for name, (a, b) in both.items()}
    return {name: pair for name, pair in rounded.items() if np.isfinite(pair).all()}


def _mean(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _signed(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def interval(values: Values, shoppers: Sequence[str]) -> tuple[float, float, float]:
    """The mean with its 95 % interval, of lists that say something; percentile bootstrap over shoppers.

    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.)
    """
    known = np.isfinite(values)
    who = {name: place for place, name in enumerate(dict.fromkeys(one for one in shoppers if one))}
    own = range(len(who), len(who) + len(shoppers))
    groups = np.array([who.get(one, alone) for one, alone in zip(shoppers, own, strict=True)], np.int64)[known]
    if not len(groups):
        return 0.0, 0.0, 0.0
    _, groups = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(groups, values[known]), np.bincount(groups)
    chance = np.random.default_rng(7)
    drawn = [chance.integers(0, len(sums), len(sums)) for _ in range(DRAWS)]
    means = np.array([sums[some].sum() / counts[some].sum() for some in drawn])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values[known].mean()), float(low), float(high)


# ---------------------------------------------------------------------- on equal candidates
def measure(score: Score, lessons: Sequence[Lesson], names: Sequence[str] = ()) -> Measured:
    """What a ranker's order of these lists is worth. Recall says nothing: the candidates are given."""
    used = [names.index(name) for name in ("buy_ever", "view_ever", "click_ever") if name in names]
    rows = np.full((len(lessons), 3), np.nan)
    covered: set[int] = set()
    for n, lesson in enumerate(lessons):
        scores = np.asarray(score(lesson.features), np.float64)
        top = np.argsort(-scores, kind="stable")[:TOP]
        rows[n, 0] = _ndcg(lesson.grades, scores)
        covered.update(lesson.marks[top].tolist() if len(lesson.marks) else ())
        if used:
            uses = np.expm1(np.clip(np.nan_to_num(lesson.features[:, used]), 0.0, LOG_MOST)).sum(1)
            cold = (uses <= 0) & (lesson.grades > 0)
            rows[n, 1] = cold[top].sum() / cold.sum() if cold.any() else np.nan
            rows[n, 2] = uses[top].mean()
    unknown = np.full(len(lessons), np.nan)
    return Measured(rows[:, 0], unknown, rows[:, 1], rows[:, 2], len(covered), float("nan"))


def ndcg(lesson: Lesson, score: Score) -> float:
    """NDCG@10 of a list with its grades as gains 2 ** grade - 1; of equal scores, the mean over their orders."""
    return _ndcg(lesson.grades, np.asarray(score(lesson.features), np.float64))


def _ndcg(grades: NDArray[np.int8], scores: Values) -> float:
    gains = 2.0 ** grades.astype(np.float64) - 1.0
    discount = 1.0 / np.log2(np.arange(2, TOP + 2))
    best = np.sort(gains)[::-1][:TOP]
    _, tied, count = np.unique(-scores, return_inverse=True, return_counts=True)
    shared = np.bincount(tied, gains) / count
    got = shared[np.sort(tied)[:TOP]]
    return float((got * discount[: len(got)]).sum() / (best * discount[: len(best)]).sum())


# ---------------------------------------------------------------------- beside a bundle
def save(folder: Path, verdict: Verdict) -> None:
    """Keep the verdict on a bundle in its folder, while that is written."""
    (folder / VERDICT).write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))


def verdict_of(folder: Path) -> Verdict | None:
    """The verdict on a bundle; None where it was compared with nothing.

    Raises:
        Corrupt: there is one that cannot be read.
    """
    return read_json(folder / VERDICT, Verdict)
