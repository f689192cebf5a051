"""What encoders have in common that differ in their weights alone: how text becomes tokens, and how weights are wired.

A vocabulary takes tens of ms to read, during which no other thread of the process runs. A trained encoder has that
of its base, so the second one of a kind is opened without it, and from weights that are mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from torch import Tensor, device, dtype
from torch.nn import Parameter

Key = tuple[str, ...]
"""The digest of all files but the weights, and whatever else decides what an opened encoder is like."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Kind:
    """A tokeniser, and a model without weights. Remembered as long as an encoder holds it."""

    tokenizer: Any
    _shell: Any

    @classmethod
    def remembered(cls, key: Key) -> Kind | None:
        """That of an encoder that is open."""
        return _REMEMBERED.get(key)

    @classmethod
    def of(cls, key: Key, tokenizer: Any, model: Any) -> Kind:
        """That of an encoder that was just loaded; the model is not kept."""
        kind = cls(tokenizer, _like(model, {name: one.detach().to("meta") for name, one in model.named_parameters()}))
        _REMEMBERED[key] = kind
        return kind

    def model(self, weights: Mapping[str, Tensor], where: device | str, number: dtype) -> Any | None:
        """A model with those weights; None where one lacks or has another shape.

        They are not copied where place and number type fit. More of them than are wanted do not matter.
        """
        wanted = dict(self._shell.named_parameters())
        if wanted.keys() != self._shell.state_dict().keys():  # what is no parameter would be another encoder's
            return None
        if any(name not in weights or weights[name].shape != one.shape for name, one in wanted.items()):
            return None
        return _like(self._shell, {name: weights[name].to(where, number) for name in wanted})


_REMEMBERED: Final = WeakValueDictionary[Key, Kind]()


def _like(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """A copy of a model with other weights in their places."""
    places = {id(old): Parameter(weights[name], requires_grad=False) for name, old in model.named_parameters()}
    return deepcopy(model, places)
