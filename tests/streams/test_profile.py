import copy
import math
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange
from core.events import Event
from core.profile import NOBODY, Act, Memory, Profile
from core.settings import NeighbourSettings, ProfileSettings
from core.stats import Signal
from streams.attribution import Served
from streams.profile import Absorb, Limits, Link, Output, begins_session, merge, observe, waited
from tests.factories import DAY, HOUR, LIMITS, MINUTE, T, World, after, event, messages

IDLE_S = LIMITS.profile.idle_s
TIGHT = Limits(
    ProfileSettings(touches=5, items=10, sessions=3, session_items=4, seen=6, searches=2),
    NeighbourSettings(partners=4, window=3),
)


def signals(outputs: list[Output], relation: str | None = None) -> list[Signal]:
    told = [output.value for output in outputs if isinstance(output.value, Signal)]
    return [one for one in told if relation is None or one.relation == relation]


def pairs(outputs: list[Output], relation: str) -> dict[tuple[str, str], float]:
    """(item, partner) → the weight it was told, added up."""
    weights: Counter[tuple[str, str]] = Counter()
    for one in signals(outputs, relation):
        for partner in one.partners:
            weights[one.item, partner] += one.pair_weight  # type: ignore[assignment]
    return dict(weights)


def sessions(profile: Profile) -> list[tuple[str, int, int]]:
    return [(one.id, one.start - T, one.last - T) for one in profile.sessions]


# ---------------------------------------------------------------------- sessions
def test_a_session_goes_on_until_30_minutes_pass_with_nothing() -> None:
    half = 30 * MINUTE
    seen = [event("view_item", "a", ts=T + at) for at in (0, half, 2 * half, 3 * half + 1)]
    profile, _ = after(*seen)
    assert sessions(profile) == [(f"~{T}", 0, 2 * half), (f"~{T + 3 * half + 1}", 3 * half + 1, 3 * half + 1)]


def test_a_session_that_the_shop_names_ends_when_the_shop_says_so() -> None:
    profile, _ = after(
        event("view_item", "a", session_id="one"),
        event("view_item", "b", ts=T + 1, session_id="two"),
        event("view_item", "c", ts=T + DAY, session_id="one"),
    )
    assert sessions(profile) == [("one", 0, DAY), ("two", 1, 1)]
    assert [list(one.items) for one in profile.sessions] == [["a", "c"], ["b"]]


def test_an_event_without_a_session_joins_the_one_that_is_going_on() -> None:
    profile, _ = after(event("view_item", "a", session_id="one"), event("view_item", "b", ts=T + MINUTE))
    assert sessions(profile) == [("one", 0, MINUTE)]


def test_a_late_event_goes_into_the_session_of_its_own_time() -> None:
    morning = [event("view_item", "a", ts=T + at * MINUTE) for at in range(0, 120, 20)]
    evening = event("view_item", "b", ts=T + 10 * HOUR)
    profile, _ = after(*morning, evening, event("view_item", "late", ts=T + 15 * MINUTE))
    assert [list(one.items) for one in profile.sessions] == [["a", "late"], ["b"]]
    assert [touch.item for touch in profile.touches][:3] == ["a", "late", "a"]


def test_a_late_event_of_no_session_makes_one_in_its_place() -> None:
    profile, _ = after(event("view_item", "b", ts=T + 5 * HOUR), event("view_item", "a"))
    assert sessions(profile) == [(f"~{T}", 0, 0), (f"~{T + 5 * HOUR}", 5 * HOUR, 5 * HOUR)]
    assert (profile.first, profile.last) == (T, T + 5 * HOUR)


def test_a_list_that_was_only_shown_is_no_session() -> None:
    profile, _ = after(event("view_item_list", "a", "b"))
    assert (profile.sessions, profile.touches, profile.last) == ((), (), T)
    assert begins_session(profile, event("view_item", "a", ts=T + 1), IDLE_S)


def test_who_comes_back_is_told_by_the_same_rule() -> None:
    profile, _ = after(event("view_item", "a"), event("view_item", "b", ts=T + DAY, session_id="named"))
    asked = [event("view_item", "c", ts=T + at) for at in (0, 29 * MINUTE, 31 * MINUTE, DAY, DAY + HOUR)]
    assert [begins_session(profile, one, IDLE_S) for one in asked] == [False, False, True, False, True]
    assert not begins_session(profile, event("view_item", "c", ts=T + 9 * DAY, session_id="named"), IDLE_S)


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("abc")), min_size=1, max_size=25))
def test_with_no_late_events_sessions_are_the_runs_without_a_pause(visits: list[tuple[int, str]]) -> None:
    minutes = sorted(minute for minute, _ in visits)
    profile, _ = after(*[event("view_item", "a", ts=T + minute * MINUTE) for minute in minutes])
    pauses = sum(later - earlier > 30 for earlier, later in pairwise(minutes))
    assert len(profile.sessions) == min(pauses + 1, LIMITS.profile.sessions)


