from dataclasses import dataclass

import msgspec
import pytest

from evaluation.ablation import RANKER, ablations, variants
from evaluation.metrics import Answered
from ranker.recommend import Snapshot
from tests.evaluation.answers import random_answers

GOOD, FAIR, POOR = (random_answers(skill, seed=n) for n, skill in enumerate((0.5, 0.3, 0.0)))


def bare(answers: list[Answered]) -> list[Answered]:
    return [msgspec.structs.replace(one, candidates=(), channels={}, latency_ms=None) for one in answers]


def test_the_part_that_is_missed_most_comes_first_with_its_interval() -> None:
    rows = ablations(GOOD, {"text": bare(FAIR), "own": bare(POOR), "new": bare(GOOD)}, draws=200)
    assert [one.without for one in rows] == ["own", "text", "new"]
    assert all(one.metrics["ndcg@10"].low > 0 for one in rows[:2])
    same = rows[2].metrics["ndcg@10"]
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_new_shoppers_and_new_items_are_told_apart() -> None:
    (row,) = ablations(GOOD, {"own": bare(POOR)}, draws=50)
    assert {"first-time shoppers", "cold items", "heavy shoppers"} <= row.slices.keys()
    assert "visits" not in row.slices  # that is all of them


def test_a_part_is_compared_on_the_questions_that_were_asked_without_it() -> None:
    some = bare(POOR)[::3]
    (row,) = ablations(GOOD, {"own": some}, draws=50)
    assert row.queries == len(some)
    (same,) = ablations(GOOD[::3], {"own": some}, draws=50)
    assert row.metrics == same.metrics


def test_without_a_target_nothing_is_told() -> None:
    empty = [msgspec.structs.replace(one, targets=frozenset(), cold_targets=frozenset()) for one in GOOD]
    assert ablations(empty, {"own": bare(empty)}, draws=50) == ()


@dataclass
class Drafted:
    found: dict[str, object]


@pytest.mark.parametrize("ranker", [None, object()])
def test_each_part_that_answered_is_switched_off_in_turn(ranker: object) -> None:
    snapshot = Snapshot(None, None, ranker=ranker, channels=("own", "text", "new"))  # type: ignore[arg-type]
    less = dict(variants(snapshot, Drafted({"own": 1, "new": 1})))  # type: ignore[arg-type]
    assert list(less) == [*([RANKER] if ranker else []), "own", "new"]
    assert less["own"].channels == ("text", "new")
    assert less["own"].ranker is ranker
    if ranker:
        assert less[RANKER].ranker is None
        assert less[RANKER].channels == snapshot.channels
