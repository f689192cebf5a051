"""Counters that fade are the same in whatever order events arrive."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.stats import Counter, observe

HALF_LIVES_MS = (60_000.0, 86_400_000.0)
events = st.lists(
    st.tuples(st.integers(0, 40 * 86_400_000), st.floats(0.01, 100)),
    min_size=1,
    max_size=12,
)


def counted(several: list[tuple[int, float]]) -> Counter:
    counter: Counter | None = None
    for ts, weight in several:
        counter = observe(counter, ts, weight, HALF_LIVES_MS)
    assert counter is not None
    return counter


@given(events, st.data())
def test_any_order_of_events_gives_the_same_counter(several: list[tuple[int, float]], data: st.DataObject) -> None:
    one, other = counted(several), counted(data.draw(st.permutations(several)))
    assert one.ts == other.ts
    assert math.isclose(one.total, other.total, rel_tol=1e-9)
    for left, right in zip(one.faded, other.faded, strict=True):
        assert math.isclose(left, right, rel_tol=1e-9)


@given(events)
def test_a_counter_is_the_sum_it_stands_for(several: list[tuple[int, float]]) -> None:
    counter = counted(several)
    assert counter.ts == max(ts for ts, _ in several)
    assert math.isclose(counter.total, math.fsum(weight for _, weight in several), rel_tol=1e-9)
    for faded, half_life in zip(counter.faded, HALF_LIVES_MS, strict=True):
        wanted = math.fsum(weight * 2.0 ** (-(counter.ts - ts) / half_life) for ts, weight in several)
        assert math.isclose(faded, wanted, rel_tol=1e-9)


def test_one_half_life_halves() -> None:
    assert observe(Counter(0, 8.0, (8.0, 8.0)), 60_000, 0.0, (60_000.0, 30_000.0)).faded == (4.0, 2.0)


def test_a_late_event_adds_less_and_moves_no_time() -> None:
    counter = observe(Counter(60_000, 1.0, (1.0,)), 0, 1.0, (60_000.0,))
    assert counter == Counter(60_000, 2.0, (1.5,))


def test_a_century_fades_to_nothing() -> None:
    assert observe(Counter(0, 1.0, (1.0,)), 100 * 365 * 86_400_000, 2.0, (60_000.0,)).faded == (2.0,)


def test_other_half_lives_than_the_counter_has_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        observe(Counter(0, 1.0, (1.0,)), 1, 1.0, HALF_LIVES_MS)