# ---------------------------------------------------------------------- what is remembered of an item
def test_every_kind_of_act_is_counted_by_item() -> None:
    profile, _ = after(
        event("view_item_list", "a", "b"),
        event("select_item", "a", ts=T + 1),
        event("view_item", "a", ts=T + 2),
        event("add_to_cart", "a", ts=T + 3),
        event("purchase", {"item_id": "a", "quantity": 2}, ts=T + 4),
    )
    assert profile.memory["a"] == Memory(1, 1, 1, 1, 2.0, 0, T + 1, T + 4, T + 4, T + 4)
    assert profile.memory["b"] == Memory(shown=1)
    assert [(touch.item, touch.act) for touch in profile.touches] == [("a", act) for act in (2, 1, 4, 5)]
    assert profile.sessions[0].items == {"a": Act.BUY}


def test_lists_shown_in_vain_are_counted_since_the_last_look() -> None:
    lists = [event("view_item_list", "a", "b", ts=T + n) for n in (0, 1, 3)]
    profile, _ = after(*lists[:2], event("view_item", "a", ts=T + 2), lists[2])
    assert (profile.memory["a"].shown, profile.memory["b"].shown) == (1, 3)


def test_lines_of_one_item_are_one_line_with_all_its_pieces() -> None:
    lines = [{"item_id": "a", "quantity": 2}, {"item_id": "b"}, {"item_id": "a", "quantity": 3}]
    profile, said = after(event("purchase", *lines))
    assert (profile.memory["a"].units, profile.memory["a"].buys) == (5.0, 1)
    assert (profile.baskets, profile.basket_items) == (1, 2)
    assert [one.item for one in signals(said) if one.signal == "buy"] == ["a", "b"]


def test_what_is_in_a_first_basket_is_said() -> None:
    profile, said = after(event("purchase", "a", "b"))
    assert [one.item for one in signals(said) if one.signal == "newcomer"] == ["a", "b"]
    _, said = after(event("purchase", "a", "c", ts=T + DAY), profile=profile)
    assert not [one for one in signals(said) if one.signal == "newcomer"]


def test_baskets_are_counted_with_their_first_and_last_time() -> None:
    profile, _ = after(*[event("purchase", "a", "b", ts=T + at) for at in (DAY, 0, 2 * DAY)])
    assert (profile.baskets, profile.basket_items) == (3, 6)
    assert (profile.first_basket, profile.last_basket) == (T, T + 2 * DAY)


def test_an_item_taken_out_of_the_cart_counts_as_looked_at() -> None:
    profile, _ = after(
        event("add_to_cart", "a", "b"), event("remove_from_cart", "a", ts=T + 1), event("purchase", "b", ts=T + 2)
    )
    assert profile.sessions[0].items == {"a": Act.VIEW, "b": Act.BUY}


def test_taking_out_what_was_bought_or_never_in_changes_no_act() -> None:
    profile, _ = after(event("purchase", "a"), event("remove_from_cart", "a", "b", ts=T + 1))
    assert profile.sessions[0].items == {"a": Act.BUY}


def test_a_refund_takes_back_pieces_and_basket_but_not_the_day() -> None:
    profile, said = after(
        event("purchase", {"item_id": "a", "quantity": 3}), event("refund", {"item_id": "a", "quantity": 2}, ts=T + 1)
    )
    memory = profile.memory["a"]
    assert (memory.buys, memory.units, memory.last_buy) == (0, 1.0, T)
    assert signals(said)[-1].signal == "refund"
    again, said = after(event("purchase", "a", ts=T + DAY), profile=profile)
    assert [one.signal for one in signals(said)] == ["buy"]  # what went back was not bought before
    assert again.memory["a"].buys == 1


def test_a_refund_of_what_was_never_bought_takes_nothing_below_zero() -> None:
    profile, _ = after(event("refund", {"item_id": "a", "quantity": 2}))
    assert (profile.memory["a"].buys, profile.memory["a"].units) == (0, 0.0)


