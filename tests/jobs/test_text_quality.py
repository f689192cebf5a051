import numpy as np
import pytest

from jobs.pairs import Histories, Touch
from jobs.text_quality import Kernel, Question, figure, gains, ndcg, questions, ranks, recall

ROWS = {name: row for row, name in enumerate("abcdef")}


def unit(*rows: tuple[float, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    vectors = np.array(rows, np.float32)
    found: np.ndarray[tuple[int, int], np.dtype[np.float32]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def question(history: list[int], target: int) -> Question:
    return Question("ida", np.array(history), np.ones(len(history), np.float32), target)


def test_the_place_is_counted_among_what_is_not_in_the_history_and_ties_go_against_it() -> None:
    vectors = unit((1, 0), (1, 0.1), (1, 0.2), (1, 0.2), (0, 1))
    asked = [question([0], 1), question([0, 1], 2), question([0], 4)]
    for kernel in (Kernel(), Kernel(width=0.1)):
        assert ranks(vectors, asked, kernel).tolist() == [0, 1, 3]


def test_a_mean_looks_between_two_tastes_and_a_kernel_at_each() -> None:
    vectors = unit((1, 0, 0), (0, 1, 0), (1, 1, 0), (0.9, 0, 0.1))
    asked = [question([0, 1], 2)]
    assert ranks(vectors, asked, Kernel(fade=1.0)).tolist() == [0]
    assert ranks(vectors, asked, Kernel(fade=1.0, width=0.05)).tolist() == [1]


def test_newer_items_of_a_history_count_more_and_those_beyond_the_limit_not_at_all() -> None:
    vectors = unit((1, 0), (0, 1), (0.9, 0.4), (0.4, 0.9))
    assert ranks(vectors, [question([0, 1], 2), question([1, 0], 2)], Kernel(fade=0.5)).tolist() == [0, 1]
    assert ranks(vectors, [question([0, 1], 2)], Kernel(items=1)).tolist() == [0]


def test_questions_ask_for_the_first_new_item_of_who_was_there_before() -> None:
    found = Histories(
        {
            "ida": [Touch(1, "a", 1), Touch(2, "b", 5), Touch(10, "a", 1), Touch(11, "c", 1), Touch(12, "d", 1)],
            "new": [Touch(10, "a", 1), Touch(11, "b", 1)],
            "old": [Touch(1, "a", 1)],
            "late": [Touch(1, "a", 1), Touch(20, "b", 1)],
        }
    )
    asked = questions(found, ROWS, 10, 20)
    assert [(one.shopper, one.history.tolist(), one.target) for one in asked] == [("ida", [1, 0], 2)]
    assert asked[0].weights.tolist() == pytest.approx(np.log1p([5, 1]).tolist())


def test_more_questions_than_wanted_are_thinned_out() -> None:
    found = Histories({f"s{n}": [Touch(1, "a", 1), Touch(10, "b", 1)] for n in range(50)})
    assert len(questions(found, ROWS, 5, 20, most=20)) == 17


def test_measures_of_known_places() -> None:
    places = np.array([0, 2, 9, 10, 150])
    assert recall(places, 10).tolist() == [1, 1, 1, 0, 0]
    assert ndcg(places, 10).tolist() == pytest.approx([1, 0.5, 1 / np.log2(11), 0, 0])
    assert (ndcg(places) > 0).all()
    assert gains(places, places)["recall@100"].gain == (0, 0, 0)


def test_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    found = figure(values)
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
