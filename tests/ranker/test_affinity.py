from __future__ import annotations

import numpy as np

from core.decision import Request
from core.ids import MINUTE_MS
from ranker import affinity
from ranker.arrays import Vectored
from ranker.context import understand
from tests.ranker.tiny import NOW, TinyShop

KINDS = affinity.NAMES.index("affinity_by_kinds")


def affinities(shop: TinyShop, shopper: str, *items: str) -> np.ndarray:
    shop.snapshot.refresh()
    live, space = shop.live, shop.snapshot.space
    ctx = understand(Request(recommendation_id="r", ts=NOW, shopper=shopper), shop.profile(shopper), live, space)
    rows = shop.rows(*items)
    texts = Vectored(*space.of(rows)) if space else None
    return np.stack(affinity.columns(ctx, rows, live, space, texts), 1)


def shelf(*, text: bool = True) -> TinyShop:
    """Two kinds of goods; u was shown four of each, and took three teas."""
    shop = TinyShop(text=text)
    for n in range(6):
        shop.sell(f"tea{n}", title=f"green tea {n}", categories=["Tea"], weight=1.0 + n / 10)
        shop.sell(f"hat{n}", title=f"wool hat {n}", categories=["Hats"], weight=90.0 + n)
    shown = [f"{kind}{n}" for n in range(4) for kind in ("tea", "hat")]
    shop.tell("view_item_list", "u", *shown, ts=NOW - 2 * MINUTE_MS)
    for n in range(3):
        shop.tell("select_item", "u", f"tea{n}")
    return shop


def test_what_is_like_the_things_taken_is_above_what_is_like_the_things_left() -> None:
    for text in (True, False):
        found = affinities(shelf(text=text), "u", "tea5", "hat5")
        assert (found[0, :2] > found[1, :2]).all()
        assert found[0, KINDS] > found[1, KINDS]
        assert found[0, 0] > 0 > found[1, 0]


def test_who_was_shown_nothing_has_no_affinity() -> None:
    assert np.isnan(affinities(shelf(), "somebody else", "tea5", "hat5")).all()


def test_who_has_left_nothing_has_no_affinity() -> None:
    shop = shelf()
    shop.buy("w", "hat0", "hat1")
    assert np.isnan(affinities(shop, "w", "tea5", "hat5")).all()


def test_without_candidates_there_are_empty_columns() -> None:
    assert affinities(shelf(), "u").shape == (0, len(affinity.NAMES))


def test_a_purchase_without_lists_counts_as_taken() -> None:
    shop = shelf()
    shop.tell("view_item_list", "w", "tea0", ts=NOW - 2 * MINUTE_MS)
    shop.buy("w", "hat0", "hat1")
    tea, hat = affinities(shop, "w", "tea5", "hat5")
    assert (hat[:2] > tea[:2]).all()
    assert hat[KINDS] > tea[KINDS]


def test_what_everybody_takes_says_less_of_a_taste() -> None:
    shop = shelf()
    shop.tell("view_item_list", "v", "tea0", "hat0", ts=NOW - 2 * MINUTE_MS)
    shop.tell("select_item", "v", "tea0")
    before = affinities(shop, "v", "tea5")[0, 1]
    for n in range(20):
        shop.tell("view_item_list", f"x{n}", "tea0", "hat4", ts=NOW - 2 * MINUTE_MS)
        shop.tell("select_item", f"x{n}", "tea0")
    assert affinities(shop, "v", "tea5")[0, 1] < before
