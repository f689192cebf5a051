"""Which encoder a process uses: what the current bundle carries, else what the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.bundle import Bundles
from core.errors import Missing
from core.settings import BundleSettings, EncoderSettings, Settings, TextSettings
from jobs.embedding import Embedder, Newer
from models.encoder import Encoder
from ranker import bundle
from tests.jobs.carried import turned, written
from tests.models.tiny import tiny_encoder
from tests.ranker.tiny import item

POT = item("pot", title="red pot")


@pytest.fixture
def shop(tmp_path: Path) -> Settings:
    return Settings(
        encoder=EncoderSettings(model=str(tiny_encoder(tmp_path / "base")), cache=tmp_path / "vectors.sqlite"),
        bundles=BundleSettings(path=tmp_path / "bundles"),
    )


def test_a_bundle_carries_its_encoder_and_gives_the_same_vectors_wherever_it_lies(
    shop: Settings, tmp_path: Path
) -> None:
    trained = Embedder.trained(shop, turned(shop))
    store, made = Bundles(shop.bundles.path, 5), written(shop, trained, 1)
    Path(trained.folder or "").rename(tmp_path / "gone")
    opened = bundle.open_bundle(store.folder(made), store.load(made), shop)
    found = Embedder.of_bundle(shop, opened, opened.manifest)
    assert found is not None
    assert (found.space_id, found.name, found.reference) == (trained.space_id, "turned", trained.reference)
    assert found.reference.base == shop.encoder.model
    assert found.folder == store.folder(made) / "encoder"
    np.testing.assert_array_equal(found.vectors([POT]), trained.vectors([POT]))
    base = Embedder.open(shop)
    assert base is not None
    assert float(base.query("red pot") @ found.query("red pot")) < 0.9
    assert Embedder.of_bundle(shop, store.folder(made), opened.manifest) is not None


def test_what_serves_is_used_and_without_an_encoder_in_it_the_settings_count(shop: Settings) -> None:
    base, trained = Embedder.open(shop), Embedder.trained(shop, turned(shop))
    assert base is not None
    store = Bundles(shop.bundles.path, 5)

    def serving() -> str:
        found = Embedder.serving(shop)
        return found.space_id if found is not None else ""

    assert serving() == base.space_id
    store.promote(written(shop, base, 1))
    assert (serving(), base.folder, base.reference.base) == (base.space_id, None, "")
    store.promote(written(shop, trained, 2))
    assert serving() == trained.space_id
    store.rollback()
    assert serving() == base.space_id


def test_a_bundle_goes_on_with_the_encoder_of_the_one_before_it(shop: Settings) -> None:
    store = Bundles(shop.bundles.path, 5)
    store.promote(written(shop, Embedder.trained(shop, turned(shop)), 1))
    second = Embedder.serving(shop)
    assert second is not None
    made = written(shop, second, 2)
    found = Embedder.of_bundle(shop, store.folder(made), store.load(made))
    assert found is not None
    assert found.space_id == second.space_id
    assert found.reference == second.reference


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": TextSettings(template="{title}")}, "text.template is '{title}'"),
        ({"encoder": {"model": "another"}}, "encoder.model is 'another'"),
        ({"encoder": {"max_tokens": 7}}, "encoder.max_tokens"),
    ],
)
def test_other_settings_than_the_bundles_are_an_error_that_names_them(
    shop: Settings, changed: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Bundles(shop.bundles.path, 5)
    made = written(shop, Embedder.trained(shop, turned(shop)), 1)
    given = {name: msgspec.structs.replace(getattr(shop, name), **value) if isinstance(value, dict) else value
             for name, value in changed.items()}  # fmt: skip
    other = msgspec.structs.replace(shop, **given)
    with pytest.raises(Missing, match=said.replace("{", r"\{")):
        Embedder.of_bundle(other, store.folder(made), store.load(made))
    if other.encoder.model == shop.encoder.model:
        store.promote(made)
        found, base = Embedder.serving(other), Embedder.open(other)
        assert found is not None
        assert base is not None
        assert (found.space_id, found.folder) == (base.space_id, None)
        assert made in caplog.text


def test_what_is_encoded_aside_takes_one_thread_whatever_its_length(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, used = Embedder.open(shop), list[int]()
    assert embedder is not None
    encode, before = Encoder._forward, torch.get_num_threads()

    def watched(encoder: Encoder, tokens: list[list[int]]) -> NDArray[np.float32]:
        used.append(torch.get_num_threads())
        return encode(encoder, tokens)

    monkeypatch.setattr(Encoder, "_forward", watched)
    torch.set_num_threads(3)
    try:
        many = [item(f"pot{n}", title=f"red pot with a lid and a spout {n}") for n in range(40)]
        aside = embedder.aside(many[:20])
        embedder.vectors(many[20:])
        assert used == [1, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(aside, embedder.vectors(many[:20]))


def test_a_trained_encoder_is_opened_without_what_it_has_in_common_with_its_base(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Embedder.trained(shop, turned(shop))
    made, store = written(shop, trained, 1), Bundles(shop.bundles.path, 5)
    wanted = trained.query("red pot")
    del trained
    base = Embedder.open(shop)
    assert base is not None
    monkeypatch.setattr("models.encoder.load", None)  # reads the vocabulary: other threads stand still
    found = Embedder.of_bundle(shop, store.folder(made), store.load(made))
    assert found is not None
    np.testing.assert_array_equal(found.query("red pot"), wanted)


def test_without_text_no_encoder_is_opened(shop: Settings) -> None:
    made = written(shop, Embedder.trained(shop, turned(shop)), 1)
    store = Bundles(shop.bundles.path, 5)
    store.promote(made)
    silent = msgspec.structs.replace(shop, encoder=EncoderSettings(model="none"))
    assert Embedder.serving(silent) is None
    assert Embedder.of_bundle(silent, store.folder(made), store.load(made)) is None


def test_a_worker_hears_of_a_bundle_with_another_encoder_once(shop: Settings) -> None:
    base, trained = Embedder.open(shop), Embedder.trained(shop, turned(shop))
    assert base is not None
    newer, store = Newer(shop, base), Bundles(shop.bundles.path, 5)
    assert newer() is None
    store.promote(written(shop, base, 1))
    assert newer() is None, "the space is the same"
    store.promote(written(shop, trained, 2))
    found = newer()
    assert found is not None
    assert found.space_id == trained.space_id
    assert newer() is None
    store.promote(written(shop, trained, 3))
    assert newer() is None
    store.rollback()
    store.rollback()
    back = newer()
    assert back is not None
    assert back.space_id == base.space_id
