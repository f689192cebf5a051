import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS, HOUR_MS
from ranker import habits
from ranker.arrays import Spots
from ranker.context import understand
from tests.ranker.tiny import NOW, TinyShop


def values(shop: TinyShop, shopper: str, item: str, ts: int = NOW) -> dict[str, float]:
    shop.snapshot.refresh()
    ctx = understand(Request(recommendation_id="r", ts=ts, shopper=shopper), shop.profile(shopper), shop.live, None)
    rows = shop.rows("a", "b", "c")
    columns = habits.columns(ctx, Spots(rows, shop.live.place), shop.live)
    assert len(columns) == len(habits.NAMES)
    place = "abc".index(item)
    return {name: float(column[place]) for name, column in zip(habits.NAMES, columns, strict=True)}


@pytest.fixture
def shop() -> TinyShop:
    shop = TinyShop()
    for n, name in enumerate("abc"):
        shop.sell(name, ts=NOW - 90 * DAY_MS, price=1.0 + n)
    for visit, items in enumerate(["a", "ab", "b"]):
        shop.buy("me", *items, ts=NOW - (10 - visit) * DAY_MS, session_id=f"v{visit}")
    return shop


def test_visits_are_counted_from_the_newest(shop: TinyShop) -> None:
    a, b, c = (values(shop, "me", name) for name in "abc")
    assert [one["own_of_last_1"] for one in (a, b, c)] == [0, 1, 0]
    assert [one["own_of_last_3"] for one in (a, b, c)] == pytest.approx([2 / 3, 2 / 3, 0])
    assert (a["own_visits_ago"], b["own_visits_ago"]) == (1, 0)
    assert np.isnan(c["own_visits_ago"])
    assert b["own_visits_faded"] > a["own_visits_faded"] > 0 == c["own_visits_faded"]


def test_the_share_of_repeats_is_that_of_all_lines_bought(shop: TinyShop) -> None:
    assert values(shop, "me", "a")["repeats"] == pytest.approx(0.5), "four lines, two items"


def test_an_item_that_came_since_the_last_visit_is_younger_than_it(shop: TinyShop) -> None:
    shop.sell("d", ts=NOW - DAY_MS)
    assert values(shop, "me", "a")["new_since_visit"] > 0
    shop.snapshot.refresh()
    shop.live.since[shop.live.rows["c"]] = NOW - DAY_MS
    assert values(shop, "me", "c")["new_since_visit"] < 0


def test_a_price_above_what_the_shopper_takes_is_above(shop: TinyShop) -> None:
    assert values(shop, "me", "c")["price_for_me"] > 0 > values(shop, "me", "a")["price_for_me"]


def test_hour_and_weekday_are_those_of_the_request(shop: TinyShop) -> None:
    monday_noon = 1_749_470_400_000  # 2025-06-09 12:00 UTC
    told = values(shop, "me", "a", monday_noon + DAY_MS + HOUR_MS)
    assert (told["weekday"], told["hour"]) == (1, 13)


def test_of_a_stranger_only_the_time_is_known(shop: TinyShop) -> None:
    told = values(shop, "nobody", "a")
    assert {name for name, value in told.items() if not np.isnan(value)} == {"hour", "weekday"}