@pytest.mark.parametrize(
    ("rating", "opinion", "signal"), [(1, -1.0, "dislike"), (2, -0.5, "dislike"), (3, 0.0, ""), (5, 1.0, "like")]
)
def test_a_rating_is_an_opinion_and_a_signal(rating: int, opinion: float, signal: str) -> None:
    profile, said = after(event("rating", "a", rating=rating))
    assert profile.memory["a"].opinion == opinion
    assert [one.signal for one in signals(said)] == ([signal] if signal else [])


def test_what_is_hidden_stays_so_until_it_is_liked() -> None:
    hidden, said = after(event("hide", "a"), event("view_item", "a", ts=T + 1))
    assert (hidden.memory["a"].hidden, hidden.memory["a"].opinion) == (True, -1.0)
    assert signals(said)[0].signal == "dislike"
    liked, _ = after(event("like", "a", ts=T + 2), profile=hidden)
    assert (liked.memory["a"].hidden, liked.memory["a"].opinion) == (False, 1.0)


def test_search_terms_are_kept_newest_last() -> None:
    profile, _ = after(*[event("search", search_term=term, ts=T + n) for n, term in enumerate("abc")], limits=TIGHT)
    assert profile.searches == ("b", "c")


# ---------------------------------------------------------------------- repeated and bounded
def test_an_event_that_comes_again_changes_nothing() -> None:
    first = event("purchase", "a")
    profile, _ = after(first, event("view_item", "b", ts=T + 1))
    again, said = after(first, profile=profile)
    assert again is profile
    assert said == []


def test_everything_is_bounded() -> None:
    profile = NOBODY
    for n in range(30):
        items = [f"i{n}-{k}" for k in range(7)]
        one = event("purchase", *items, ts=T + n * DAY, visitor_id=f"v{n}", user_id="ida")
        profile, _ = after(one, profile=profile, limits=TIGHT)
        assert len(profile.touches) <= 5
        assert len(profile.memory) <= 10
        assert len(profile.sessions) <= 3
        assert all(len(session.items) <= 4 for session in profile.sessions)
        assert len(profile.seen) <= 6
        assert len(profile.linked) <= 3
        assert profile.memory.keys() >= set(items)
        assert list(profile.sessions[-1].items) == items[-4:]


def test_what_was_bought_is_remembered_longer_than_what_was_seen() -> None:
    profile, _ = after(
        event("purchase", "bought"), *[event("view_item", f"i{n}", ts=T + n) for n in range(1, 40)], limits=TIGHT
    )
    assert {"bought", "i39"} <= profile.memory.keys()
    assert "i1" not in profile.memory


# ---------------------------------------------------------------------- signals of what goes together
def test_views_are_paired_with_the_views_before_them() -> None:
    _, said = after(*[event("view_item", name, ts=T + n) for n, name in enumerate("abab")])
    told = [(one.item, one.partners, one.fresh) for one in signals(said, "seen")]
    assert told == [("a", (), True), ("b", ("a",), True), ("a", ("b",), False), ("a", (), False), ("b", (), False)]


def test_only_the_latest_views_of_a_session_are_paired() -> None:
    _, said = after(*[event("view_item", name, ts=T + n) for n, name in enumerate("abcdef")], limits=TIGHT)
    assert {partner for item, partner in pairs(said, "seen") if item == "f"} == {"c", "d", "e"}


def test_views_of_two_sessions_are_not_paired() -> None:
    _, said = after(event("view_item", "a"), event("view_item", "b", ts=T + DAY))
    assert pairs(said, "seen") == {}


@pytest.mark.parametrize(("name", "relation"), [("add_to_cart", "carted"), ("purchase", "bought")])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_basket_pairs_all_its_items_by_one_over_its_size(name: str, relation: str, size: int) -> None:
    items = [f"i{n}" for n in range(size)]
    _, said = after(event(name, *items))
    assert pairs(said, relation) == {(a, b): pytest.approx(1 / size) for a in items for b in items if a != b}
    assert [one.fresh for one in signals(said, relation)] == [True] * size


def test_what_is_only_looked_at_or_carted_is_not_bought_together() -> None:
    _, said = after(event("view_item", "a"), event("add_to_cart", "b", ts=T + 1), event("purchase", "c", ts=T + 2))
    assert pairs(said, "bought") == pairs(said, "carted") == {}


