from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange, parse_change
from core.settings import PopularitySettings
from core.stats import CATEGORY, SIGNALS, ItemStats, Signal
from streams.popularity import count, half_lives_ms
from streams.profile import Output
from tests.factories import DAY, HOUR, T, World, event, item

LIVES = half_lives_ms(PopularitySettings(half_lives_s=(3_600.0, 86_400.0)))


def signal(name: str, ts: int = T, **fields: Any) -> Signal:
    return Signal(1, "tea", name, ts, **fields)


def counted(*messages: Signal | ItemChange, state: ItemStats | None = None) -> tuple[ItemStats, list[Output]]:
    state, said = state or ItemStats(), list[Output]()
    for message in messages:
        state, outputs = count(state, message, LIVES)
        said += outputs
    return state, said


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_has_a_counter_of_its_own(name: str) -> None:
    state, _ = counted(signal(name), signal(name, T + HOUR))
    assert state.counters.keys() == {name}
    assert state.counters[name].total == 2.0
    assert state.counters[name].faded == pytest.approx((1.5, 1 + 2 ** (-1 / 24)))


def test_a_signal_without_a_name_counts_nothing() -> None:
    state = counted(signal("view"))[0]
    assert counted(signal("", partners=("cup",), relation="seen"), state=state)[0] is state


def test_use_is_what_a_shopper_did_and_not_what_was_shown_or_sent_back() -> None:
    state, _ = counted(
        signal("shown", T - DAY), signal("view", T), signal("buy", T + 1), signal("buy", T + 2),
        signal("refund", T + DAY), signal("like", T + DAY), signal("again", T + DAY),
    )  # fmt: skip
    assert (state.first, state.last, state.first_buy, state.last_buy) == (T, T + 2, T + 1, T + 2)


def test_the_price_is_the_newest_that_was_named() -> None:
    state, _ = counted(signal("view", price=2.0), signal("buy", T + 2, price=3.0), signal("view", T + 3))
    assert state.price == 3.0
    assert counted(signal("buy", T + 1, price=9.0), state=state)[0].price == 3.0


def test_an_event_is_told_to_every_category_and_counted_there_alike() -> None:
    change = parse_change({"item_id": "tea", "ts": T, "categories": ["Food > Drink", "Food > Gifts"]})
    state, said = counted(change, signal("buy", price=4.0))
    assert [output.key for output in said] == [CATEGORY + name for name in ("Food", "Food > Drink", "Food > Gifts")]
    assert all(output.topic == "item-signals" for output in said)
    told = said[0].value
    assert isinstance(told, Signal)
    category, further = counted(told)
    assert category.counters == state.counters
    assert further == []


def test_a_category_hears_of_all_its_items_and_has_no_pairs() -> None:
    world = World().take(item("green", category="Tea > Green"), item("black", category="Tea"))
    world.take(event("view_item", "green"), event("view_item", "black", ts=T + 1), event("purchase", "black", ts=T + 2))
    views = {key: world.state("popularity", CATEGORY + key).counters["view"].total for key in ("Tea", "Tea > Green")}
    assert views == {"Tea": 2.0, "Tea > Green": 1.0}
    assert world.state("popularity", CATEGORY + "Tea").counters["buy"].total == 1.0
    assert not world.state("neighbours", CATEGORY + "Tea").circles


def test_an_item_that_moves_is_counted_in_its_new_categories_from_then_on() -> None:
    world = World().take(item("tea", category="Old"), event("view_item", "tea"))
    world.take(item("tea", ts=T, category="New"), event("view_item", "tea", ts=T + 1))
    assert [world.state("popularity", CATEGORY + key).counters["view"].total for key in ("Old", "New")] == [1.0, 1.0]


@pytest.mark.parametrize("change", [{"price": 3}, {"category": "Tea"}, {"removed": True}])
def test_a_change_that_moves_no_category_changes_nothing(change: dict[str, Any]) -> None:
    state, _ = counted(parse_change({"item_id": "tea", "ts": T, "category": "Tea"}))
    assert counted(parse_change({"item_id": "tea", "ts": T + 1} | change), state=state)[0] is state


@given(st.lists(st.tuples(st.sampled_from(SIGNALS), st.integers(0, 40 * DAY)), min_size=1, max_size=20), st.randoms())
def test_counters_do_not_depend_on_the_order_of_arrival(told: list[tuple[str, int]], random: Any) -> None:
    signals = [signal(name, T + at) for name, at in told]
    shuffled = random.sample(signals, len(signals))
    one, other = counted(*signals)[0], counted(*shuffled)[0]
    assert one.counters.keys() == other.counters.keys()
    for name, counter in one.counters.items():
        assert (counter.ts, counter.total) == (other.counters[name].ts, other.counters[name].total)
        assert counter.faded == pytest.approx(other.counters[name].faded, rel=1e-9)
    bounds = [(state.first, state.last, state.first_buy, state.last_buy) for state in (one, other)]
    assert bounds[0] == bounds[1]
