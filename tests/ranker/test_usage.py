from __future__ import annotations

import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS
from ranker import usage
from ranker.arrays import Spots
from ranker.context import understand
from tests.ranker.tiny import NOW, TinyShop


def told(shop: TinyShop, shopper: str, item: str) -> dict[str, float]:
    shop.snapshot.refresh()
    ctx = understand(Request(recommendation_id="r", ts=NOW, shopper=shopper), shop.profile(shopper), shop.live, None)
    spot = Spots(shop.rows("a", "b", "c"), shop.live.place)
    place = "abc".index(item)
    columns = usage.columns(ctx, spot, shop.live)
    return {name: float(column[place]) for name, column in zip(usage.NAMES, columns, strict=True)}


@pytest.fixture
def shop() -> TinyShop:
    """a is bought alone and every week, b with five others and once, c by nobody."""
    shop = TinyShop()
    for name in "abc":
        shop.sell(name)
    for week in range(4):
        for who in ("one", "two"):
            shop.buy(who, "a", ts=NOW - (30 - 7 * week) * DAY_MS, session_id=f"{who}{week}")
    shop.buy("large", "b", *[f"x{n}" for n in range(5)], ts=NOW - DAY_MS)
    return shop


def test_an_item_of_large_visits_stands_above_what_a_shopper_of_small_ones_takes(shop: TinyShop) -> None:
    assert told(shop, "one", "a")["visit_size"] == pytest.approx(np.log(2))
    assert told(shop, "one", "b")["visit_size"] == pytest.approx(np.log(7))
    assert told(shop, "one", "b")["visit_size_for_me"] == pytest.approx(np.log(7) - np.log(2))
    assert told(shop, "large", "a")["visit_size_for_me"] == pytest.approx(np.log(2) - np.log(7))
    assert np.isnan(told(shop, "one", "c")["visit_size"])


def test_a_wait_longer_than_usual_is_above_it(shop: TinyShop) -> None:
    week, nine = np.log1p(7 * 86_400), np.log1p(9 * 86_400)
    found = told(shop, "one", "a")
    assert found["again_wait"] == pytest.approx(week, abs=1 / 16)
    assert found["own_wait"] == pytest.approx(nine - week, abs=1 / 16)
    assert np.isnan(told(shop, "large", "a")["own_wait"]), "never bought by this shopper"
    assert np.isnan(told(shop, "large", "b")["again_wait"]), "never bought again"


def test_of_a_stranger_only_what_others_do_is_known(shop: TinyShop) -> None:
    found = told(shop, "nobody", "a")
    assert {name for name, value in found.items() if not np.isnan(value)} == {"visit_size", "again_wait"}


def test_visits_that_are_forgotten_do_not_count(shop: TinyShop) -> None:
    told(shop, "one", "b")
    shop.live.sessions.forget("large")
    assert np.isnan(told(shop, "one", "b")["visit_size"])
