"""Our figures against those of the benchmark's own scorer, which shares no code with them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evaluation.compare import intervals
from evaluation.metrics import Answered, measure
from tests.evaluation.answers import random_answers

BENCH = Path(__file__).parents[2].parent / "shared" / "bench"


@pytest.fixture(scope="module")
def scorer() -> Iterator[ModuleType]:
    if not (BENCH / "score.py").exists():
        pytest.skip("the benchmark's scorer is not beside this checkout")
    before = sys.path.copy()
    sys.path.insert(0, str(BENCH))  # it imports its neighbour, protocols.py
    yield importlib.import_module("score")
    sys.path[:] = before
    for name in ("score", "protocols"):
        sys.modules.pop(name, None)


def their_rows(scorer: ModuleType, answers: list[Answered]) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = []
    for a in answers:
        query = scorer.Query(a.query_id, a.shopper, a.ts, a.targets, shown=a.shown or ())
        rows.append(scorer.metrics(query, list(dict.fromkeys(a.items))))
    table = np.array(rows, dtype=np.float64)
    return np.where(np.isnan(table), 0.5, table)  # as it does itself where every item was clicked


def shown_lists(seed: int, count: int = 200) -> list[Answered]:
    """Orderings with missing, foreign and repeated items; now and then all or nothing is answered."""
    rng = np.random.default_rng(seed)
    shown = [f"i{n}" for n in range(24)]
    answers = []
    for n in range(count):
        clicked = rng.choice(shown, int(rng.integers(1, 25)), replace=False).tolist()
        given = rng.choice([*shown, "x", "y"], int(rng.integers(0, 30))).tolist()
        order = rng.permutation(shown).tolist()
        answers.append(
            Answered(
                query_id=f"q{n}",
                shopper=f"s{n}",
                ts=n,
                items=tuple(given),
                targets=frozenset(clicked),
                shown=tuple(order),
            )
        )
    return answers


def test_lists_of_free_choice_score_the_same_query_by_query(scorer: ModuleType) -> None:
    answers = random_answers(0.3, seed=1)
    scores = measure(answers, depth=100)
    for column, name in enumerate(("recall@10", "ndcg@10", "hit@10")):
        ours = scores.values[:, scores.names.index(name)]
        assert ours == pytest.approx(their_rows(scorer, answers)[:, column])


def test_shown_lists_score_the_same_query_by_query(scorer: ModuleType) -> None:
    answers = shown_lists(2)
    scores = measure(answers, depth=24)
    theirs = their_rows(scorer, answers)
    for column, name in enumerate(("recall@10", "ndcg@10", "hit@10", "auc")):
        assert scores.values[:, scores.names.index(name)] == pytest.approx(theirs[:, column])


def test_intervals_over_shoppers_are_the_same(scorer: ModuleType) -> None:
    answers = random_answers(0.3, seed=3)
    ours = intervals(answers)
    theirs = scorer.intervals(their_rows(scorer, answers), [a.shopper for a in answers])
    for name in ("recall@10", "ndcg@10", "hit@10"):
        assert (ours[name].mean, ours[name].low, ours[name].high) == pytest.approx(theirs[name], abs=2e-3)
