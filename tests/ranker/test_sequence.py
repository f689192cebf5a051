from __future__ import annotations

import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS
from core.settings import EaseSettings
from ranker import ease, sequence
from ranker.arrays import Rows, Spots, Vectored
from ranker.context import Context, understand
from tests.ranker.tiny import NOW, TinyShop

SETTINGS = EaseSettings(items=50, ties=10, ridge=1.0)


def asked(shop: TinyShop, shopper: str) -> Context:
    shop.snapshot.refresh()
    request = Request(recommendation_id="r", ts=NOW, shopper=shopper)
    return understand(request, shop.profile(shopper), shop.live, shop.snapshot.space)


def columns(shop: TinyShop, ctx: Context, rows: Rows) -> list[np.ndarray]:
    space = shop.snapshot.space
    texts = Vectored(*space.of(rows)) if space else None
    return sequence.columns(ctx, Spots(rows, shop.live.place), shop.live, space, texts)


def shop_of_pairs() -> TinyShop:
    shop = TinyShop(text=True)
    for n in range(8):
        shop.buy(f"u{n}", "a", ts=NOW - 9 * DAY_MS)
        shop.buy(f"u{n}", "b", ts=NOW - 8 * DAY_MS)
        shop.buy(f"w{n}", "c", ts=NOW - 9 * DAY_MS)
        shop.buy(f"w{n}", "d", ts=NOW - 8 * DAY_MS)
    shop.buy("x", "z", ts=NOW - 9 * DAY_MS)
    shop.buy("me", "c", ts=NOW - 5 * DAY_MS)
    shop.buy("me", "a", ts=NOW - DAY_MS)
    return shop


def test_the_later_visit_weighs_more() -> None:
    shop = shop_of_pairs()
    rows, weights = sequence.lately(asked(shop, "me"))
    assert shop.ids(rows) == ["a", "c"]
    assert weights.tolist() == pytest.approx([1.0, sequence.FADE])


def test_columns_tell_what_follows_from_the_last_visits() -> None:
    shop = shop_of_pairs()
    model = ease.fit([p for _, p in shop.runner.tables["profile"].items()], NOW, SETTINGS)
    assert model is not None
    shop.snapshot.refresh()
    shop.live.adopt(model)
    ctx, rows = asked(shop, "me"), shop.rows("b", "d", "z")
    score, share, modelled, _ = columns(shop, ctx, rows)
    assert score[0] > score[1] > score[2] == 0.0, "b follows the newer item"
    assert share[0] == 1.0
    assert modelled.tolist() == [1.0, 1.0, 0.0]


def test_the_channel_brings_what_others_took_next() -> None:
    shop = shop_of_pairs()
    model = ease.fit([p for _, p in shop.runner.tables["profile"].items()], NOW, SETTINGS)
    assert model is not None
    shop.snapshot.refresh()
    assert "after" not in {name for one in shop.ask("me", explain=True).items for name in one.channels}
    shop.live.adopt(model)
    brought = {
        one.item_id: one.channels["after"][0] for one in shop.ask("me", explain=True).items if "after" in one.channels
    }
    assert brought["b"] < brought["d"]


def test_nothing_is_known_of_who_did_nothing() -> None:
    shop = shop_of_pairs()
    ctx, rows = asked(shop, "nobody"), shop.rows("a", "b")
    found = columns(shop, ctx, rows)
    assert len(found) == len(sequence.NAMES)
    assert all(np.isnan(column).all() for column in found)
