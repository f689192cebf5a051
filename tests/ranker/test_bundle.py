from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.errors import Broken
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import PopularitySettings, Settings, TrainingSettings
from ranker import features
from ranker.bundle import open_bundle, save
from ranker.model import Examples, Ranker, train
from tests.ranker.tiny import NOW, SPACE, TinyShop, vector_of


def some_ranker(settings: Settings) -> Ranker:
    names = features.names(settings)
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(1_000, len(names))).astype(np.float32)
    grades = (matrix[:, 0] > 1).astype(np.int8)
    training = TrainingSettings(trees=5, leaves=7)
    examples = Examples(matrix, grades, np.full(50, 20, np.int64))
    return train(examples, names, features.schema(settings), training, threads=1)


def written(shop: TinyShop, root: Path, ranker: Ranker | None) -> tuple[Path, Manifest]:
    shop.snapshot.refresh()
    contents = Contents(
        created_ms=NOW, space_id=SPACE, encoder=EncoderReference("words", "0"), text={}, user_vector={},
        features=FeatureSchema.of(features.names(shop.settings)), max_event_time=NOW,
        ranker="lambdarank" if ranker else "blend", metrics={},
    )  # fmt: skip
    bundles = Bundles(root, 3)
    manifest = bundles.write(contents, lambda folder: save(folder, ranker, shop.snapshot))
    return bundles.folder(manifest.id), bundles.load(manifest.id)


@pytest.fixture
def shop() -> TinyShop:
    shop = TinyShop(text=True)
    for n, name in enumerate(("green tea", "blé noir", "with\na break", "with\u2028another", "last one")):
        shop.sell(name, ts=NOW - n)
    shop.view("u", "without a vector")
    return shop


def test_a_bundle_opens_as_it_was_saved(shop: TinyShop, tmp_path: Path) -> None:
    ranker = some_ranker(shop.settings)
    opened = open_bundle(*written(shop, tmp_path, ranker), shop.settings)
    assert sorted(opened.items) == ["blé noir", "green tea", "last one"]
    assert opened.vectors.shape == (3, 32)
    for name, vector, text_ts in zip(opened.items, opened.vectors, opened.texts.tolist(), strict=True):
        assert vector.astype(np.float32) == pytest.approx(vector_of(name), abs=1e-3)
        item = shop.live.items[shop.live.rows[name]]
        assert item is not None
        assert text_ts == item.text_ts
    asked = np.random.default_rng(2).normal(size=(9, len(features.names(shop.settings)))).astype(np.float32)
    assert opened.ranker is not None
    np.testing.assert_array_equal(opened.ranker.score(asked), ranker.score(asked))


def test_a_bundle_of_the_blend_has_no_ranker(shop: TinyShop, tmp_path: Path) -> None:
    opened = open_bundle(*written(shop, tmp_path, None), shop.settings)
    assert opened.ranker is None
    assert len(opened.items) == 3


@pytest.mark.parametrize("text", [True, False])
def test_a_bundle_of_an_empty_shop_opens(tmp_path: Path, text: bool) -> None:
    shop = TinyShop(text=text)
    opened = open_bundle(*written(shop, tmp_path, None), shop.settings)
    assert (opened.items, len(opened.vectors), len(opened.texts)) == ((), 0, 0)


def test_a_ranker_of_other_features_is_refused(shop: TinyShop, tmp_path: Path) -> None:
    folder, manifest = written(shop, tmp_path, some_ranker(shop.settings))
    other = msgspec.structs.replace(shop.settings, popularity=PopularitySettings(half_lives_s=(3_600.0, 172_800.0)))
    with pytest.raises(Broken, match="half_lives_s"):
        open_bundle(folder, manifest, other)


def test_without_a_ranker_other_features_do_no_harm(shop: TinyShop, tmp_path: Path) -> None:
    other = msgspec.structs.replace(shop.settings, popularity=PopularitySettings(half_lives_s=(3_600.0, 172_800.0)))
    assert open_bundle(*written(shop, tmp_path, None), other).ranker is None
