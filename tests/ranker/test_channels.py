from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS, HOUR_MS
from ranker.channels import CHANNELS
from ranker.context import understand
from tests.ranker.tiny import NOW, TinyShop

QUOTA = 20


def found(shop: TinyShop, channel: str, shopper: str = "u", **fields: Any) -> list[str]:
    """What a channel brings, best first."""
    shop.snapshot.refresh()
    request = Request(recommendation_id="r", ts=NOW, shopper=shopper, **fields)
    ctx = understand(request, shop.profile(shopper), shop.live, shop.snapshot.space)
    rows, scores = CHANNELS[channel](ctx, shop.live, shop.snapshot.space, QUOTA)
    assert np.isfinite(scores).all()
    assert len(set(rows.tolist())) == len(rows)
    return shop.ids(rows[np.argsort(-scores, kind="stable")])


@pytest.fixture
def shop() -> TinyShop:
    return TinyShop(text=True)


@pytest.mark.parametrize("channel", [name for name in CHANNELS if name not in ("trending", "new")])
def test_a_personal_channel_has_nothing_for_nobody(shop: TinyShop, channel: str) -> None:
    shop.buy("w", "a", "b")
    assert found(shop, channel, "nobody") == []


@pytest.mark.parametrize("channel", list(CHANNELS))
def test_every_channel_copes_with_an_empty_shop(channel: str) -> None:
    assert found(TinyShop(), channel) == []
    assert found(TinyShop(text=True), channel) == []


def test_own_brings_what_was_bought_before_what_was_looked_at(shop: TinyShop) -> None:
    shop.view("u", "looked")
    shop.tell("add_to_cart", "u", "carted")
    shop.buy("u", "bought")
    shop.tell("view_item_list", "u", "shown")
    shop.buy("u", "disliked")
    shop.tell("dislike", "u", "disliked")
    assert found(shop, "own") == ["bought", "carted", "looked"]


def test_own_brings_the_newer_of_two_first(shop: TinyShop) -> None:
    shop.buy("u", "old", ts=NOW - 100 * DAY_MS)
    shop.buy("u", "new", ts=NOW - DAY_MS)
    assert found(shop, "own") == ["new", "old"]


@pytest.mark.parametrize(
    ("channel", "event"), [("bought", "purchase"), ("carted", "add_to_cart"), ("seen", "view_item")]
)
def test_neighbours_are_what_others_had_together(shop: TinyShop, channel: str, event: str) -> None:
    for n in range(3):
        for name in ("a", "b") if n else ("a", "b", "c"):
            shop.tell(event, f"w{n}", name, ts=NOW - 2 * HOUR_MS + n)
    shop.tell(event, "x", "d")
    shop.view("u", "a")
    assert found(shop, channel)[:2] == ["b", "c"]
    assert "d" not in found(shop, channel)


def test_a_pair_met_often_beats_one_met_once(shop: TinyShop) -> None:
    for n in range(5):
        shop.buy(f"w{n}", "a", "b" if n else "c")
    shop.view("u", "a")
    assert found(shop, "bought") == ["b", "c"]


def test_the_page_finds_neighbours_for_somebody_unknown(shop: TinyShop) -> None:
    shop.buy("w", "a", "b")
    assert found(shop, "bought", "nobody", context_items=("a",)) == ["b"]


def test_sessions_brings_what_alike_sessions_hold(shop: TinyShop) -> None:
    shop.view("w", "a", "b", "c")
    shop.view("x", "d", "e")
    shop.view("u", "a", "b")
    assert found(shop, "sessions")[0] in ("a", "b")
    assert set(found(shop, "sessions")) == {"a", "b", "c"}


def test_ones_own_visit_before_the_login_is_not_that_of_another(shop: TinyShop) -> None:
    shop.view("visitor", "a", "b", ts=NOW - HOUR_MS)
    shop.snapshot.refresh()
    shop.view("visitor", "c", ts=NOW - HOUR_MS + 1, user_id="u")
    assert {"a", "b", "c"} <= set(shop.profile("u").memory)
    assert found(shop, "sessions") == []


def test_text_brings_items_that_read_alike(shop: TinyShop) -> None:
    for name in ("green tea", "black tea", "red bicycle"):
        shop.sell(name)
    shop.view("u", "green tea")
    assert found(shop, "text")[:2] == ["green tea", "black tea"]


def test_trending_brings_what_is_used_now(shop: TinyShop) -> None:
    for n in range(10):
        shop.view(f"w{n}", "yesterday's", ts=NOW - 20 * DAY_MS)
    for n in range(3):
        shop.view(f"w{n}", "today's")
    assert found(shop, "trending", "nobody") == ["today's", "yesterday's"]


def test_new_brings_what_has_just_come_and_suits_the_taste(shop: TinyShop) -> None:
    shop.sell("green tea")
    shop.sell("white tea", ts=NOW - 2 * DAY_MS)
    shop.sell("red bicycle", ts=NOW - DAY_MS)
    assert found(shop, "new", "nobody") == ["red bicycle", "white tea"]
    shop.view("u", "green tea")
    assert found(shop, "new") == ["white tea", "red bicycle"]
