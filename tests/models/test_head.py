from pathlib import Path

import pytest
import torch
from torch import nn

from core.errors import Corrupt
from models.head import FILE, Head
from models.lora import Adapted, adapt, merge


def test_a_head_comes_back_as_it_was_and_one_that_does_nothing_leaves_no_file(tmp_path: Path) -> None:
    head = Head(4)
    head.save(tmp_path)
    assert Head.beside(tmp_path, 4) is None
    with torch.no_grad():
        head.turn[0, 1] = 0.5
    head.save(tmp_path)
    again = Head.beside(tmp_path, 4)
    assert again is not None
    assert torch.equal(again(torch.eye(4)), head(torch.eye(4)))
    assert not torch.equal(head(torch.eye(4)), torch.eye(4))


def test_a_head_of_another_size_or_a_damaged_one_is_corrupt(tmp_path: Path) -> None:
    head = Head(4)
    with torch.no_grad():
        head.turn.add_(1.0)
    head.save(tmp_path)
    with pytest.raises(Corrupt, match="cannot be read"):
        Head.beside(tmp_path, 5)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(Corrupt, match="cannot be read"):
        Head.beside(tmp_path, 4)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.value(self.query(inputs) + self.key(inputs))
        return found


def test_an_adapter_begins_as_nothing_learns_alone_and_becomes_a_plain_layer() -> None:
    torch.manual_seed(1)
    model, inputs = Attention().requires_grad_(False), torch.randn(3, 6)
    before = model(inputs)
    assert adapt(model, rank=2) == 2
    assert torch.equal(model(inputs), before)
    learning = [name for name, one in model.named_parameters() if one.requires_grad]
    assert learning == ["query.down", "query.up", "value.down", "value.up"]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Adapted):
                module.up.add_(0.3)
    learnt = model(inputs)
    assert not torch.allclose(learnt, before)
    merge(model)
    assert all(type(one) is nn.Linear for one in model.children())
    assert torch.allclose(model(inputs), learnt, atol=1e-6)
