from itertools import pairwise
from typing import Any

import msgspec
import pytest

from core.errors import BadInput
from evaluation.bootstrap import Interval
from evaluation.compare import aligned, compare, intervals, paired
from evaluation.metrics import measure
from tests.evaluation.answers import answered, random_answers

GOOD, FAIR, POOR = (random_answers(skill, seed=n) for n, skill in enumerate((0.5, 0.3, 0.0)))
SYSTEMS = {"headwater": GOOD, "fair": FAIR, "poor": POOR}
FOUND = compare(SYSTEMS, "headwater", popularity={"i1": 3.0}, draws=300)


def changed(answers: list[Any], **more: Any) -> list[Any]:
    return [msgspec.structs.replace(answers[0], **more), *answers[1:]]


def test_rows_hold_the_means_of_the_metrics() -> None:
    [row] = [row for row in FOUND.rows if row.system == "fair"]
    means = measure(FAIR, depth=100).means()
    assert {name: row.metrics[name].mean for name in means} == pytest.approx(means)
    assert row.lists["coverage@10"] > 0.9


def test_a_better_system_is_found_better_and_the_strongest_other_is_the_reference() -> None:
    assert FOUND.reference == "fair"
    by = {one.reference: one.metrics["ndcg@10"] for one in FOUND.differences}
    assert by.keys() == {"fair", "poor"}
    assert 0 < by["fair"].low < by["fair"].mean < by["fair"].high < by["poor"].low


def test_a_difference_is_the_difference_of_the_means_and_turns_with_its_sides() -> None:
    there, back = paired(GOOD, FAIR, draws=300), paired(FAIR, GOOD, draws=300)
    assert there["ndcg@10"].mean == pytest.approx(intervals(GOOD)["ndcg@10"].mean - intervals(FAIR)["ndcg@10"].mean)
    assert (there["ndcg@10"].low, there["ndcg@10"].high) == pytest.approx((-back["ndcg@10"].high, -back["ndcg@10"].low))


def test_a_system_is_not_better_than_itself() -> None:
    assert paired(GOOD, GOOD, draws=50)["ndcg@10"] == Interval(0.0, 0.0, 0.0)


def test_equal_skill_is_told_apart_no_more_often_than_the_interval_allows() -> None:
    told = 0
    for seed in range(20):
        one, other = (random_answers(0.3, seed=n, queries=120) for n in (100 + seed, 200 + seed))
        found = paired(one, other, draws=300)["ndcg@10"]
        told += found.low > 0 or found.high < 0
    assert told <= 4


def test_slices_name_their_queries_and_their_strongest_other() -> None:
    names = [part.name for part in FOUND.slices]
    assert names == ["first-time shoppers", "heavy shoppers", "items new to the shopper", "cold items"]
    first = FOUND.slices[0]
    assert first.queries == 75
    assert {one.reference for one in first.differences} == {"fair", "poor"}
    assert first.reference == "fair"


def test_a_slice_that_is_everything_is_left_out() -> None:
    fresh = [msgspec.structs.replace(a, first_time=True, bought=frozenset(), cold_targets=frozenset()) for a in GOOD]
    assert compare({"headwater": fresh}, "headwater", draws=20).slices == ()


def test_windows_follow_each_other_and_hold_every_query() -> None:
    windows = FOUND.windows
    assert len(windows) == 3
    assert sum(window.queries for window in windows) == FOUND.queries == 300
    assert all(one.end < other.start for one, other in pairwise(windows))
    mean = sum(window.queries * window.systems["fair"].mean for window in windows) / 300
    assert mean == pytest.approx(intervals(FAIR)["ndcg@10"].mean)


def test_queries_of_one_moment_have_no_course() -> None:
    same = [msgspec.structs.replace(a, ts=5) for a in GOOD]
    assert compare({"headwater": same}, "headwater", draws=20).windows == ()


def test_answers_may_come_in_any_order() -> None:
    assert compare(SYSTEMS | {"fair": FAIR[::-1]}, "headwater", popularity={"i1": 3.0}, draws=300) == FOUND


def test_queries_without_a_target_are_asked_but_not_scored() -> None:
    found = compare({"headwater": [*GOOD, answered(targets="", query_id="none")]}, "headwater", draws=20)
    assert (found.asked, found.queries) == (301, 300)


def test_recall_is_told_as_deep_as_the_deepest_system() -> None:
    short = [msgspec.structs.replace(a, items=a.items[:10]) for a in POOR]
    found = compare({"headwater": GOOD, "short": short}, "headwater", draws=20)
    assert all("recall@100" in row.metrics for row in found.rows)
    assert "recall@20" not in compare({"short": short}, "short", draws=20).rows[0].metrics


def test_a_named_reference_stays_the_one_to_beat() -> None:
    found = compare(SYSTEMS, "headwater", reference="poor", draws=20)
    assert {found.reference, *(part.reference for part in found.slices)} == {"poor"}


@pytest.mark.parametrize(
    ("systems", "told"),
    [
        ({"headwater": GOOD, "b": GOOD[1:]}, "'q0'"),
        ({"headwater": GOOD, "b": [*GOOD, GOOD[0]]}, "once"),
        ({"headwater": GOOD, "b": changed(GOOD, targets=frozenset("z"))}, "'q0'"),
        ({"headwater": GOOD, "b": changed(GOOD, shopper="another")}, "'q0'"),
    ],
)
def test_systems_that_were_asked_different_things_are_refused(systems: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        aligned(systems)


def test_an_unknown_system_and_nothing_to_score_are_refused() -> None:
    with pytest.raises(BadInput, match="no system 'best'; there are headwater, fair, poor"):
        compare(SYSTEMS, "best")
    with pytest.raises(BadInput, match="no system 'best'"):
        compare(SYSTEMS, "headwater", reference="best")
    with pytest.raises(BadInput, match="none of the 1 queries has a target"):
        compare({"headwater": [answered(targets="")]}, "headwater")
