from pathlib import Path

import numpy as np
import pytest

from core.ids import DAY_MS
from core.profile import Memory, Profile
from core.settings import EaseSettings
from ranker import ease
from ranker.ease import Ease, Ties
from tests.ranker.tiny import NOW, TinyShop

SETTINGS = EaseSettings(ridge=1.0)


def history(*items: str, last: int = NOW) -> Profile:
    return Profile(last=last, memory={item: Memory(buys=1, last=last) for item in items})


def two_groups(shoppers: int = 20) -> list[Profile]:
    """Half take two of a, b, c and half two of x, y, z, by turns."""
    pairs = [("a", "b"), ("b", "c"), ("a", "c")], [("x", "y"), ("y", "z"), ("x", "z")]
    return [history(*pairs[n % 2][n // 2 % 3]) for n in range(shoppers)]


def weight(found: Ease, source: str, target: str) -> float:
    place = {item: n for n, item in enumerate(found.items)}
    ties = found.ties[place[source]].tolist()
    return float(found.weights[place[source]][ties.index(place[target])]) if place[target] in ties else 0.0


def test_items_that_go_together_are_tied_and_others_are_not() -> None:
    found = ease.fit(two_groups(), NOW, SETTINGS)
    assert found is not None
    assert weight(found, "a", "b") > 0.1
    assert weight(found, "a", "x") == pytest.approx(0.0, abs=1e-6)
    assert found.max_event_ms == NOW


def test_the_weights_are_those_of_the_closed_form() -> None:
    profiles = two_groups()
    found = ease.fit(profiles, NOW, SETTINGS)
    assert found is not None
    matrix = np.array([[float(item in p.memory) for item in found.items] for p in profiles])
    inverse = np.linalg.inv(matrix.T @ matrix + np.eye(len(found.items)))
    for row, source in enumerate(found.items):
        for column, target in enumerate(found.items):
            expected = -inverse[row, column] / inverse[column, column] if row != column else 0.0
            assert weight(found, source, target) == pytest.approx(expected, abs=1e-5)


def test_long_histories_count_as_short_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    histories = [
        (np.sort(random.choice(40, size, replace=False)), random.random(size, dtype=np.float32))
        for size in random.integers(0, 12, 30).tolist()
    ]
    short = ease._gram(histories, 40)
    monkeypatch.setattr(ease, "_LONG", 5)
    for block in (1, 4, 512):
        monkeypatch.setattr(ease, "_BLOCK", block)
        assert ease._gram(histories, 40) == pytest.approx(short, abs=1e-5)


@pytest.mark.parametrize("items", [511, 512, 1_101])
def test_the_inverse_by_halves_is_the_inverse(items: int) -> None:
    histories = np.random.default_rng(items).poisson(0.02, (800, items)).astype(np.float32)
    gram = histories.T @ histories + 5.0 * np.eye(items, dtype=np.float32)
    assert ease._inverse(gram) == pytest.approx(np.linalg.inv(gram.astype(np.float64)), abs=1e-6)


def test_what_was_long_ago_ties_less() -> None:
    old = [history("a", "b", last=NOW - 300 * DAY_MS) for _ in range(10)]
    new = [history("x", "y") for _ in range(10)]
    found = ease.fit([*old, *new], NOW, SETTINGS)
    assert found is not None
    assert weight(found, "a", "b") < 0.5 * weight(found, "x", "y")


def test_only_the_commonest_items_and_their_strongest_ties_are_kept() -> None:
    profiles = [*two_groups(), *[history("a", "b", "c") for _ in range(10)]]
    found = ease.fit(profiles, NOW, EaseSettings(items=3, ties=1, ridge=1.0))
    assert found is not None
    assert sorted(found.items) == ["a", "b", "c"]
    assert found.ties.shape == (3, 1)


@pytest.mark.parametrize("profiles", [[], [history("a")], [history("a", "b")], [Profile(last=1)]])
def test_from_too_little_nothing_is_learnt(profiles: list[Profile]) -> None:
    assert ease.fit(profiles, NOW, SETTINGS) is None


def test_it_comes_back_from_a_bundle_as_it_was(tmp_path: Path) -> None:
    found = ease.fit([history("plain", "mütze\n", "c"), history("plain", "mütze\n")], NOW, SETTINGS)
    assert found is not None
    assert Ease.load(tmp_path) is None
    found.save(tmp_path)
    again = Ease.load(tmp_path)
    assert again is not None
    assert (again.items, again.max_event_ms) == (found.items, NOW)
    np.testing.assert_array_equal(again.ties, found.ties)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_items_nobody_has_heard_of_here_add_nothing() -> None:
    found = Ease(("a", "b", "c"), np.array([[1, 2], [0, -1], [0, -1]], np.int32), np.ones((3, 2), np.float32), NOW)
    ties = Ties(found, [7, -1, 3])
    assert ties.unheard
    rows, amounts = ties.follow(np.array([7, 3, 99]), np.array([1.0, 2.0, 4.0], np.float32))
    assert dict(zip(rows.tolist(), amounts.tolist(), strict=True)) == {3: 1.0, 7: 2.0}


def test_the_channel_finds_what_follows_from_the_history() -> None:
    shop = TinyShop()
    for item in "abcxyz":
        shop.sell(item)
    for n, profile in enumerate(two_groups()):
        shop.buy(f"s{n}", *profile.memory)
    shop.buy("me", "a")
    shop.snapshot.refresh()
    assert "ease" not in {name for one in shop.ask("me", explain=True).items for name in one.channels}
    model = ease.fit([p for _, p in shop.runner.tables["profile"].items()], NOW, SETTINGS)
    assert model is not None
    shop.live.adopt(model)
    brought = [one.item_id for one in shop.ask("me", explain=True).items if "ease" in one.channels]
    assert sorted(brought) == ["b", "c"]


def test_an_item_that_is_heard_of_later_is_tied_then() -> None:
    shop = TinyShop()
    shop.buy("me", "a")
    shop.snapshot.refresh()
    shop.live.adopt(Ease(("a", "b"), np.array([[1], [0]], np.int32), np.ones((2, 1), np.float32), NOW))
    assert shop.live.ease is not None
    assert not len(shop.live.ease.follow(shop.rows("a"), np.ones(1, np.float32))[0])
    shop.sell("b")
    shop.snapshot.refresh()
    assert shop.ids(shop.live.ease.follow(shop.rows("a"), np.ones(1, np.float32))[0]) == ["b"]
