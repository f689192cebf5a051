from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import DAY_MS, HOUR_MS, MINUTE_MS
from core.settings import SessionSettings, Settings
from core.stats import Circle, Counter, ItemStats, Neighbours, observe
from ranker.live import TREND_WEIGHTS, Live
from tests.ranker.tiny import NOW, TinyShop, item

HALF_LIVES_MS = tuple(s * 1000.0 for s in Settings().popularity.half_lives_s)
TREND_MS = Settings().ranking.trending_half_life_s * 1000.0


@pytest.fixture
def live() -> Live:
    return Live(Settings())


def sold(live: Live) -> set[str]:
    return {live.ids[row] for row in np.flatnonzero(live.sold).tolist()}


def members(live: Live, path: str) -> list[str]:
    return sorted(live.ids[row] for row in live.members[live.category_rows[path]])


# ---------------------------------------------------------------------- the catalogue
def test_nothing_moves_before_a_refresh(live: Live) -> None:
    live.offer("catalogue", "a", item("a", price=3.0))
    assert len(live) == 0
    live.refresh()
    assert sold(live) == {"a"}


def test_an_upsert_sets_stock_price_and_time(live: Live) -> None:
    live.offer("catalogue", "a", item("a", since=7, price=3.0, in_stock=False))
    live.refresh()
    row = live.rows["a"]
    assert (bool(live.stock[row]), float(live.price[row]), int(live.since[row])) == (False, 3.0, 7)
    live.offer("catalogue", "a", msgspec.structs.replace(item("a", since=7, price=4.5), ts=9))
    live.refresh()
    assert (bool(live.stock[row]), float(live.price[row]), int(live.since[row])) == (True, 4.5, 7)
    assert live.sold_count == 1


def test_a_price_that_is_taken_back_is_unknown(live: Live) -> None:
    for price in (3.0, None):
        live.offer("catalogue", "a", item("a", price=price))
        live.refresh()
    assert np.isnan(live.price[live.rows["a"]])


def test_the_price_of_the_last_sale_stands_in_for_an_item_without_one(live: Live) -> None:
    for price in (2.5, 3.5):
        live.offer("item-stats", "a", ItemStats(price=price))
        live.offer("catalogue", "a", item("a"))
        live.refresh()
        assert live.price[live.rows["a"]] == price
    live.offer("catalogue", "a", item("a", price=9.0))
    live.offer("item-stats", "a", ItemStats(price=4.5))
    live.refresh()
    assert live.price[live.rows["a"]] == 9.0


def test_an_item_without_an_entry_is_as_old_as_its_first_use_also_when_that_is_told_late(live: Live) -> None:
    for first in (NOW, NOW - DAY_MS):
        live.offer("item-stats", "a", ItemStats(first=first, last=NOW))
        live.refresh()
        assert live.since[live.rows["a"]] == first
    live.offer("catalogue", "a", item("a", since=NOW - HOUR_MS))
    live.offer("item-stats", "a", ItemStats(first=NOW - DAY_MS, last=NOW))
    live.refresh()
    assert live.since[live.rows["a"]] == NOW - HOUR_MS


def test_a_removed_item_is_not_sold_and_can_come_back(live: Live) -> None:
    first, again = item("a", since=NOW - DAY_MS), item("a", since=NOW)
    for value, count in ((first, 1), (None, 0), (again, 1), (None, 0), (None, 0), (again, 1)):
        live.offer("catalogue", "a", value)
        live.refresh()
        assert live.sold_count == count
        assert sold(live) == ({"a"} if value else set())
        assert live.items[live.rows["a"]] == value
    assert live.since[live.rows["a"]] == NOW


def test_categories_follow_every_change_of_an_item(live: Live) -> None:
    for paths in (("K > T", "K > C"), ("K > C",), ("G > S",), None, ("K > T",), ("G > S",)):
        live.offer("catalogue", "a", item("a", categories=paths) if paths is not None else None)
        live.refresh()
        wider = {name for path in paths or () for name in (path, path.split(" > ")[0])}
        assert {path for path in live.category_rows if members(live, path)} == wider
        assert all(members(live, path) == ["a"] for path in wider), "an item stands once in a category"


def test_a_category_holds_what_lies_below_it(live: Live) -> None:
    live.offer("catalogue", "a", item("a", categories=("K > T",)))
    live.offer("catalogue", "b", item("b", categories=("K > C > D",)))
    live.refresh()
    assert (members(live, "K"), members(live, "K > C"), members(live, "K > T")) == (["a", "b"], ["b"], ["a"])


