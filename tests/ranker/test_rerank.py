from __future__ import annotations

import numpy as np
import pytest

from core.ids import HOUR_MS
from ranker.rerank import diversify, order
from tests.ranker.tiny import NOW, TinyShop, shown


@pytest.fixture
def shop() -> TinyShop:
    """Ten teas that everybody looks at, and a few bicycles and hoses that somebody does."""
    shop = TinyShop()
    for n in range(10):
        shop.sell(f"tea {n}", categories=["Kitchen > Tea"])
        for k in range(20 - n):
            shop.view(f"w{k}", f"tea {n}", ts=NOW - (k + 1) * HOUR_MS)
    for n in range(3):
        shop.sell(f"bicycle {n}", categories=["Outdoors > Bicycles"])
        shop.sell(f"hose {n}", categories=["Garden > Hoses"])
        shop.view("x", f"bicycle {n}", f"hose {n}")
    return shop


def kinds(items: list[str]) -> set[str]:
    return {name.split()[0] for name in items}


def test_equal_scores_go_by_row() -> None:
    rows = np.array([7, 2, 5], np.int64)
    assert order(np.array([0.5, 0.5, 0.9], np.float32), rows).tolist() == [2, 1, 0]


def test_without_diversity_the_order_is_that_of_the_scores(shop: TinyShop) -> None:
    decision = shop.ask("nobody", n=5)
    assert shown(decision) == [f"tea {n}" for n in range(5)]
    scores = [one.score for one in decision.items]
    assert scores == sorted(scores, reverse=True)
    places, nothing = np.arange(4), np.zeros(4, np.float32)
    assert diversify(places, places, nothing, 2, 0.0, shop.live, None).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("diversity", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_diversity_changes_the_order_and_nothing_else(shop: TinyShop, diversity: float) -> None:
    plain, mixed = shop.ask("nobody", n=16), shop.ask("nobody", n=16, diversity=diversity)
    assert sorted(shown(mixed)) == sorted(shown(plain))
    assert shown(mixed)[0] == shown(plain)[0], "the best one stays first"


def test_full_diversity_mixes_the_categories(shop: TinyShop) -> None:
    assert kinds(shown(shop.ask("nobody", n=3))) == {"tea"}
    assert kinds(shown(shop.ask("nobody", n=3, diversity=1.0))) == {"tea", "bicycle", "hose"}


def test_more_diversity_shows_no_fewer_categories(shop: TinyShop) -> None:
    counts = [len(kinds(shown(shop.ask("nobody", n=5, diversity=step)))) for step in (0.0, 0.3, 0.6, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_where_there_is_text_items_that_read_alike_are_spread() -> None:
    shop = TinyShop(text=True)
    for n, name in enumerate(("green tea", "green tea pot", "green tea cup", "red bicycle", "garden hose")):
        shop.sell(name)
        for k in range(9 - n):
            shop.view(f"w{k}", name)
    assert shown(shop.ask("nobody", n=3)) == ["green tea", "green tea pot", "green tea cup"]
    mixed = shown(shop.ask("nobody", n=3, diversity=1.0))
    assert mixed[0] == "green tea"
    assert set(mixed[1:]) == {"red bicycle", "garden hose"}
