"""Whether a new ranker may take over: judged on lists that came after those it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from jobs.lessons import Lesson
from ranker.arrays import Floats

DRAWS: Final = 1_000
TOP: Final = 10
TOLERATED: Final = -0.005  # of NDCG@10: the lower bound may lie this far below the champion

Score = Callable[[Floats], NDArray[np.floating[Any]]]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of both on the same lists, and the difference with its 95 % interval."""

    promote: bool
    why: str
    lists: int
    challenger: float
    champion: float
    difference: tuple[float, float, float]


def judge(challenger: Score, champion: Score, lessons: Sequence[Lesson], against: str) -> Verdict:
    """Compare two rankers list by list; percentile bootstrap over lists.

    Args:
        challenger: scores of a list's features, `(rows,)`.
        champion: what serves now: a ranker, or the blend's own column.
        lessons: lists newer than any the challenger learnt from.
        against: what to call the champion.
    """
    ours = np.array([ndcg(one, challenger) for one in lessons])
    theirs = np.array([ndcg(one, champion) for one in lessons])
    gain = ours - theirs
    drawn = np.random.default_rng(7).integers(0, len(gain), (DRAWS, len(gain)))
    low, high = np.percentile(gain[drawn].mean(1), [2.5, 97.5])
    mean = float(gain.mean())
    promote = mean > 0 and float(low) > TOLERATED
    words = f"NDCG@10 {mean:+.4f} [{low:+.4f}, {high:+.4f}] against {against} on {len(gain)} newer lists"
    return Verdict(
        promote=promote,
        why=("better: " if promote else "not better: ") + words,
        lists=len(gain),
        challenger=float(ours.mean()),
        champion=float(theirs.mean()),
        difference=(mean, float(low), float(high)),
    )


def ndcg(lesson: Lesson, score: Score) -> float:
    """NDCG@10 of a list with its grades as gains 2 ** grade - 1; of equal scores, the mean over their orders."""
    scores = np.asarray(score(lesson.features), np.float64)
    gains = 2.0 ** lesson.grades.astype(np.float64) - 1.0
    discount = 1.0 / np.log2(np.arange(2, TOP + 2))
    best = np.sort(gains)[::-1][:TOP]
    _, tied, count = np.unique(-scores, return_inverse=True, return_counts=True)
    shared = np.bincount(tied, gains) / count
    got = shared[np.sort(tied)[:TOP]]
    return float((got * discount[: len(got)]).sum() / (best * discount[: len(best)]).sum())
