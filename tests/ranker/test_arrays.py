from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.arrays import best, grown, sum_by_key

pairs = st.lists(st.tuples(st.integers(0, 40), st.floats(-100, 100, width=32)), max_size=60)
scored = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5000001, 2.0]), max_size=50)


@given(pairs, st.integers(0, 10))
def test_values_are_summed_by_key_whatever_stands_in_the_scratch(told: list[tuple[int, float]], dirt: int) -> None:
    expected: dict[int, float] = {}
    for key, value in told:
        expected[key] = expected.get(key, 0.0) + value
    keys = np.array([key for key, _ in told], np.int32)
    values = np.array([value for _, value in told], np.float32)
    found, sums = sum_by_key(keys, values, np.full(41, dirt, np.int64))
    assert len(found) == len(set(found.tolist()))
    assert dict(zip(found.tolist(), sums.tolist(), strict=True)) == pytest.approx(expected, abs=1e-3)


@given(scored, st.integers(0, 60), st.randoms(use_true_random=False))
def test_the_best_are_those_of_a_full_sort_and_ties_go_by_row(scores: list[float], count: int, random: object) -> None:
    rows = list(range(3, 3 + len(scores)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    expected = [row for _, row in sorted(zip([-one for one in scores], rows, strict=True))][:count]
    assert best(np.array(rows, np.int64), np.array(scores), count).tolist() == expected


def test_an_array_that_grows_keeps_what_it_holds_and_is_filled_up() -> None:
    assert grown(np.array([[1, 2], [3, 4]], np.int32), 3, -1).tolist() == [[1, 2], [3, 4], [-1, -1]]
