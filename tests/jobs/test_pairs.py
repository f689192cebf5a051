from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import Event
from core.settings import TuningSettings
from jobs.pairs import TOO_MANY, Histories, histories, pairs
from models.pairs import Pairs
from tests.factories import DAY, HOUR, MINUTE, T, event

NAMES = [f"i{n}" for n in range(12)]
ROWS = {name: row for row, name in enumerate(NAMES)}
EVER = TuningSettings(half_life_s=1e12)


def seen(*events: Event, before_ms: int = T + 100 * DAY) -> Histories:
    return histories(events, before_ms)


def weights(found: Histories, tuning: TuningSettings = EVER, **more: Any) -> dict[tuple[str, str], float]:
    """Weight by pair of names, in the order of the alphabet."""
    made = pairs(found, ROWS, tuning, now_ms=more.pop("now_ms", T + 100 * DAY), **more)
    return by_name(made)


def by_name(made: Pairs) -> dict[tuple[str, str], float]:
    told = zip(made.anchors().tolist(), made.targets.tolist(), made.weights.tolist(), strict=True)
    return {(NAMES[a], NAMES[b]): weight for a, b, weight in told if a < b}


def visit(*items: str, who: str = "ida", ts: int = T, name: str = "view_item") -> list[Event]:
    return [event(name, item, ts=ts + n * MINUTE, user_id=who) for n, item in enumerate(items)]


def test_what_comes_shortly_after_an_item_goes_with_it_the_nearer_the_more() -> None:
    found = weights(seen(*visit("i0", "i1", "i2", "i3", "i4")))
    assert found["i0", "i1"] > found["i0", "i2"] > found["i0", "i3"] > 0
    assert ("i0", "i4") not in found


def test_a_pair_weighs_more_the_more_was_done_and_the_newer_it_is() -> None:
    bought = weights(seen(*visit("i0"), *visit("i1", ts=T + HOUR, name="purchase")))["i0", "i1"]
    viewed = weights(seen(*visit("i0"), *visit("i1", ts=T + HOUR)))["i0", "i1"]
    assert bought > 2 * viewed
    ageing = TuningSettings(half_life_s=10 * DAY / 1000)
    old, new = (
        weights(seen(*visit("i0", "i1", ts=T + at * DAY)), ageing, now_ms=T + 50 * DAY)["i0", "i1"] for at in (10, 20)
    )
    assert new == pytest.approx(2 * old, rel=1e-3)


def test_two_visits_far_apart_count_less_than_one() -> None:
    near = weights(seen(*visit("i0"), *visit("i1", ts=T + HOUR)))["i0", "i1"]
    far = weights(seen(*visit("i0"), *visit("i1", ts=T + 3 * DAY)))["i0", "i1"]
    assert 0 < far < near


def test_all_items_of_a_basket_go_together_and_a_large_basket_says_less_of_each() -> None:
    small = weights(seen(event("purchase", "i0", "i1")))
    large = weights(seen(event("purchase", *NAMES)))
    assert set(large) == {(a, b) for a in NAMES for b in NAMES if a != b and ROWS[a] < ROWS[b]}
    assert large["i0", "i1"] < small["i0", "i1"]


def test_shoppers_do_not_mix() -> None:
    found = weights(seen(*visit("i0", "i1"), *visit("i2", "i3", who="max", ts=T + 1)))
    assert set(found) == {("i0", "i1"), ("i2", "i3")}


@pytest.mark.parametrize("name", ["dislike", "hide", "refund"])
def test_what_is_refused_is_in_no_pair_of_that_shopper_and_held_against_what_was_liked(name: str) -> None:
    found = seen(*visit("i0", "i1", "i2"), event(name, "i1", ts=T + DAY), *visit("i0", "i1", who="max"))
    made = pairs(found, ROWS, EVER, now_ms=T + 2 * DAY)
    assert set(by_name(made)) == {("i0", "i2"), ("i0", "i1")}  # max's own pair stays
    assert made.unwanted(np.array([0, 1, 2]))[1].tolist() == [1]  # of i2; i0 and i1 go together for max


def test_high_ratings_are_likes_and_low_ones_are_refusals() -> None:
    high, low, middle = (seen(*visit("i0"), event("rating", "i1", ts=T + HOUR, rating=stars)) for stars in (5, 1, 3))
    assert set(weights(high)) == {("i0", "i1")}
    assert weights(low) == weights(middle) == {}
    assert pairs(low, ROWS, EVER, now_ms=T + DAY).unwanted(np.array([0]))[1].tolist() == [1]


