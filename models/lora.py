"""Low-rank adapters (Hu et al. 2021): a frozen layer, and a small product of two matrices beside it that learns."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

ALPHA: Final = 2.0  # how much the product counts, over its rank


class Adapted(nn.Module):
    """A linear layer with an adapter. It begins as the layer itself: the second matrix is zero."""

    def __init__(self, layer: nn.Linear, rank: int, seed: int) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.layer = layer.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features, generator=chance) * layer.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        out: Tensor = self.layer(inputs)
        return out + ALPHA * (inputs @ self.down.T) @ self.up.T

    def merged(self) -> nn.Linear:
        """The plain layer that gives the same."""
        with torch.no_grad():
            self.layer.weight += ALPHA * self.up @ self.down
        return self.layer


def adapt(model: nn.Module, rank: int, names: tuple[str, ...] = ("query", "value")) -> int:
    """Give each linear layer of these names an adapter; how many there are."""
    found = [(parent, name) for parent in model.modules() for name in names if _is_linear(parent, name)]
    for seed, (parent, name) in enumerate(found):
        setattr(parent, name, Adapted(getattr(parent, name), rank, seed))
    return len(found)


def merge(model: nn.Module) -> None:
    """Put plain layers in the place of adapted ones."""
    found = [(parent, name, one) for parent in model.modules() for name, one in parent.named_children()]
    for parent, name, one in found:
        if isinstance(one, Adapted):
            setattr(parent, name, one.merged())


def _is_linear(parent: nn.Module, name: str) -> bool:
    return isinstance(getattr(parent, name, None), nn.Linear) and not isinstance(parent, Adapted)