def test_a_basket_sent_line_by_line_makes_the_pairs_of_a_whole_one() -> None:
    whole = after(event("purchase", *"abcd", session_id="s"))[1]
    parts = after(*[event("purchase", name, ts=T + n, session_id="s") for n, name in enumerate("abcd")])[1]
    assert pairs(parts, "bought").keys() == pairs(whole, "bought").keys()
    assert all(weight >= pairs(whole, "bought")[pair] for pair, weight in pairs(parts, "bought").items())
    fresh = [Counter(one.item for one in signals(said, "bought") if one.fresh) for said in (whole, parts)]
    assert fresh[0] == fresh[1] == Counter("abcd")


@given(
    st.lists(st.lists(st.integers(0, 40).map(str), min_size=1, max_size=30), min_size=1, max_size=4),
    st.sampled_from(("view_item", "add_to_cart", "purchase")),
)
def test_pairs_are_mutual_and_bounded_however_a_basket_comes(parts: list[list[str]], name: str) -> None:
    events = [event(name, *part, ts=T + n) for n, part in enumerate(parts) if name != "view_item"]
    if name == "view_item":
        events = [event(name, one, ts=T + n) for n, one in enumerate(one for part in parts for one in part)]
    _, said = after(*events, limits=TIGHT)
    relation = {"view_item": "seen", "add_to_cart": "carted", "purchase": "bought"}[name]
    found = pairs(said, relation)
    assert all(found[b, a] == pytest.approx(weight) for (a, b), weight in found.items())
    assert all(a != b for a, b in found)
    assert all(len(one.partners) <= 2 * TIGHT.neighbours.partners for one in signals(said, relation))


def test_what_is_bought_again_is_said() -> None:
    profile, _ = after(event("purchase", "a"))
    _, said = after(event("purchase", "a", "b", ts=T + DAY), profile=profile)
    told = [(one.item, one.signal) for one in signals(said)]
    assert told == [("a", "buy"), ("b", "buy"), ("a", "again"), ("a", "wait")]
    assert signals(said)[-1].weight == pytest.approx(math.log1p(86_400), abs=1 / 16)


def test_of_waits_that_come_in_any_order_the_sum_is_the_same() -> None:
    waits = [waited(ms) for ms in (1_000, 86_400_000, 7, 5 * 86_400_000)]
    assert sum(waits) == sum(waits[::-1]) == sum(sorted(waits))
    assert (waited(0), waited(-5)) == (0.0, 0.0)


# ---------------------------------------------------------------------- who is who
def joined(*events: Event) -> World:
    return World().take(*events)


def test_a_visitor_who_logs_in_gives_all_that_was_done_to_the_user() -> None:
    world = joined(
        event("view_item", "a", visitor_id="v"),
        event("add_to_cart", "b", ts=T + 1, visitor_id="v"),
        event("view_item", "c", ts=T + 2, visitor_id="v", user_id="u"),
    )
    user, visitor = world.state("profile", "u"), world.state("profile", "v")
    assert list(user.memory) == ["c", "a", "b"]
    assert [touch.item for touch in user.touches] == ["a", "b", "c"]
    assert (user.first, user.last) == (T, T + 2)
    assert msgspec.structs.replace(visitor, seen=()) == NOBODY
    assert len(visitor.seen) == 2


def test_a_session_that_goes_on_through_the_login_is_one() -> None:
    steps = [("a", 0, {}), ("b", 1, {"user_id": "u"}), ("c", 2, {"user_id": "u"})]
    for named in ({"session_id": "s"}, {}):
        events = [event("view_item", i, ts=T + n * MINUTE, visitor_id="v", **who, **named) for i, n, who in steps]
        (one,) = joined(*events).state("profile", "u").sessions
        assert (one.start, one.last) == (T, T + 2 * MINUTE)
        assert one.items == {"a": 1, "b": 1, "c": 1}


def test_sessions_that_the_shop_tells_apart_stay_apart() -> None:
    world = joined(
        event("view_item", "a", visitor_id="v", session_id="one"),
        event("view_item", "b", ts=T + 1, visitor_id="v", user_id="u", session_id="two"),
    )
    assert [one.id for one in world.state("profile", "u").sessions] == ["one", "two"]


def test_a_user_is_linked_once_a_session_and_not_at_every_event() -> None:
    told = [after(event("view_item", "a", visitor_id="v", user_id="u"))]
    told += [after(event("view_item", "b", ts=T + 1, visitor_id="v", user_id="u"), profile=told[0][0])]
    told += [after(event("view_item", "b", ts=T + DAY, visitor_id="v", user_id="u"), profile=told[1][0])]
    links = [[one.value for one in said if one.topic == "identity"] for _, said in told]
    assert links == [[Link(1, "v", "u", T)], [], [Link(1, "v", "u", T + DAY)]]


