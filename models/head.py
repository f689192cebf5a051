"""A linear layer on pooled vectors, which a trained encoder may bring: `model_head.safetensors` beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.errors import Corrupt

FILE: Final = "model_head.safetensors"  # begins like the weights, so that their checksum covers it


class Head(nn.Module):
    """Adds a linear function of the unit vector to it; begins as nothing."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.zeros(dim, dim))

    @classmethod
    def beside(cls, folder: Path, dim: int) -> Head | None:
        """The head of an encoder's folder, where there is one.

        Raises:
            Corrupt: there is one that cannot be read, or of another size.
        """
        if not (folder / FILE).exists():
            return None
        head = cls(dim)
        try:
            head.load_state_dict(load_file(folder / FILE))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise Corrupt(f"{folder / FILE} cannot be read: {error}") from None
        return head

    def save(self, folder: Path) -> None:
        """Write it beside the weights; one that changes nothing is none."""
        if bool(self.turn.any()):
            save_file({"turn": self.turn.detach().cpu().contiguous()}, folder / FILE)

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, dim) pooled vectors to (n, dim), not of unit length."""
        unit = normalize(pooled)
        return unit + unit @ self.turn.T