def test_items_nobody_told_of_get_a_row_from_what_shoppers_do(live: Live) -> None:
    live.offer("item-stats", "a", ItemStats(counters={"view": Counter(NOW, 1.0, (1.0,) * 6)}, first=NOW, last=NOW))
    live.offer("item-neighbours", "a", Neighbours(1, {"seen": Circle(NOW, 1.0, {"b": 1.0})}))
    live.refresh()
    assert set(live.rows) == {"a", "b"}
    assert not sold(live)
    assert live.known_rows(["b", "never heard of"]).tolist() == [live.rows["b"]]
    assert "never heard of" not in live.rows


def test_the_statistics_of_a_category_make_no_item(live: Live) -> None:
    shop = TinyShop()
    shop.sell("a", categories=["K > T"])
    shop.view("u", "a")
    shop.snapshot.refresh()
    assert shop.live.ids == ["a"]
    where = np.array([shop.live.category_rows["K > T"], shop.live.category_rows["K"]])
    assert shop.live.categories.ever(where, "view").tolist() == [1.0, 1.0]


# ---------------------------------------------------------------------- neighbours
def test_an_item_carries_its_heaviest_neighbours(live: Live) -> None:
    width = live.settings.neighbours.served
    weights = {f"n{k}": float(k + 1) for k in range(width + 5)}
    live.offer("item-neighbours", "a", Neighbours(1, {"bought": Circle(NOW, 100.0, weights)}))
    live.refresh()
    rows, share = live.circles["bought"].rows[live.rows["a"]], live.circles["bought"].share[live.rows["a"]]
    assert [live.ids[row] for row in rows[:2].tolist()] == [f"n{width + 4}", f"n{width + 3}"]
    assert share[0] == pytest.approx((width + 5) / 100.0)
    live.offer("item-neighbours", "a", Neighbours(1, {"bought": Circle(NOW, 100.0, {"n1": 1.0})}))
    live.refresh()
    assert [live.ids[row] for row in rows[rows >= 0].tolist()] == ["n1"]


def test_an_item_that_went_straight_into_the_basket_has_neighbours_of_finite_weight() -> None:
    shop = TinyShop()
    shop.tell("add_to_cart", "u", "a", ts=NOW - 5_000)
    shop.view("u", "b", ts=NOW - 4_000)
    shop.buy("w", "a", ts=NOW - 3_000)
    shop.tell("add_to_cart", "w", "b", ts=NOW - 2_000)
    shop.snapshot.refresh()
    for circles in shop.live.circles.values():
        assert (circles.share <= 1.0).all()
        assert np.isfinite(circles.weight(np.arange(len(shop.live)), NOW)).all()


