"""The two rules behind one seam, in a tiny shop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.bundle import Bundles
from core.errors import SpaceMixed
from core.manifest import Contents, EncoderReference, FeatureSchema
from jobs.queries import FEWEST, recent_queries
from models.user_tower import Shape, UserTower
from ranker import features
from ranker.bundle import open_bundle, save
from ranker.space import unit_rows
from ranker.user_vector import MEAN, TRANSFORMER, WEIGHTED_MEAN, Transformer, user_vector
from tests.ranker.tiny import DIM, NOW, SPACE, TinyShop, shown, vector_of

WIDTH = 16
TEAS = tuple(f"tea {n}" for n in range(6))


def weights(items: tuple[str, ...], leads_to: int) -> dict[str, NDArray[np.float32]]:
    """A tower of one layer that adds nothing to the mean, and whose state is always the key of one item."""
    found = {
        "ids": np.zeros((len(items) + 1, WIDTH)), "known": np.eye(WIDTH)[: len(items)] * 0.9 + 0.1,
        "fade": np.zeros(20), "out.weight": np.zeros((DIM, WIDTH)),
    }  # fmt: skip
    for at in ("asking.", "foreseeing."):
        found |= {
            at + "text.weight": np.zeros((WIDTH, DIM)), at + "text.bias": np.zeros(WIDTH),
            at + "last.weight": np.zeros(WIDTH), at + "last.bias": np.eye(WIDTH)[leads_to],
            at + "blocks.0.ago": np.zeros((2, 20)),
        }  # fmt: skip
        for name, out, into in (("mix", 3, 1), ("join", 1, 1), ("up", 2, 1), ("down", 1, 2)):
            found[f"{at}blocks.0.{name}.weight"] = np.zeros((out * WIDTH, into * WIDTH))
            found[f"{at}blocks.0.{name}.bias"] = np.zeros(out * WIDTH)
        for name in ("before", "then"):
            found[f"{at}blocks.0.{name}.weight"] = np.ones(WIDTH)
            found[f"{at}blocks.0.{name}.bias"] = np.zeros(WIDTH)
    return {name: np.asarray(one, np.float32) for name, one in found.items()}


def tower(leads_to: int = 3, *, asks: bool = True, space: str = SPACE, items: tuple[str, ...] = TEAS) -> UserTower:
    return UserTower(Shape(space, 1, 2, 20, NOW, asks), items, weights(items, leads_to))


@pytest.fixture
def shop() -> TinyShop:
    shop = TinyShop(text=True)
    for name in (*TEAS, "garden hose", "garden rake"):
        shop.sell(name)
    shop.view("me", "garden hose")
    return shop


def answering(shop: TinyShop, one: UserTower) -> TinyShop:
    shop.snapshot = replace(shop.snapshot, user=user_vector(one, shop.snapshot.space))
    return shop


def test_a_bundle_without_a_tower_or_a_shop_without_text_takes_the_mean(shop: TinyShop) -> None:
    assert user_vector(None, shop.snapshot.space) is WEIGHTED_MEAN
    assert user_vector(tower(), None) is WEIGHTED_MEAN
    with pytest.raises(SpaceMixed, match="of space other for vectors of space words"):
        user_vector(tower(space="other"), shop.snapshot.space)


def test_what_the_tower_foresees_is_a_channel_of_its_own(shop: TinyShop) -> None:
    channels = [one.channels for one in shop.ask("me", explain=True).items]
    assert not any("next" in one for one in channels)
    found = {one.item_id: one.channels for one in answering(shop, tower(3)).ask("me", explain=True).items}
    assert found["tea 3"]["next"][0] == 1
    assert "next" not in found["garden rake"]


def test_a_stranger_has_nothing_foreseen(shop: TinyShop) -> None:
    assert not any("next" in one.channels for one in answering(shop, tower()).ask("nobody", explain=True).items)


def test_items_nobody_has_heard_of_are_foreseen_once_they_are_there(shop: TinyShop) -> None:
    known = (*TEAS[:3], "coffee")
    answering(shop, tower(3, items=known))
    assert "coffee" not in shown(shop.ask("me"))
    shop.sell("coffee", ts=NOW)
    found = {one.item_id: one.channels for one in shop.ask("me", explain=True).items}
    assert found["coffee"]["next"][0] == 1


def test_the_mean_serves_the_text_channel_where_the_query_was_not_better(shop: TinyShop) -> None:
    shop.view("me", "tea 1", ts=NOW)
    shop.snapshot.refresh()
    rows, ones = shop.rows("tea 1", "garden hose"), np.array([1.0, 3.0], np.float32)
    vectors = np.stack([vector_of("tea 1"), vector_of("garden hose")])
    mean = WEIGHTED_MEAN.wish(rows, vectors, ones, shop.live).taste
    assert mean is not None
    told = tower(asks=False)
    turned = UserTower(told.shape, told.items, {**told.weights, "out.weight": np.full((DIM, WIDTH), 0.5, np.float32)})
    wish = Transformer(turned).wish(rows, vectors, ones, shop.live)
    np.testing.assert_array_equal(wish.taste, mean)
    asking = Transformer(UserTower(tower().shape, turned.items, turned.weights)).wish(rows, vectors, ones, shop.live)
    assert asking.taste is not None
    assert float(asking.taste @ mean) < 0.99


def test_the_manifest_says_which_rule_it_is(shop: TinyShop) -> None:
    assert WEIGHTED_MEAN.facts(shop.live) == {"rule": MEAN, "items": 20}
    facts = Transformer(tower(asks=False)).facts(shop.live)
    assert facts == {"rule": TRANSFORMER, "items": 20, "layers": 1, "known": 6, "text": MEAN}


# ---------------------------------------------------------------------- in a bundle
def test_a_bundle_brings_its_tower_and_what_shoppers_asked_for(shop: TinyShop, tmp_path: Path) -> None:
    answering(shop, tower(2))
    shop.snapshot.refresh()
    space = shop.snapshot.space
    assert space is not None
    space.queries = np.stack([vector_of("tea"), vector_of("garden")]).astype(np.float16)
    contents = Contents(
        created_ms=NOW, space_id=SPACE, encoder=EncoderReference("words", "0"), text={},
        user_vector=shop.snapshot.user.facts(shop.live), features=FeatureSchema.of(features.names(shop.settings)),
        max_event_time=NOW, ranker="blend", metrics={},
    )  # fmt: skip
    bundles = Bundles(tmp_path, 3)
    manifest = bundles.write(contents, lambda folder: save(folder, None, shop.snapshot))
    opened = open_bundle(bundles.folder(manifest.id), bundles.load(manifest.id), shop.settings)
    assert opened.tower is not None
    assert opened.manifest.user_vector["rule"] == TRANSFORMER
    assert opened.queries is not None
    np.testing.assert_array_equal(opened.queries, space.queries)
    answering(shop, opened.tower)
    found = {one.item_id: one.channels for one in shop.ask("me", explain=True).items}
    assert found["tea 2"]["next"][0] == 1


# ---------------------------------------------------------------------- what shoppers ask for
def test_queries_are_those_of_the_shoppers_who_came_last(shop: TinyShop) -> None:
    for n in range(FEWEST + 20):
        shop.view(f"u{n}", f"tea {n % 6}" if n < 20 else "garden rake", ts=NOW + n)
    shop.snapshot.refresh()
    profiles = [shop.profile(f"u{n}") for n in range(FEWEST + 20)]
    found = recent_queries(profiles, shop.snapshot, FEWEST)
    assert found is not None
    assert found.shape == (FEWEST, DIM)
    np.testing.assert_allclose(unit_rows(found), np.tile(vector_of("garden rake"), (FEWEST, 1)), atol=2e-3)
    assert recent_queries(profiles[: FEWEST - 1], shop.snapshot) is None
    assert recent_queries(profiles, replace(shop.snapshot, space=None)) is None
