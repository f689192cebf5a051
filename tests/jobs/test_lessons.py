from typing import Any

import numpy as np
import pytest

from core.decision import Decision, Label
from jobs.lessons import GRADES, Lesson, collect, from_decisions
from tests.factories import T

POOL = ("a", "b", "c")
FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)


def decision(**fields: Any) -> Decision:
    known: dict[str, Any] = {"recommendation_id": "r", "ts": T, "shopper": "ida", "placement": "home", "bundle": "b1"}
    made: dict[str, Any] = {"ranker": "blend", "items": (), "pool": POOL, "schema": "s", "features": FEATURES.tobytes()}
    return Decision(**(known | made | fields))


def label(item: str, outcome: str, recommendation_id: str = "r") -> Label:
    return Label(1, recommendation_id, item, outcome, T + 1, 1, True)


def learnt(*labels: Label, **fields: Any) -> list[Lesson]:
    return list(from_decisions([decision(**fields)], {"r": labels} if labels else {}, "s"))


def test_a_decision_teaches_by_the_features_that_were_logged_with_it() -> None:
    (lesson,) = learnt(label("b", "buy"))
    assert lesson.ts == T
    assert lesson.features.tolist() == FEATURES.tolist()
    assert lesson.grades.tolist() == [0, 3, 0]


@pytest.mark.parametrize(("outcome", "grade"), GRADES.items())
def test_each_outcome_has_its_grade(outcome: str, grade: int) -> None:
    assert learnt(label("a", outcome))[0].grades.tolist() == [grade, 0, 0]


def test_the_strongest_of_what_followed_counts_in_any_order() -> None:
    acts = [label("a", outcome) for outcome in ("view", "buy", "cart", "click")]
    assert learnt(*acts)[0].grades.tolist() == learnt(*acts[::-1])[0].grades.tolist() == [3, 0, 0]


@pytest.mark.parametrize("outcome", ["dislike", "hide"])
def test_what_was_not_liked_is_not_wanted(outcome: str) -> None:
    assert learnt(label("a", outcome)) == []
    assert learnt(label("a", outcome), label("b", "view"))[0].grades.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "fields"),
    [
        ([], {}),
        ([label("z", "buy")], {}),  # missed: not among the candidates that were logged
        ([label(item, "view") for item in POOL], {}),  # all alike: no order to learn
        ([label("a", "buy")], {"schema": "other"}),
        ([label("a", "buy")], {"pool": (), "features": b""}),
        ([label("a", "buy")], {"recommendation_id": "other"}),
    ],
)
def test_some_decisions_teach_nothing(labels: list[Label], fields: dict[str, Any]) -> None:
    assert learnt(*labels, **fields) == []


def test_decisions_are_read_one_at_a_time() -> None:
    lessons = from_decisions((decision(ts=T + n) for n in range(10**9)), {"r": [label("a", "buy")]}, "s")
    assert [next(lessons).ts for _ in range(3)] == [T, T + 1, T + 2]


def test_a_block_for_the_trainer_holds_list_after_list() -> None:
    lessons = [Lesson(T, np.full((n, 2), n, np.float32), np.arange(n, dtype=np.int8)) for n in (2, 3)]
    block = collect(lessons)
    assert block.sizes.tolist() == [2, 3]
    assert block.features[:, 0].tolist() == [2, 2, 3, 3, 3]
    assert block.grades.tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(("grades", "teaches"), [([], False), ([0, 0], False), ([2, 2], False), ([0, 1], True)])
def test_a_list_teaches_where_something_was_wanted_more(grades: list[int], teaches: bool) -> None:
    lesson = Lesson(T, np.zeros((len(grades), 1), np.float32), np.array(grades, np.int8))
    assert lesson.teaches == teaches
