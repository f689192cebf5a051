"""The second encoder of a kind is opened from its weights alone, and is what it would be if it were the first."""

from __future__ import annotations

import gc
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.errors import Corrupt
from core.settings import EncoderSettings, TextSettings
from models import encoder as module
from models.encoder import Encoder
from models.kinds import Kind
from tests.models.tiny import tiny_encoder

TEXTS = ("red pot", "a blue kite | toys", "x")
WEIGHTS = "model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_encoder(tmp_path / "base")


@pytest.fixture
def trained(base: Path) -> Path:
    """As the base, with other weights."""
    return rewritten(base, {name: one + 0.5 * torch.randn_like(one) for name, one in load_file(base / WEIGHTS).items()})


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were read with all there is in them."""
    folders, load = list[str](), module.load

    def noted(folder: Path, *rest: Any) -> Any:
        folders.append(folder.name)
        return load(folder, *rest)

    monkeypatch.setattr(module, "load", noted)
    gc.collect()  # what other tests had open is no encoder of this one
    return folders


def rewritten(base: Path, weights: dict[str, torch.Tensor], name: str = "trained") -> Path:
    folder = copytree(base, base.with_name(name))
    (folder / WEIGHTS).unlink()
    save_file({key: one.contiguous() for key, one in weights.items()}, folder / WEIGHTS, {"format": "pt"})
    return folder


def opened(folder: Path, dtype: str = "float32", max_tokens: int = 32) -> Encoder:
    settings = EncoderSettings(model=str(folder), device="cpu", dtype=dtype, max_tokens=max_tokens)
    return Encoder.open(settings, TextSettings())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_second_of_a_kind_gives_the_same_vectors_as_if_it_were_the_first(
    base: Path, trained: Path, loaded: list[str], dtype: str
) -> None:
    alone = opened(trained, dtype)
    wanted = alone.encode(TEXTS)
    del alone
    first = opened(base, dtype)
    before = first.encode(TEXTS)
    second = opened(trained, dtype)
    assert loaded == ["trained", "base"]
    np.testing.assert_array_equal(second.encode(TEXTS), wanted)
    np.testing.assert_array_equal(first.encode(TEXTS), before)
    assert np.abs(before - wanted).max() > 0.05
    assert second.space_id != first.space_id


def test_a_kind_lasts_as_long_as_any_encoder_of_it(base: Path, trained: Path, loaded: list[str]) -> None:
    first = opened(base)
    second = opened(trained)
    del first
    third = opened(base)
    assert loaded == ["base"]
    del second, third
    opened(base)
    assert loaded == ["base", "base"]


def test_another_vocabulary_is_another_kind(base: Path, loaded: list[str]) -> None:
    first = opened(base)
    other = copytree(base, base.with_name("other"))
    words = (other / "vocab.txt").read_text().split("\n")
    (other / "vocab.txt").write_text("\n".join([*words[:5], *reversed(words[5:])]))
    second = opened(other)
    assert loaded == ["base", "other"]
    assert np.abs(first.encode(TEXTS) - second.encode(TEXTS)).max() > 0.05


def test_another_limit_of_tokens_is_another_kind(base: Path, loaded: list[str]) -> None:
    long, short = opened(base, max_tokens=32), opened(base, max_tokens=5)
    assert loaded == ["base", "base"]
    texts = ["red potato", "red poland"]  # alike in their first letters
    assert np.abs(np.diff(long.encode(texts), axis=0)).max() > 0.001
    assert np.abs(np.diff(short.encode(texts), axis=0)).max() < 0.001


def test_weights_that_do_not_fit_are_left_to_transformers(base: Path, loaded: list[str]) -> None:
    first = opened(base)
    some = {key: one for key, one in load_file(base / WEIGHTS).items() if not key.startswith("pooler")}
    second = opened(rewritten(base, some))
    assert loaded == ["base", "trained"]
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))  # the mean asks for no pooler


def test_damaged_weights_are_named_for_the_second_too(base: Path, trained: Path) -> None:
    first = opened(base)
    whole = (trained / WEIGHTS).read_bytes()
    (trained / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt, match=r"weights in .*trained"):
        opened(trained)
    assert first.encode(TEXTS).shape == (3, 24)


def test_what_a_model_keeps_beside_its_parameters_is_not_taken_over_from_another() -> None:
    model = nn.BatchNorm1d(4)
    kind = Kind.of(("a test of batch norm",), None, model)
    assert kind.model(model.state_dict(), "cpu", torch.float32) is None


def test_weights_of_another_shape_do_not_fit() -> None:
    kind = Kind.of(("a test of shapes",), None, nn.Linear(4, 3))
    assert kind.model(nn.Linear(5, 3).state_dict(), "cpu", torch.float32) is None
    fitting = nn.Linear(4, 3)
    found: Any = kind.model(fitting.state_dict(), "cpu", torch.float32)
    assert torch.equal(found(torch.ones(4)), fitting(torch.ones(4)))
    assert found.weight.data_ptr() == fitting.weight.data_ptr()
