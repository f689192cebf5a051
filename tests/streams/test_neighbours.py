import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import NeighbourSettings
from core.stats import Circle, Neighbours, Signal
from streams.neighbours import meet
from tests.factories import DAY, T

SETTINGS = NeighbourSettings(half_life_s=86_400.0, kept=4)


def met(*signals: Signal, settings: NeighbourSettings = SETTINGS) -> Neighbours:
    state = Neighbours()
    for signal in signals:
        state, said = meet(state, signal, settings)
        assert not said
    return state


def together(*partners: str, ts: int = T, weight: float = 1.0, fresh: bool = True, relation: str = "bought") -> Signal:
    return Signal(1, "tea", "buy", ts, 1.0, 0.0, relation, partners, weight, fresh)


def weights_at(circle: Circle, ts: int, half_life_ms: float = DAY) -> dict[str, float]:
    """What the stored weights are worth at a moment."""
    scale = 2.0 ** -((ts - circle.epoch) / half_life_ms)
    return {item: weight * scale for item, weight in circle.weights.items()} | {"": circle.total * scale}


def test_a_pair_fades_to_half_in_a_half_life() -> None:
    circle = met(together("cup"), together("cup", "milk", ts=T + DAY)).circles["bought"]
    assert weights_at(circle, T + DAY) == pytest.approx({"cup": 1.5, "milk": 1.0, "": 1.5})
    assert weights_at(circle, T + 3 * DAY) == pytest.approx({"cup": 0.375, "milk": 0.25, "": 0.375})


def test_the_total_counts_baskets_and_not_signals() -> None:
    circle = met(together("cup"), together("milk", fresh=False), together()).circles["bought"]
    assert circle.total == 2.0
    assert circle.weights == {"cup": 1.0, "milk": 1.0}


def test_the_relations_are_kept_apart() -> None:
    state = met(together("cup", relation="seen"), together("milk", relation="carted", weight=0.5))
    assert {name: circle.weights for name, circle in state.circles.items()} == {
        "seen": {"cup": 1.0}, "carted": {"milk": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize("signal", [Signal(1, "tea", "like", T), together(fresh=False), together("cup", relation="")])
def test_a_signal_that_names_nobody_changes_nothing(signal: Signal) -> None:
    state = met(together("cup"))
    assert meet(state, signal, SETTINGS)[0] is state


def test_the_heaviest_neighbours_are_kept() -> None:
    heavy = [together(name, ts=T + n) for n, name in enumerate("aabbccdd")]
    state = met(*heavy, *[together(f"i{n}", ts=T + 9 + n) for n in range(50)])
    weights = state.circles["bought"].weights
    assert len(weights) <= 2 * SETTINGS.kept
    assert set("abcd") <= weights.keys()


def test_neighbours_that_weigh_the_same_are_bounded_too_and_the_newest_stay() -> None:
    weights = met(*[together(f"i{n}") for n in range(50)]).circles["bought"].weights
    assert len(weights) <= 2 * SETTINGS.kept
    assert "i49" in weights
    assert "i0" not in weights


def test_a_late_pair_weighs_what_is_left_of_it() -> None:
    early, late = together("cup", ts=T), together("milk", ts=T + 2 * DAY)
    for order in ((early, late), (late, early)):
        assert weights_at(met(*order).circles["bought"], T + 2 * DAY) == pytest.approx(
            {"cup": 0.25, "milk": 1, "": 1.25}
        )


@pytest.mark.parametrize("days", [399, 401, 5_000, 20_000])
def test_after_any_time_weights_stay_finite_and_what_faded_to_nothing_is_forgotten(days: int) -> None:
    state = met(together("cup"), together("milk", ts=T + days * DAY), together("milk", ts=T + (days + 1) * DAY))
    circle = state.circles["bought"]
    assert all(math.isfinite(weight) and weight > 0 for weight in (*circle.weights.values(), circle.total))
    assert weights_at(circle, T + (days + 1) * DAY)["milk"] == pytest.approx(1.5)
    assert ("cup" in circle.weights) == (days < 1_000)


def test_a_pair_from_long_before_the_epoch_does_no_harm() -> None:
    circle = met(together("cup", ts=T), together("milk", ts=0)).circles["bought"]
    assert circle.weights["cup"] == 1.0
    assert 0 <= circle.weights["milk"] < 1e-100


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcdefgh")), min_size=1, max_size=30), st.randoms())
def test_weights_are_the_faded_sums_in_any_order_while_nothing_is_dropped(
    told: list[tuple[int, str]], random: Any
) -> None:
    roomy = NeighbourSettings(half_life_s=86_400.0, kept=20)
    now = T + 30 * DAY
    wanted = {"": sum(2.0 ** (day - 30) for day, _ in told)}
    for day, name in told:
        wanted[name] = wanted.get(name, 0.0) + 2.0 ** (day - 30)
    shuffled = random.sample(told, len(told))
    circle = met(*[together(name, ts=T + day * DAY) for day, name in shuffled], settings=roomy).circles["bought"]
    assert weights_at(circle, now) == pytest.approx(wanted)
