"""A run of training on the disk: one file that is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.disk import sync


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the file of a run in one rename, after all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    whole = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    save_file(whole, partial, metadata={"facts": msgspec.json.encode(facts).decode()})
    sync(partial)
    partial.replace(path)


def load(path: Path, mark: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of the run with this mark; None where there is no such run, or what is there cannot be read.

    A run that cannot be gone on with is begun anew, and costs no more than that.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = msgspec.json.decode((file.metadata() or {}).get("facts", "{}"))
            if facts.get("mark") != mark:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - it is no mapping
    except (SafetensorError, msgspec.DecodeError, OSError):
        return None
