"""A user tower as it learns: what `models.user_tower` answers with, in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from models.user_tower import Shape, UserTower

if TYPE_CHECKING:
    from models.user_training import Plan

FADE: Final = 0.85  # of an item's weight in the mean beside the next newer one, to begin with
FORGOTTEN: Final = 0.2  # chance that the residual of an item read is left out: half of what is read is new some day


class _Block(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width = plan.width
        self.before, self.then = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.ago = nn.Parameter(torch.zeros(plan.heads, plan.length))
        self.drop = nn.Dropout(plan.dropout)

    def forward(self, x: Tensor, ago: Tensor) -> Tensor:
        """(histories, length, width), oldest first; `ago` how much older each column is than each row."""
        batch, length, width = x.shape
        heads = len(self.ago)
        parts = self.mix(self.before(x)).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / (width // heads) ** 0.5 + self.ago[:, ago.clamp(min=0)]
        share = scores.masked_fill(ago < 0, -torch.inf).softmax(-1)
        seen = (self.drop(share) @ parts[2]).transpose(1, 2).reshape(batch, length, width)
        x = x + self.drop(self.join(seen))
        out: Tensor = x + self.drop(self.down(self.drop(relu(self.up(self.then(x))))))
        return out


class _Reader(nn.Module):
    """One of the two transformers."""

    def __init__(self, dim: int, plan: Plan) -> None:
        super().__init__()
        self.text = nn.Linear(dim, plan.width)
        self.blocks = nn.ModuleList([_Block(plan) for _ in range(plan.layers)])
        self.last = nn.LayerNorm(plan.width)
        self.drop = nn.Dropout(plan.dropout)

    def forward(self, x: Tensor, ago: Tensor) -> Tensor:
        x = self.drop(x)
        for block in self.blocks:
            x = block(x, ago)
        out: Tensor = self.last(x)
        return out


class Net(nn.Module):
    """The tower as it learns; names of its parameters are those of `UserTower.weights`."""

    def __init__(self, dim: int, known: int, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.asking, self.foreseeing = _Reader(dim, plan), _Reader(dim, plan)
        self.ids = nn.Parameter(torch.zeros(known + 1, plan.width))
        self.out = nn.Linear(plan.width, dim, bias=False)
        self.fade = nn.Parameter(torch.arange(plan.length) * float(np.log(FADE)))
        nn.init.zeros_(self.out.weight)  # begins as the mean

    def queries(self, vectors: Tensor, amounts: Tensor) -> Tensor:
        """Queries after each item (histories, length, dim), oldest first.

        Args:
            vectors: (histories, length, dim).
            amounts: (histories, length), 0 where a history is over.
        """
        ago = _ago(vectors)
        weight = torch.where(ago >= 0, self.fade.exp()[ago.clamp(min=0)], 0.0)
        mean = normalize((weight * amounts[:, None, :]) @ vectors, dim=-1)
        return normalize(mean + self.out(self.asking(self.asking.text(vectors), ago)), dim=-1)

    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        """States after each item (histories, length, width); `places` (histories, length) are rows of `ids`."""
        seen = self.foreseeing.text(vectors) + self._residual(places)
        return normalize(self.foreseeing(seen, _ago(vectors)), dim=-1)

    def keys(self, vectors: Tensor, places: Tensor) -> Tensor:
        """(items, width) of items, of unit length."""
        return normalize(self.foreseeing.text(vectors) + self._residual(places), dim=-1)

    def _residual(self, places: Tensor) -> Tensor:
        if self.training:
            places = torch.where(torch.rand(places.shape, device=places.device) < FORGOTTEN, 0, places)
        return self.ids[places] * (places > 0)[..., None]

    @torch.no_grad()
    def tower(self, shape: Shape, items: tuple[str, ...], texts: Tensor) -> UserTower:
        """The weights as they are now, and the keys of the known items, whose text vectors are `texts`."""
        weights = {name: one.detach().cpu().numpy().copy() for name, one in self.named_parameters()}
        weights["ids"][0] = 0.0
        self.eval()
        weights["known"] = self.keys(texts, torch.arange(1, len(items) + 1)).cpu().numpy()
        return UserTower(shape, items, weights)


def _ago(vectors: Tensor) -> Tensor:
    """How much older each column is than each row, (length, length)."""
    at = torch.arange(vectors.shape[1], device=vectors.device)
    return at[:, None] - at
