from __future__ import annotations

import numpy as np
import pytest

from core.decision import Request
from core.ids import DAY_MS
from ranker import wording
from ranker.context import understand
from tests.ranker.tiny import NOW, TinyShop

TITLES = {
    "red tea cup": "a", "red tea pot": "b", "blue garden hat": "c", "blue garden chair": "d", "red hat": "e",
    "green tea cup": "f", "spoon": "g",
}  # fmt: skip


@pytest.fixture
def shop() -> TinyShop:
    """Everybody buys blue things for the garden; I buy red ones for tea."""
    shop = TinyShop()
    for title, name in TITLES.items():
        shop.sell(name, title=title, ts=NOW - 90 * DAY_MS)
    for n in range(8):
        shop.buy(f"s{n}", "c", "d", ts=NOW - 20 * DAY_MS + n)
    shop.buy("me", "b", ts=NOW - 9 * DAY_MS)
    shop.buy("me", "a", ts=NOW - 2 * DAY_MS)
    return shop


def told(shop: TinyShop, shopper: str = "me") -> dict[str, dict[str, float]]:
    """Columns by item."""
    shop.snapshot.refresh()
    ctx = understand(Request(recommendation_id="r", ts=NOW, shopper=shopper), shop.profile(shopper), shop.live, None)
    names = sorted(TITLES.values())
    columns = wording.columns(ctx.words, shop.rows(*names), NOW, shop.live.words)
    assert len(columns) == len(wording.NAMES)
    return {
        item: {name: float(column[place]) for name, column in zip(wording.NAMES, columns, strict=True)}
        for place, item in enumerate(names)
    }


def test_words_that_a_shopper_takes_more_than_others_lift_an_item(shop: TinyShop) -> None:
    found = told(shop)
    assert found["f"]["word_lift"] > found["e"]["word_lift"] > found["c"]["word_lift"]
    assert found["a"]["word_lift_max"] >= found["a"]["word_lift"] >= found["a"]["word_lift_min"]
    assert found["f"]["word_lift"] > 0 > found["d"]["word_lift"]


def test_the_last_visit_is_told_apart(shop: TinyShop) -> None:
    found = told(shop)
    # a cup was bought at the last visit, a pot before; both have "tea"
    assert found["f"]["word_lift_visit"] > found["b"]["word_lift_visit"]


def test_words_that_stand_together_count_together(shop: TinyShop) -> None:
    found = told(shop)
    assert found["f"]["word_pair_lift"] > 0 > found["c"]["word_pair_lift"]
    assert np.isnan(found["e"]["word_pair_lift"]), "no other item has this pair"


def test_variants_of_what_was_taken_are_found_and_when_it_was(shop: TinyShop) -> None:
    found = told(shop)
    assert found["f"]["variant_max"] > found["e"]["variant_max"] > found["c"]["variant_max"] == 0
    assert found["f"]["variant_visit"] == found["f"]["variant_max"]
    assert found["f"]["variant_since"] == pytest.approx(np.log1p(2 * 86_400))
    assert found["f"]["variant_sum"] > 0 == found["c"]["variant_sum"]
    assert found["a"]["variant_max"] < 1, "an item is no variant of itself"


def test_taste_is_by_rare_words(shop: TinyShop) -> None:
    found = told(shop)
    assert 1 >= found["a"]["word_taste"] > found["e"]["word_taste"] > found["c"]["word_taste"] == 0


@pytest.mark.parametrize("shopper", ["nobody", "s0"])
def test_all_is_finite_or_unknown(shop: TinyShop, shopper: str) -> None:
    found = told(shop, shopper)
    assert np.isnan(found["g"]["word_lift"]), "its only word is its own"
    known = [value for one in found.values() for value in one.values() if not np.isnan(value)]
    assert np.isfinite(known).all()
    assert bool(known) == (shopper != "nobody")


def test_what_is_disliked_is_no_taste(shop: TinyShop) -> None:
    before = told(shop)["f"]["word_lift"]
    shop.tell("dislike", "me", "a", ts=NOW - DAY_MS)
    assert told(shop)["f"]["word_lift"] < before