# ---------------------------------------------------------------------- trending
class Steps:
    """Counters as the popularity step keeps them, and the events they are of."""

    def __init__(self) -> None:
        self.stats: dict[str, ItemStats] = {}
        self.events: list[tuple[str, str, int]] = []

    def count(self, item_id: str, signal: str, ts: int) -> ItemStats:
        before = self.stats.get(item_id, ItemStats())
        counters = {**before.counters, signal: observe(before.counters.get(signal), ts, 1.0, HALF_LIVES_MS)}
        last = max(before.last, ts) if signal in TREND_WEIGHTS else before.last
        self.stats[item_id] = ItemStats(counters=counters, first=min(before.first or ts, ts), last=last)
        self.events.append((item_id, signal, ts))
        return self.stats[item_id]

    def weights(self, now_ms: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for item_id, signal, ts in self.events:
            if signal in TREND_WEIGHTS:
                weight = TREND_WEIGHTS[signal] * 2.0 ** (-(now_ms - ts) / TREND_MS)
                found[item_id] = found.get(item_id, 0.0) + weight
        return found


acts = st.tuples(
    st.sampled_from([f"i{n}" for n in (0, 1, 2, 50, 300, 420)]),
    st.sampled_from(["view", "click", "cart", "buy", "shown", "refund", "dislike"]),
    st.integers(0, 6 * 24).map(lambda hours: NOW - hours * HOUR_MS),  # in any order: many come late
)


@given(st.lists(st.lists(acts, min_size=1, max_size=6), min_size=1, max_size=6), st.sampled_from([1, 10, 200]))
@settings(max_examples=25)
def test_trending_is_what_counting_everything_says(rounds: list[list[tuple[str, str, int]]], count: int) -> None:
    live, steps = Live(Settings()), Steps()
    for n in range(450):  # more than are kept between two looks
        live.offer("item-stats", f"i{n}", steps.count(f"i{n}", "view", NOW - 7 * DAY_MS - n * MINUTE_MS))
    for changes in [[], *rounds]:
        for item_id, signal, ts in changes:
            live.offer("item-stats", item_id, steps.count(item_id, signal, ts))
        live.refresh()
        rows, scores = live.trending(NOW, count)
        expected = steps.weights(NOW)
        assert scores.tolist() == pytest.approx(sorted(expected.values(), reverse=True)[:count], rel=1e-4)
        assert scores.tolist() == pytest.approx([expected[live.ids[row]] for row in rows.tolist()], rel=1e-4)


def test_what_was_only_shown_or_disliked_does_not_trend(live: Live) -> None:
    steps = Steps()
    for signal in ("shown", "dislike", "refund", "like"):
        live.offer("item-stats", "a", steps.count("a", signal, NOW))
    live.refresh()
    assert live.trending(NOW, 10)[0].tolist() == []


def test_more_can_be_asked_for_than_were_asked_for_before(live: Live) -> None:
    steps = Steps()
    for n in range(600):
        live.offer("item-stats", f"i{n}", steps.count(f"i{n}", "view", NOW - n * MINUTE_MS))
    live.refresh()
    assert len(live.trending(NOW, 10)[0]) == 10
    assert [live.ids[row] for row in live.trending(NOW, 600)[0].tolist()] == [f"i{n}" for n in range(600)]


# ---------------------------------------------------------------------- arrivals
def arrived(live: Live, age_ms: float = 14 * DAY_MS, most: int = 10) -> list[str]:
    return [live.ids[row] for row in live.arrivals(NOW, age_ms, most).tolist()]


def test_the_newest_items_come_first_in_whatever_order_they_were_told(live: Live) -> None:
    for name, days in (("b", 2), ("old", 30), ("a", 1), ("c", 3)):
        live.offer("catalogue", name, item(name, since=NOW - days * DAY_MS))
        live.refresh()
    assert arrived(live) == ["a", "b", "c"]
    assert arrived(live, most=2) == ["a", "b"]
    assert arrived(live, age_ms=2.5 * DAY_MS) == ["a", "b"]


def test_a_change_makes_no_item_new_but_coming_back_does(live: Live) -> None:
    old = item("a", since=NOW - 30 * DAY_MS)
    changed = msgspec.structs.replace(old, ts=NOW, price=1.0)
    for value, new in ((old, []), (changed, []), (None, []), (item("a"), ["a"])):
        live.offer("catalogue", "a", value)
        live.refresh()
        assert arrived(live) == new
    live.offer("catalogue", "a", None)
    live.refresh()
    assert arrived(live) == []


def test_an_item_of_tomorrow_has_not_arrived(live: Live) -> None:
    live.offer("catalogue", "a", item("a", since=NOW + MINUTE_MS))
    live.refresh()
    assert arrived(live) == []


def test_a_catalogue_that_is_loaded_arrives_in_the_same_order_as_one_that_came_bit_by_bit() -> None:
    one, other = Live(Settings()), Live(Settings())
    items = [item(f"i{n * 37 % 100:02d}", since=NOW - (100 - n) * HOUR_MS) for n in range(100)]
    for each in items:
        one.offer("catalogue", each.item_id, each)
        one.refresh()
    for each in sorted(items, key=lambda each: each.item_id):
        other.offer("catalogue", each.item_id, each)
    other.refresh()
    assert arrived(one) == arrived(other) == [each.item_id for each in items[:-11:-1]]
    assert one.ids == other.ids


# ---------------------------------------------------------------------- sessions
def alike(live: Live, *items: str) -> list[list[str]]:
    """The items of the sessions that hold some of these."""
    found, _, _ = live.sessions.like(live.known_rows(items), np.ones(len(items)), "asks", NOW)
    return sorted(sorted(live.ids[row] for row in rows[rows >= 0].tolist()) for rows in found)


def test_profiles_that_are_loaded_leave_the_sessions_that_they_left_one_by_one() -> None:
    config = Settings(sessions=SessionSettings(kept=12))
    one, shop = Live(config), TinyShop(config)
    for n in range(60):
        shopper = f"u{n * 7 % 5}"
        shop.view(shopper, f"i{n}", f"j{n % 3}", ts=NOW - (60 - n) * HOUR_MS)
        one.offer("profiles", shopper, shop.profile(shopper))
        one.refresh()
    other = Live(config)
    for shopper in ("u3", "u1", "u4", "u0", "u2"):
        other.offer("profiles", shopper, shop.profile(shopper))
    other.refresh()
    newest = sorted(sorted([f"i{n}", f"j{n % 3}"]) for n in range(48, 60))
    assert alike(one, "j0", "j1", "j2") == alike(other, "j0", "j1", "j2") == newest


@given(st.lists(st.booleans(), min_size=40, max_size=40), st.permutations(range(40)))
@settings(max_examples=25)
def test_when_the_state_is_refreshed_makes_no_difference_to_the_sessions(looks: list[bool], order: list[int]) -> None:
    shop, live = TinyShop(), Live(Settings())
    for look, hour in zip(looks, order, strict=True):  # many come late
        shop.view("u", f"i{hour}", "all", ts=NOW - hour * HOUR_MS)
        live.offer("profiles", "u", shop.profile("u"))
        if look:
            live.refresh()
    live.refresh()
    kept = {tuple(sorted(one.items)) for one in shop.profile("u").sessions}
    assert kept <= {tuple(items) for items in alike(live, "all")}


def test_a_visitor_who_became_a_user_is_one_shopper(live: Live) -> None:
    shop = TinyShop()
    shop.view("visitor", "a", "b", ts=NOW - HOUR_MS)
    live.offer("profiles", "visitor", shop.profile("visitor"))
    live.refresh()
    assert alike(live, "a") == [["a", "b"]]
    shop.view("visitor", "c", ts=NOW - HOUR_MS + 1, user_id="u")
    for shopper in ("u", "visitor"):
        live.offer("profiles", shopper, shop.profile(shopper))
    live.refresh()
    assert alike(live, "a") == [["a", "b", "c"]]


# ---------------------------------------------------------------------- capacity and threads
def test_growing_loses_nothing(live: Live) -> None:
    for start in range(0, 5_000, 700):
        for n in range(start, start + 700):
            live.offer("catalogue", f"i{n}", item(f"i{n}", since=NOW - n, price=float(n), categories=(f"c{n}",)))
            live.offer("item-stats", f"i{n}", ItemStats(counters={"buy": Counter(NOW, n, (n,) * 6)}, last=NOW))
            live.offer("item-neighbours", f"i{n}", Neighbours(1, {"seen": Circle(NOW, 2.0, {f"i{n + 1}": 1.0})}))
        live.refresh()
    rows = np.array([live.rows[f"i{n}"] for n in range(5_000)])
    assert live.price[rows].tolist() == list(range(5_000))
    assert live.counters.ever(rows, "buy").tolist() == list(range(5_000))
    assert live.counters.at(rows, "buy", NOW)[:, 0].tolist() == list(range(5_000))
    assert live.circles["seen"].rows[rows, 0][:-1].tolist() == rows[1:].tolist()
    assert (live.since[rows] == NOW - np.arange(5_000)).all()
    assert len(set(live.leaf[rows].tolist())) == 5_000


def test_nothing_that_another_thread_offers_during_a_refresh_is_lost(live: Live) -> None:
    count, done = 4_000, threading.Event()

    def offer() -> None:
        for n in range(count):
            live.offer("catalogue", f"i{n}", item(f"i{n}", price=1.0))
            live.offer("catalogue", f"i{n}", item(f"i{n}", price=2.0))
        done.set()

    thread = threading.Thread(target=offer)
    thread.start()
    for _ in until(done):
        live.refresh()
    thread.join()
    live.refresh()
    assert live.sold_count == count
    assert set(live.price[: len(live)].tolist()) == {2.0}, "the newest value of a key wins"


def until(done: threading.Event) -> Iterator[None]:
    while not done.is_set():
        yield


def test_rows_of_items_that_were_only_asked_about_can_be_taken_back(live: Live) -> None:
    live.offer("catalogue", "a", item("a"))
    live.refresh()
    live.row("ghost")
    live.forget_after(1)
    assert (live.ids, set(live.rows)) == (["a"], {"a"})
    assert live.row("b") == 1
