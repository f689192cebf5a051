import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import bootstrap
from evaluation.bootstrap import estimates, resampled_sums
from evaluation.metrics import Scores


def of(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Scores:
    column = np.asarray(values, dtype=np.float64)[:, None]
    return Scores(("x",), column, np.ones_like(column))


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.2, 2_000)
    found = estimates({"s": of(values)}, [f"s{n}" for n in range(2_000)])["s"]["x"].interval()
    half = 1.96 * values.std() / np.sqrt(2_000)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=half * 0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=half * 0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        found = estimates({"s": of(rng.normal(0.5, 0.2, 80))}, [str(n) for n in range(80)], 300)["s"]["x"].interval()
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_queries_of_one_shopper_are_drawn_together() -> None:
    """Ten equal queries a shopper say no more than one: the interval must not shrink."""
    values = np.random.default_rng(3).normal(0.3, 0.2, 200)
    once = estimates({"s": of(values)}, [str(n) for n in range(200)])["s"]["x"].interval()
    tenfold = estimates({"s": of(np.repeat(values, 10))}, [str(n) for n in range(200) for _ in range(10)])["s"]["x"]
    assert tenfold.interval().high - tenfold.interval().low == pytest.approx(once.high - once.low)


def test_a_constant_difference_has_no_width_however_much_queries_differ() -> None:
    base = np.random.default_rng(4).random(300)
    found = estimates({"a": of(base + 0.01), "b": of(base)}, [str(n) for n in range(300)])
    difference = (found["a"]["x"] - found["b"]["x"]).interval()
    assert (difference.low, difference.high) == pytest.approx((0.01, 0.01))
    assert found["a"]["x"].interval().high - found["a"]["x"].interval().low > 0.05


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    scores, shoppers = {"s": of(np.random.default_rng(5).random(100))}, [str(n) for n in range(100)]
    first, again, other = (estimates(scores, shoppers, 500, seed)["s"]["x"].interval() for seed in (7, 7, 8))
    assert first == again != other


def test_draws_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, shoppers = np.random.default_rng(6).random((50, 3)), [str(n % 20) for n in range(50)]
    whole = resampled_sums(shoppers, columns, 100, 1)
    monkeypatch.setattr(bootstrap, "BLOCK", 20 * 7)
    assert resampled_sums(shoppers, columns, 100, 1) == pytest.approx(whole)


def test_a_figure_that_few_queries_have_is_taken_over_the_draws_that_hold_one() -> None:
    scores = Scores(("x",), np.array([[0.4], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]]))
    assert estimates({"s": scores}, ["a", "b", "c"])["s"]["x"].interval() == bootstrap.Interval(0.4, 0.4, 0.4)


def test_a_ratio_of_sums_is_resampled_as_one() -> None:
    scores = Scores(("x",), np.array([[2.0], [6.0]]), np.array([[1.0], [2.0]]))
    found = estimates({"s": scores}, ["a", "b"])["s"]["x"]
    assert found.point == pytest.approx(8 / 3)
    assert set(np.round(found.drawn, 6)) == {2.0, 3.0, 2.666667}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 10))
def test_an_interval_lies_within_what_was_observed(values: list[float], shoppers: int) -> None:
    found = estimates({"s": of(values)}, [str(n % shoppers) for n in range(len(values))], 50)["s"]["x"].interval()
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_three_thousand_queries_and_two_thousand_draws_take_less_than_a_second() -> None:
    columns, shoppers = np.random.default_rng(8).random((3_000, 20)), [str(n) for n in range(3_000)]
    before = time.process_time()
    resampled_sums(shoppers, columns, 2_000, 7)
    assert time.process_time() - before < 1.0