def test_what_a_visitor_does_after_logging_out_is_taken_in_at_the_next_login() -> None:
    world = joined(
        event("view_item", "a", visitor_id="v", user_id="u"),
        event("view_item", "b", ts=T + MINUTE, visitor_id="v"),
    )
    assert "b" not in world.state("profile", "u").memory
    assert "b" in world.state("profile", "v").memory
    world.take(event("view_item", "c", ts=T + DAY, visitor_id="v", user_id="u"))
    assert world.state("profile", "u").memory.keys() == {"a", "b", "c"}
    assert not world.state("profile", "v").memory


def test_a_shared_device_gives_nobody_what_another_did() -> None:
    world = joined(
        event("view_item", "a", visitor_id="v"),
        event("view_item", "b", ts=T + 1, visitor_id="v", user_id="u"),
        event("view_item", "c", ts=T + DAY, visitor_id="v", user_id="other"),
    )
    assert world.state("profile", "u").memory.keys() == {"a", "b"}
    assert world.state("profile", "other").memory.keys() == {"c"}


def test_logging_in_again_and_again_counts_nothing_twice() -> None:
    anonymous = [event("view_item", "a", ts=T + n * DAY, visitor_id="v") for n in (0, 2, 4, 6)]
    known = [event("view_item", "a", ts=T + n * DAY, visitor_id="v", user_id="u") for n in (1, 3, 5, 7)]
    world = joined(*[one for both in zip(anonymous, known, strict=True) for one in both])
    assert world.state("profile", "u").memory["a"].views == 8
    assert len(world.state("profile", "u").sessions) == 8


def test_a_visitor_of_whom_nothing_is_known_gives_nothing() -> None:
    assert after(Link(1, "v", "u", T)) == (NOBODY, [])


def test_an_event_that_a_visitor_sent_is_recognised_after_the_login() -> None:
    first = event("view_item", "a", visitor_id="v")
    world = joined(first, event("view_item", "b", ts=T + 1, visitor_id="v", user_id="u"), first)
    assert not world.state("profile", "v").memory
    assert world.state("profile", "u").memory["a"].views == 1


def test_opinions_of_one_item_merge_to_the_later_one() -> None:
    hid, _ = after(event("hide", "a"))
    liked, _ = after(event("like", "a", ts=T + 1))
    looked, _ = after(event("view_item", "a", ts=T + 2))
    for one, other in ((hid, liked), (liked, hid)):
        memory = merge(one, other, LIMITS.profile).memory["a"]
        assert (memory.opinion, memory.hidden) == (1.0, False)
    assert merge(looked, hid, LIMITS.profile).memory["a"].hidden


def test_a_merged_profile_is_bounded_too() -> None:
    one, other = (
        after(*[event("view_item", f"{who}{n}", ts=T + n * DAY) for n in range(9)], limits=TIGHT)[0] for who in "ab"
    )
    both = merge(one, other, TIGHT.profile)
    assert (len(both.touches), len(both.sessions), len(both.seen)) == (5, 3, 6)
    assert len(both.memory) <= 10
    assert both.touches[-1].ts == max(one.last, other.last)


# ---------------------------------------------------------------------- any messages
@given(messages())
def test_a_step_leaves_the_state_it_was_given_as_it_was(log: list[Event | ItemChange | Served]) -> None:
    profile = NOBODY
    for message in [one for one in log if isinstance(one, Event)]:
        before = copy.deepcopy(profile)
        changed, _ = observe(profile, message, LIMITS)
        assert profile == before
        profile = changed if not profile.memory else merge(changed, Profile(), LIMITS.profile)
    absorbed, _ = observe(profile, Absorb(1, "v", profile), LIMITS)
    assert absorbed.baskets == 2 * profile.baskets
    assert Profile() == NOBODY


@given(messages())
def test_in_any_order_of_arrival_profiles_are_in_order_of_time(log: list[Event | ItemChange | Served]) -> None:
    profile, _ = after(*[one for one in log if isinstance(one, Event)])
    assert [touch.ts for touch in profile.touches] == sorted(touch.ts for touch in profile.touches)
    assert [one.start for one in profile.sessions] == sorted(one.start for one in profile.sessions)
    assert all(one.start <= one.last for one in profile.sessions)
    assert all(memory.first <= memory.last for memory in profile.memory.values())
