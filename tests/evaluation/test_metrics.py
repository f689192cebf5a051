from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evaluation.metrics import Answered, auc, gini, list_figures, measure, ranking
from tests.evaluation.answers import answered

LETTERS = "abcdefghijklmnopqrstuvwxyz"
lists = st.permutations(LETTERS).map("".join)
wanted = st.sets(st.sampled_from(LETTERS), min_size=1).map("".join)


def figures(*answers: Answered, depth: int = 100, **more: Any) -> dict[str, float]:
    return measure(answers, depth=depth, **more).means()


def test_every_figure_of_a_small_case_is_what_a_hand_computes() -> None:
    found = figures(answered("xaybz", "abc"))
    assert found["recall@10"] == pytest.approx(2 / 3)
    gain, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@10"] == pytest.approx(gain / ideal)
    assert found["mrr@20"] == pytest.approx(1 / 2)
    assert found["hit@10"] == 1.0


def test_recall_counts_hits_over_what_was_possible() -> None:
    many = LETTERS[:15]  # fifteen targets, ten places
    assert figures(answered(many, many))["recall@10"] == 1.0
    assert figures(answered(many[:5] + "z", many))["recall@10"] == pytest.approx(0.5)
    assert figures(answered(many[:5] + "z", many))["recall@20"] == pytest.approx(5 / 15)


def test_an_unanswered_query_scores_nothing_and_counts() -> None:
    found = figures(answered("a", "a", query_id="1"), answered("", "a", query_id="2"))
    assert found["ndcg@10"] == found["recall@10"] == found["mrr@20"] == found["hit@10"] == 0.5


def test_a_repeated_item_counts_in_its_first_place_only() -> None:
    assert ranking(answered("xaxab")) == ["x", "a", "b"]
    assert figures(answered("aaaa", "ab"))["recall@10"] == 0.5


def test_a_shown_list_is_ordered_as_answered_and_what_is_missing_comes_last_by_id() -> None:
    assert ranking(answered("zcq", shown=tuple("dcbz"))) == ["z", "c", "b", "d"]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    shown = tuple("abcd")
    assert figures(answered("abcd", "a", shown=shown))["auc"] == 1.0
    assert figures(answered("bacd", "a", shown=shown))["auc"] == pytest.approx(2 / 3)
    assert figures(answered("bcda", "a", shown=shown))["auc"] == 0.0


@pytest.mark.parametrize("marks", [[True, True], [False, False]])
def test_auc_without_a_pair_is_chance(marks: list[bool]) -> None:
    assert auc(np.array(marks)) == 0.5


def test_auc_and_retrieval_ask_only_the_queries_they_apply_to() -> None:
    free = answered("xy", "a", query_id="1", candidates=tuple("xya"))
    ordered = answered("ab", "a", query_id="2", shown=("a", "b"))
    found = figures(free, ordered)
    assert found["auc"] == 1.0
    assert found["retrieval recall@300"] == 1.0
    assert "auc" not in figures(free)
    assert "retrieval recall@100" not in figures(ordered)


def test_retrieval_recall_looks_at_the_first_hundred_and_three_hundred_candidates() -> None:
    candidates = tuple(f"i{n}" for n in range(300))
    one = Answered(
        query_id="q", shopper="s", ts=0, items=(), targets=frozenset({"i5", "i150", "gone"}), candidates=candidates
    )
    found = figures(one)
    assert found["retrieval recall@100"] == pytest.approx(1 / 3)
    assert found["retrieval recall@300"] == pytest.approx(2 / 3)


def test_recall_is_not_told_beyond_the_depth_that_was_asked_for() -> None:
    found = figures(answered("abc", "a"), depth=10)
    assert "recall@20" not in found
    assert "mrr@10" in found
    assert "mrr@20" not in found


def test_novelty_is_the_surprise_of_what_is_recommended() -> None:
    popularity = {"a": 4.0, "b": 2.0, "c": 2.0}
    assert figures(answered("ab"), popularity=popularity)["novelty@10"] == pytest.approx((1 + 2) / 2)
    assert figures(answered("z"), popularity=popularity)["novelty@10"] == pytest.approx(3.0)  # as of one event in eight


def test_popularity_lift_compares_what_is_recommended_with_what_was_wanted() -> None:
    popularity = {"a": 6.0, "b": 2.0}
    assert figures(answered("ab", "b"), popularity=popularity)["popularity lift@10"] == pytest.approx(2.0)


def test_list_figures_of_a_small_case() -> None:
    answers = [
        answered("ab", query_id="1", catalogue_size=4, latency_ms=1.0),
        answered("a", query_id="2", catalogue_size=4, latency_ms=3.0),
    ]
    found = list_figures(answers)
    assert found["coverage@10"] == 0.5
    assert found["gini@10"] == pytest.approx(gini(np.array([2.0, 1.0, 0.0, 0.0])))
    assert found["p50_ms"] == 2.0
    assert found["p99_ms"] == pytest.approx(2.98)


def test_coverage_never_passes_one_when_the_catalogue_has_shrunk() -> None:
    answers = [answered("abc", query_id="1", catalogue_size=2), answered("d", query_id="2", catalogue_size=2)]
    assert list_figures(answers)["coverage@10"] == 1.0


def test_what_was_not_told_is_not_in_the_figures() -> None:
    assert list_figures([answered("abc")]) == {}


def test_gini_of_one_item_that_takes_all_grows_towards_one() -> None:
    assert gini(np.array([1.0] + [0.0] * 999)) == pytest.approx(0.999)
    assert gini(np.zeros(5)) == 0.0


@given(targets=wanted, order=lists)
def test_a_perfect_list_scores_one(targets: str, order: str) -> None:
    rest = [item for item in order if item not in targets]
    found = figures(answered("".join([*targets, *rest]), targets, shown=tuple(order)))
    for name in ("ndcg@10", "recall@10", "recall@20", "recall@100", "mrr@20", "hit@10"):
        assert found[name] == pytest.approx(1.0)
    assert found["auc"] == (0.5 if len(targets) == len(LETTERS) else 1.0)


@given(targets=wanted, order=lists, tail=st.permutations(range(10, 26)))
def test_what_stands_below_the_tenth_place_does_not_matter(targets: str, order: str, tail: list[int]) -> None:
    other = order[:10] + "".join(order[n] for n in tail)
    ours, theirs = figures(answered(order, targets)), figures(answered(other, targets))
    for name in ("ndcg@10", "recall@10", "hit@10"):
        assert ours[name] == theirs[name]


@given(targets=wanted, order=lists, place=st.integers(0, 25))
def test_another_hit_never_lowers_a_figure(targets: str, order: str, place: int) -> None:
    assume(order[place] not in targets)
    missing = [item for item in targets if item not in order[:place]]
    assume(missing)
    better = order[:place] + missing[0] + order[place + 1 :]
    cut = [item for n, item in enumerate(better) if better.index(item) == n]
    ours, theirs = figures(answered("".join(cut), targets)), figures(answered(order, targets))
    assert all(ours[name] >= theirs[name] - 1e-12 for name in ("ndcg@10", "recall@10", "recall@20", "mrr@20", "hit@10"))


@given(targets=wanted, order=lists)
def test_every_accuracy_figure_lies_between_nothing_and_all(targets: str, order: str) -> None:
    found = figures(answered(order, targets, shown=tuple(LETTERS), candidates=tuple(order)))
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in found.values())
