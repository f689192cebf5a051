from __future__ import annotations

from typing import Any

import pytest

from core.decision import Filters, Request
from core.profile import Profile
from ranker.context import understand
from ranker.rules import opened
from tests.ranker.tiny import NOW, TinyShop, shown


@pytest.fixture
def shop() -> TinyShop:
    shop = TinyShop()
    shop.sell("cup", categories=["K > Cups"], price=5.0, brand="Lehm", attributes={"colour": "red", "year": 2024})
    shop.sell("pot", categories=["K > Pots"], price=50.0, brand="Ember", attributes={"colour": ["red", "blue"]})
    shop.sell("hose", categories=["G"], price=20.0, brand="Brook", attributes={"frost": True, "ean": 4006381333931})
    shop.sell("gift", categories=["Kitsch"])
    shop.sell("gone", categories=["K > Cups"], price=5.0, brand="Lehm", in_stock=False)
    return shop


def passing(shop: TinyShop, shopper: str = "", *, filters: Filters | None = None, **fields: Any) -> set[str]:
    shop.snapshot.refresh()
    profile: Profile = shop.profile(shopper)
    request = Request(recommendation_id="r", ts=NOW, shopper=shopper, filters=filters or Filters(), **fields)
    with opened(understand(request, profile, shop.live, None), shop.live) as gate:
        return set(shop.ids(gate.all()))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"cup", "pot", "hose", "gift"}),
        ({"in_stock": False}, {"cup", "pot", "hose", "gift", "gone"}),
        ({"categories": ("K",)}, {"cup", "pot"}),
        ({"categories": ("K > Pots",)}, {"pot"}),
        ({"categories": ("K > Pots", "G")}, {"pot", "hose"}),
        ({"categories": ("Nowhere",)}, set()),
        ({"brands": ("Lehm", "Brook")}, {"cup", "hose"}),
        ({"price_min": 20.0}, {"pot", "hose"}),
        ({"price_max": 20.0}, {"cup", "hose"}),
        ({"price_min": 10.0, "price_max": 30.0}, {"hose"}),
        ({"attributes": {"colour": ("red",)}}, {"cup", "pot"}),
        ({"attributes": {"colour": ("blue", "green")}}, {"pot"}),
        ({"attributes": {"year": ("2024",)}}, {"cup"}),
        ({"attributes": {"ean": ("4006381333931",)}}, {"hose"}),
        ({"attributes": {"frost": ("true",)}}, {"hose"}),
        ({"attributes": {"colour": ("None",)}}, set()),
        ({"attributes": {"colour": ("red",)}, "brands": ("Ember",)}, {"pot"}),
        ({"categories": ("K",), "price_max": 10.0, "in_stock": False}, {"cup", "gone"}),
    ],
)
def test_an_item_passes_when_it_meets_all_that_is_asked(
    shop: TinyShop, filters: dict[str, Any], expected: set[str]
) -> None:
    assert passing(shop, filters=Filters(**filters)) == expected


def test_what_is_excluded_or_on_the_page_does_not_pass(shop: TinyShop) -> None:
    assert passing(shop, exclude_items=("cup", "unheard of"), context_items=("pot",)) == {"hose", "gift"}


def test_what_the_shopper_hid_does_not_pass_until_it_is_liked(shop: TinyShop) -> None:
    shop.tell("hide", "u", "cup", ts=NOW - 3)
    assert "cup" not in passing(shop, "u")
    assert "cup" in passing(shop, "w")
    shop.tell("like", "u", "cup", ts=NOW - 2)
    assert "cup" in passing(shop, "u")


def test_what_was_bought_can_be_left_out(shop: TinyShop) -> None:
    shop.buy("u", "cup", "pot")
    shop.view("u", "hose")
    assert passing(shop, "u", exclude_bought=True) == {"hose", "gift"}
    assert passing(shop, "u") == {"cup", "pot", "hose", "gift"}


def test_one_request_leaves_nothing_barred_for_the_next(shop: TinyShop) -> None:
    passing(shop, exclude_items=("cup", "pot", "hose", "gift"))
    assert passing(shop) == {"cup", "pot", "hose", "gift"}


def test_a_removed_item_does_not_pass(shop: TinyShop) -> None:
    shop.snapshot.refresh()
    shop.withdraw("cup")
    assert passing(shop) == {"pot", "hose", "gift"}


def test_nothing_passes_when_everything_was_removed(shop: TinyShop) -> None:
    shop.view("u", "cup")
    shop.snapshot.refresh()
    for name in ("cup", "pot", "hose", "gift", "gone"):
        shop.withdraw(name)
    assert passing(shop) == set()
    assert shop.ask("u").items == ()


def test_a_shop_that_sends_no_catalogue_is_served_by_what_its_shoppers_do() -> None:
    shop = TinyShop()
    shop.view("u", "a", "b")
    assert passing(shop) == {"a", "b"}
    shop.sell("b")
    assert passing(shop) == {"b"}, "a catalogue counts as soon as there is one"


def test_items_that_are_given_are_not_filtered(shop: TinyShop) -> None:
    shop.tell("hide", "u", "pot")
    asked = ("gone", "pot", "hose", "unheard of", "cup")
    filters = Filters(categories=("K",), price_max=1.0)
    decision = shop.ask("u", items=asked, exclude_items=("cup",), filters=filters)
    assert sorted(shown(decision)) == sorted(asked)
