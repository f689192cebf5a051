from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS, HOUR_MS
from core.profile import Memory, Profile
from ranker.context import Context, understand
from tests.ranker.tiny import NOW, TinyShop, vector_of


def known(shop: TinyShop, shopper: str, **fields: Any) -> Context:
    shop.snapshot.refresh()
    request = Request(recommendation_id="r", ts=NOW, shopper=shopper, **fields)
    return understand(request, shop.profile(shopper), shop.live, shop.snapshot.space)


@pytest.fixture
def shop() -> TinyShop:
    shop = TinyShop(text=True)
    for name in ("green tea", "black tea", "red bicycle", "blue bicycle", "garden hose"):
        shop.sell(name)
    return shop


def test_of_nobody_nothing_is_known(shop: TinyShop) -> None:
    ctx = known(shop, "")
    assert (len(ctx.own), len(ctx.history), ctx.taste, ctx.distaste) == (0, 0, None, None)
    assert ctx.column("buys").tolist() == []


def test_what_was_done_with_an_item_stands_in_its_row(shop: TinyShop) -> None:
    shop.view("u", "green tea", ts=NOW - 3 * HOUR_MS)
    shop.buy("u", "green tea", ts=NOW - HOUR_MS)
    shop.tell("hide", "u", "garden hose")
    ctx = known(shop, "u")
    place = shop.ids(ctx.own).index("green tea")
    found = {name: ctx.column(name)[place] for name in ("views", "buys", "first", "last", "hidden")}
    assert found == {"views": 1, "buys": 1, "first": NOW - 3 * HOUR_MS, "last": NOW - HOUR_MS, "hidden": 0}
    assert ctx.column("hidden")[shop.ids(ctx.own).index("garden hose")] == 1


def test_the_history_is_what_was_liked_newest_first(shop: TinyShop) -> None:
    shop.view("u", "green tea", ts=NOW - 3 * HOUR_MS)
    shop.tell("like", "u", "black tea", ts=NOW - 2 * HOUR_MS)
    shop.buy("u", "red bicycle", ts=NOW - HOUR_MS)
    shop.tell("view_item_list", "u", "blue bicycle")
    shop.view("u", "garden hose")
    shop.tell("dislike", "u", "garden hose")
    ctx = known(shop, "u")
    assert shop.ids(ctx.history) == ["red bicycle", "black tea", "green tea"]
    assert (ctx.weights > 0).all()
    assert len(ctx.own) == 5, "what was shown or disliked is remembered all the same"


def test_more_and_newer_acts_weigh_more(shop: TinyShop) -> None:
    shop.view("u", "green tea", ts=NOW - 60 * DAY_MS)
    shop.view("u", "black tea", ts=NOW - HOUR_MS)
    shop.buy("u", "red bicycle", ts=NOW - HOUR_MS)
    ctx = known(shop, "u")
    weight = dict(zip(shop.ids(ctx.history), ctx.weights.tolist(), strict=True))
    assert weight["red bicycle"] > weight["black tea"] > weight["green tea"]


def test_the_items_of_the_page_come_before_all_and_once(shop: TinyShop) -> None:
    shop.view("u", "green tea", "black tea")
    ctx = known(shop, "u", context_items=("garden hose", "never heard of", "black tea", "garden hose"))
    assert shop.ids(ctx.history) == ["garden hose", "black tea", "green tea"]
    assert ctx.weights[1] > ctx.weights[2]
    assert "never heard of" not in shop.live.rows


def test_items_the_live_state_does_not_know_are_left_out(shop: TinyShop) -> None:
    profile = Profile(last=NOW, memory={"elsewhere": Memory(views=1, last=NOW), "green tea": Memory(views=1, last=NOW)})
    shop.snapshot.refresh()
    ctx = understand(Request(recommendation_id="r", ts=NOW), profile, shop.live, shop.snapshot.space)
    assert shop.ids(ctx.own) == ["green tea"]


def test_the_taste_lies_near_what_was_looked_at(shop: TinyShop) -> None:
    shop.view("u", "green tea", "black tea")
    ctx = known(shop, "u")
    assert ctx.taste is not None
    assert np.linalg.norm(ctx.taste) == pytest.approx(1.0, abs=1e-5)
    assert ctx.taste @ vector_of("white tea") > ctx.taste @ vector_of("garden hose")
    assert len(ctx.recent) == 2


def test_what_was_shown_in_vain_is_the_distaste(shop: TinyShop) -> None:
    shop.tell("view_item_list", "u", "red bicycle", "green tea")
    shop.view("u", "green tea")
    ctx = known(shop, "u")
    assert ctx.distaste is not None
    assert ctx.distaste == pytest.approx(vector_of("red bicycle"), abs=1e-3)


def test_without_text_there_is_no_taste() -> None:
    shop = TinyShop()
    shop.sell("a")
    shop.view("u", "a")
    ctx = known(shop, "u")
    assert (ctx.taste, ctx.distaste, len(ctx.recent)) == (None, None, 0)


def test_items_without_a_vector_make_no_taste() -> None:
    shop = TinyShop(text=True)
    shop.view("u", "a")
    ctx = known(shop, "u")
    assert (ctx.taste, ctx.distaste, len(ctx.recent)) == (None, None, 0)


def test_a_long_history_is_bounded_and_keeps_the_newest() -> None:
    shop = TinyShop()
    for n in range(300):
        shop.view("u", f"i{n}", ts=NOW - (300 - n) * HOUR_MS)
    ctx = known(shop, "u")
    assert len(ctx.history) == len(ctx.weights) < 300
    assert shop.ids(ctx.history)[:3] == ["i299", "i298", "i297"]
    assert len(ctx.own) == 300
