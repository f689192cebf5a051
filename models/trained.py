"""The folder of a trained encoder: all that `Encoder.open` reads, and what is known of its making."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
from safetensors.torch import save_file

from core.disk import read_json, sync
from models.lora import merge
from models.tower import Tower
from models.weights import weights_sha256

NOTES: Final = "training.json"
_WRITING: Final = ".writing"
_BASE: Final = (".safetensors", ".index.json", ".bin", ".onnx", ".h5", ".md", NOTES)  # not of the new encoder


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What a trained encoder comes from. Times in ms since 1970, UTC."""

    v: int = 1
    base: str  # name of the model that training began from
    base_sha256: str
    rung: str
    seed: int
    max_event_ms: int  # newest event that it has seen
    figures: dict[str, Any]


def write(tower: Tower, into: Path, notes: Notes) -> Path:
    """Write the encoder below a folder, named for its weights; it appears there when it is complete.

    The adapters of the tower become a part of its weights. One process writes at a time: what another
    one left unfinished is removed.
    """
    into.mkdir(parents=True, exist_ok=True)
    partial = into / _WRITING
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(tower.folder, partial, ignore=lambda _, names: [n for n in names if n.endswith(_BASE)])
    merge(tower.model)
    weights = {name: one.detach().cpu().contiguous() for name, one in tower.model.state_dict().items()}
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    tower.head.save(partial)
    (partial / NOTES).write_bytes(msgspec.json.format(msgspec.json.encode(notes)))
    for path in partial.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors lets nobody else read, and what serves may be another user
            sync(path)
    final = into / weights_sha256(partial)[:16]
    if final.exists():  # the same weights: nothing is new but the notes
        (partial / NOTES).replace(final / NOTES)
        shutil.rmtree(partial)
    else:
        partial.replace(final)
    return final


def notes_of(folder: Path) -> Notes | None:
    """What is known of an encoder's making; None of one that was not made here.

    Raises:
        Corrupt: there are notes that cannot be read.
    """
    return read_json(folder / NOTES, Notes)
