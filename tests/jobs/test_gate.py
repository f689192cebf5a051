import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.gate import Score, judge, ndcg
from jobs.lessons import Lesson
from ranker.arrays import Floats
from tests.factories import T, lessons


def by(column: int, sign: float = 1.0) -> Score:
    return lambda features: sign * features[:, column]


def alike(features: Floats) -> Floats:
    return np.zeros(len(features), np.float32)


def listed(grades: list[int], scores: list[float]) -> Lesson:
    return Lesson(T, np.array(scores, np.float32)[:, None], np.array(grades, np.int8))


KNOWING, IGNORANT, OTHER = by(0), by(1), by(2)  # column 0 tells the grades of `lessons`


@pytest.mark.parametrize(
    ("challenger", "champion", "better"),
    [(KNOWING, IGNORANT, True), (IGNORANT, KNOWING, False), (KNOWING, by(0, -1.0), True), (KNOWING, alike, True)],
)
def test_the_one_that_knows_more_takes_over(challenger: Score, champion: Score, better: bool) -> None:
    verdict = judge(challenger, champion, lessons(60), "the blend")
    mean, low, high = verdict.difference
    assert verdict.promote == better
    assert low <= mean <= high
    assert (mean > 0) == better
    assert mean == pytest.approx(verdict.challenger - verdict.champion)
    assert verdict.why.startswith("better: " if better else "not better: ")
    assert "against the blend on 60 newer lists" in verdict.why


def test_a_ranker_does_not_take_over_from_itself() -> None:
    verdict = judge(KNOWING, KNOWING, lessons(60), "the same")
    assert not verdict.promote
    assert verdict.difference == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_seldom_sure_enough_to_take_over(seed: int) -> None:
    assert not judge(OTHER, IGNORANT, lessons(40, seed=seed), "noise").promote


def test_a_gain_on_too_few_lists_is_not_sure_enough() -> None:
    few = [listed([3, 0, 0], [1, 0, 0]), listed([0, 3, 0], [1, 0, 0]), listed([3, 0, 0], [1, 0.5, 0])]
    verdict = judge(by(0), lambda features: -features[:, 0], few, "its opposite")
    assert verdict.difference[0] > 0
    assert verdict.difference[1] < -0.005
    assert not verdict.promote


def test_the_same_lists_give_the_same_verdict() -> None:
    assert judge(KNOWING, OTHER, lessons(30), "x") == judge(KNOWING, OTHER, lessons(30), "x")


# ---------------------------------------------------------------------- NDCG@10
def test_the_best_order_is_worth_one() -> None:
    assert ndcg(listed([0, 3, 1, 2], [0.1, 0.9, 0.2, 0.5]), by(0)) == pytest.approx(1.0)


def test_gains_grow_with_the_grade_and_places_count_by_their_logarithm() -> None:
    got = 1 + 7 / math.log2(3)
    best = 7 + 1 / math.log2(3)
    assert ndcg(listed([1, 3, 0], [3, 2, 1]), by(0)) == pytest.approx(got / best)


def test_what_stands_behind_the_tenth_place_is_worth_nothing() -> None:
    assert ndcg(listed([0] * 10 + [3], list(range(11, 0, -1))), by(0)) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=6))
def test_of_equal_scores_every_order_is_as_likely(rows: list[tuple[int, int]]) -> None:
    grades, scores = [grade for grade, _ in rows], [float(score) for _, score in rows]
    if not any(grades):
        grades[0] = 1
    orders = [
        order
        for order in itertools.permutations(range(len(rows)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    each = [ndcg(listed([grades[n] for n in order], list(range(len(rows), 0, -1))), by(0)) for order in orders]
    assert ndcg(listed(grades, scores), by(0)) == pytest.approx(np.mean(each))


@given(st.permutations(range(8)))
def test_it_does_not_matter_in_what_order_a_lesson_names_its_rows(order: list[int]) -> None:
    grades, scores = [3, 2, 1, 0, 0, 0, 0, 0], [1.0, 1.0, 3.0, 1.0, 2.0, 2.0, 0.0, 0.0]
    moved = listed([grades[n] for n in order], [scores[n] for n in order])
    assert ndcg(moved, by(0)) == pytest.approx(ndcg(listed(grades, scores), by(0)))