def test_an_event_that_comes_twice_counts_once() -> None:
    events = visit("i0", "i1", "i2")
    found = seen(*events, *events)
    assert weights(found) == weights(seen(*events))
    assert found.repeated == 3


def test_whoever_is_too_quick_is_no_shopper() -> None:
    bot = [event("view_item", NAMES[n % 12], ts=T + n * 100, user_id="bot") for n in range(TOO_MANY + 1)]
    slow = [event("view_item", NAMES[n % 12], ts=T + n * MINUTE, user_id="max") for n in range(TOO_MANY + 1)]
    found = seen(*bot, *slow)
    assert [who for who, _ in found.shoppers()] == ["max"]
    assert weights(found) == weights(seen(*slow))
    showed_ms = T + TOO_MANY * 100
    assert [dict(found.before(at).shoppers()).keys() for at in (showed_ms, showed_ms + 1)] == [{"bot", "max"}, {"max"}]


def test_a_large_basket_is_no_sign_of_a_bot() -> None:
    names = [f"x{n}" for n in range(TOO_MANY + 50)]
    assert len(dict(seen(event("purchase", *names)).shoppers())["ida"]) == len(names)


def test_one_item_of_one_day_weighs_so_much_and_no_more() -> None:
    def crowd(count: int) -> dict[tuple[str, str], float]:
        events = [one for n in range(count) for one in visit("i0", "i1", who=f"s{n}", name="purchase")]
        return weights(seen(*events))

    assert crowd(20)["i0", "i1"] == pytest.approx(2 * crowd(10)["i0", "i1"])
    assert crowd(400)["i0", "i1"] == pytest.approx(crowd(200)["i0", "i1"])


def test_older_pairs_get_their_share_beside_new_ones() -> None:
    events = [*visit("i0", "i1"), *visit("i2", "i3", ts=T + DAY), *visit("i4", "i5", ts=T + 2 * DAY)]
    tuning = TuningSettings(half_life_s=1e12, replay=0.25)
    found = weights(seen(*events), tuning, new_ms=T + 2 * DAY)
    new = sum(weight for pair, weight in found.items() if {"i4", "i5"} & set(pair))
    assert new == pytest.approx(0.75 * sum(found.values()), rel=1e-5)


CLICKS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(NAMES), st.sampled_from(["view_item", "purchase", "dislike"])),
    max_size=30,
)


@given(CLICKS, CLICKS, st.integers(0, 40))
def test_what_happens_from_the_cut_on_changes_nothing(past: Any, future: Any, cut: int) -> None:
    cut_ms = T + cut * HOUR
    before = [told(n, one) for n, one in enumerate(past) if T + one[0] * HOUR < cut_ms]
    after = [told(1_000 + n, one, since=cut_ms) for n, one in enumerate(future)]
    alone = histories(before, cut_ms)
    assert histories([*after, *before], cut_ms) == alone
    cut_later = histories([*after, *before], T + 1_000 * HOUR).before(cut_ms)
    assert (cut_later.touches, cut_later.against) == (alone.touches, alone.against)
    assert max(cut_later.newest_ms, alone.newest_ms) < cut_ms
    both = [pairs(one, ROWS, EVER, now_ms=cut_ms) for one in (alone, cut_later)]
    assert by_name(both[0]) == by_name(both[1])
    assert both[0].against.tolist() == both[1].against.tolist()


def told(number: int, click: tuple[int, str, str], since: int = T) -> Event:
    hour, item, name = click
    return event(name, item, ts=since + hour * HOUR, event_id=f"n{number}")


def test_sequences_vary_by_the_seed_where_that_is_asked_for() -> None:
    events = [one for n in range(30) for one in visit(*NAMES, who=f"s{n}")]
    plain = weights(seen(*events))
    for option in ("crop", "reorder"):
        tuning = TuningSettings(half_life_s=1e12, augment=(option,))
        varied = [weights(seen(*events), tuning, seed=seed) for seed in (1, 1, 2)]
        assert varied[0] == varied[1]
        assert len({str(one) for one in (plain, varied[0], varied[2])}) == 3
    assert sum(weights(seen(*events), TuningSettings(half_life_s=1e12, augment=("crop",))).values()) < sum(
        plain.values()
    )
