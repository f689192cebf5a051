import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Corrupt
from jobs.gate import Measured, Score, Verdict, decide, interval, judge, measure, ndcg, save, verdict_of
from jobs.lessons import Lesson, marks_of
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


# ---------------------------------------------------------------------- what else is compared
def measured(**fields: Any) -> Measured:
    """Sixty lists that are worth half, of a side that shows a hundred items."""
    known: dict[str, Any] = {
        "ndcg": np.full(60, 0.5), "recall": np.full(60, 0.8), "cold": np.full(60, 0.3),
        "popularity": np.full(60, 40.0), "covered": 100, "ms": 2.0,
    }  # fmt: skip
    return Measured(**(known | fields))


BETTER = np.full(60, 0.55)
SHOPPERS = [f"s{n // 2}" for n in range(60)]


def verdict(broken: Sequence[str] = (), *, guarded: bool = True, **fields: Any) -> Verdict:
    ours = measured(**({"ndcg": BETTER} | fields))
    return decide(ours, measured(), SHOPPERS, "b0", broken=broken, guarded=guarded)


def test_one_that_is_better_and_costs_nothing_is_promoted() -> None:
    found = verdict()
    assert (found.result, found.promote) == ("promoted", True)
    assert found.figures["recall"] == (0.8, 0.8)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"recall": np.full(60, 0.7)}, "recall of all candidates -0.1000 [-0.1000, -0.1000]"),
        ({"covered": 94}, "it shows 94 different items instead of 100"),
        ({"cold": np.full(60, 0.28)}, "recall@10 of cold items 0.2800 instead of 0.3000"),
        ({"popularity": np.full(60, 45.0)}, "the mean popularity of what it shows is 45.0 instead of 40.0"),
        ({"ms": 6.0}, "an answer takes 6.0 ms instead of 2.0 ms"),
    ],
)
def test_what_is_better_but_costs_something_waits_for_a_person(fields: dict[str, Any], why: str) -> None:
    found = verdict(**fields)
    assert (found.result, found.promote) == ("held", False)
    assert found.why.startswith(f"better, but {why}: NDCG@10 +0.0500")
    assert verdict(guarded=False, **fields).result == "promoted"  # the first ranker


@pytest.mark.parametrize(
    "fields",
    [
        {"recall": np.full(60, 0.799)},
        {"covered": 95},
        {"cold": np.concatenate([np.full(29, 0.0), np.full(31, np.nan)])},  # too few to say
        {"popularity": np.full(60, 43.9)},
        {"ms": 2.9},  # slower, and fast enough
    ],
)
def test_a_little_less_is_let_through(fields: dict[str, Any]) -> None:
    assert verdict(**fields).result == "promoted"


def test_what_is_not_better_is_refused_whatever_else_it_gives() -> None:
    found = verdict(ndcg=np.full(60, 0.49), covered=500)
    assert (found.result, found.why.split(":")[0]) == ("refused", "not better")


def test_what_is_broken_is_refused_however_good_it_looks() -> None:
    found = verdict(["the vectors have collapsed"])
    assert found.result == "refused"
    assert found.why.startswith("broken, the vectors have collapsed: NDCG@10 +0.0500")


def test_lists_of_one_shopper_are_one_proof() -> None:
    """Twenty lists of each of three shoppers tell what three shoppers tell, not sixty."""
    gains = np.repeat([0.3, -0.1, -0.1], 20)
    alone, together = interval(gains, [""] * 60), interval(gains, np.repeat(["a", "b", "c"], 20).tolist())
    assert alone[0] == together[0] == pytest.approx(1 / 30)
    assert together[1] < alone[1] < alone[2] < together[2]
    assert together[1] == pytest.approx(-0.1)


def test_lists_of_which_a_measure_says_nothing_do_not_count() -> None:
    values = np.array([0.1, np.nan, 0.3, np.nan])
    assert interval(values, ["a", "a", "b", "c"])[0] == pytest.approx(0.2)
    assert interval(np.full(3, np.nan), ["a", "b", "c"]) == (0.0, 0.0, 0.0)


def test_what_is_popular_now_is_the_least_that_has_to_be_beaten() -> None:
    names = ("known", "noise", "trending_score")
    found = judge(by(1), by(1, -1.0), lessons(80, wanted=2), "b0", names)
    assert found.result == "refused"
    assert "what is popular now is worth 0." in found.why
    assert judge(by(0), by(1), lessons(80, wanted=0), "b0", names).result == "promoted"


def test_cold_items_and_popularity_are_read_from_the_features() -> None:
    used = np.log1p(np.array([[0.0, 0.0], [5.0, 3.0], [1.0, 0.0]], np.float32))
    lesson = Lesson(T, used, np.array([1, 0, 0], np.int8), "s", marks_of(["a", "b", "c"]))
    found = measure(by(0), [lesson], ("view_ever", "buy_ever"))
    assert found.cold.tolist() == [1.0]
    assert found.popularity.tolist() == [pytest.approx(3.0)]
    assert found.covered == 3


def test_a_verdict_is_kept_beside_its_bundle(tmp_path: Path) -> None:
    assert verdict_of(tmp_path) is None
    save(tmp_path, verdict(covered=1))
    assert verdict_of(tmp_path) == verdict(covered=1)
    (tmp_path / "verdict.json").write_text("{")
    with pytest.raises(Corrupt):
        verdict_of(tmp_path)
