"""A shopper's vector by two small causal transformers over the items used last: weights as they lie in a bundle.

SASRec (Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018) over text vectors. It answers
with numpy: what serves does not import torch. `models.user_training` learns the weights.

One transformer makes a query in the text space: the weighted mean of the items and what was learnt to be added to
it. It reads text alone, so that what it learnt holds for items that nobody had touched. The other one makes a state
that is compared with the learned `keys` of items, and knows a residual of those that were common enough to learn
one (as in UniSRec, Hou et al., KDD 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt

FILE: Final = "user_tower.npz"
ASKING: Final = "asking"  # the transformer of queries, as its weights are named
FORESEEING: Final = "foreseeing"  # that of states
_SMALL: Final = 1e-5  # in the root of a variance, as torch has it

Floats = NDArray[np.float32]


class Shape(msgspec.Struct, frozen=True):
    """What the weights are for."""

    space_id: str  # of the text vectors
    layers: int
    heads: int
    length: int  # newest items that are read
    max_event_ms: int  # newest event it has seen
    asks: bool = True  # its query serves; else the mean of the history does, and the tower only finds what it knows


@dataclass(frozen=True, slots=True)
class UserTower:
    """Weights by name, and the items that have a residual: row `place[item]` of `ids`, row 0 of all others.

    Among the weights, "known" holds the keys of these items, (items, width), by the texts they had.
    """

    shape: Shape
    items: tuple[str, ...]
    weights: Mapping[str, NDArray[Any]]
    place: Mapping[str, int] = field(init=False)
    known: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", {item: row for row, item in enumerate(self.items, 1)})
        object.__setattr__(self, "known", self.weights["known"])

    def places(self, items: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some items in `ids`; 0 for one without a residual."""
        return np.fromiter((self.place.get(item, 0) for item in items), np.int64, len(items))

    def query(self, vectors: Floats, amounts: Floats) -> Floats:
        """What a history asks for in the text space, `(dim,)` of unit length.

        Args:
            vectors: `(items, dim)` text vectors of the history, newest first; at least one.
            amounts: how much each counts in the mean, above 0.
        """
        vectors, w = vectors[: self.shape.length], self.weights
        mean = _unit((amounts[: len(vectors)] * np.exp(w["fade"][: len(vectors)])) @ vectors)
        return _unit(mean + w["out.weight"] @ self._read(ASKING, self._seen(ASKING, vectors)))

    def state(self, vectors: Floats, places: NDArray[np.int64]) -> Floats:
        """What is compared with `keys`, `(width,)` of unit length.

        Args:
            vectors: as in `query`.
            places: of these items, as `places` gives them.
        """
        vectors = vectors[: self.shape.length]
        seen = self._seen(FORESEEING, vectors) + self.weights["ids"][places[: len(vectors)]]
        return _unit(self._read(FORESEEING, seen))

    def keys(self, vectors: Floats, places: NDArray[np.int64]) -> Floats:
        """What states are compared with, `(items, width)`, of unit length: by text, and by item where known."""
        found = self._seen(FORESEEING, vectors) + self.weights["ids"][places]
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)

    def _seen(self, name: str, vectors: Floats) -> Floats:
        """Items as a transformer begins with them, (items, width)."""
        return np.asarray(vectors @ self.weights[f"{name}.text.weight"].T + self.weights[f"{name}.text.bias"])

    def _read(self, name: str, x: Floats) -> Floats:
        """What a transformer makes of them, newest first: (width,)."""
        layers, w = self.shape.layers, self.weights
        for layer in range(layers):
            x = self._block(x, f"{name}.blocks.{layer}.", only_newest=layer == layers - 1)
        return _normed(x[0], w[f"{name}.last.weight"], w[f"{name}.last.bias"])

    def _block(self, x: Floats, at: str, *, only_newest: bool) -> Floats:
        """One layer. Row 0 is the newest item: a row looks at itself and at what is older."""
        w, count = self.weights, len(x)
        width, heads = x.shape[1], self.shape.heads
        normed = _normed(x, w[at + "before.weight"], w[at + "before.bias"])
        mixed = (normed @ w[at + "mix.weight"].T + w[at + "mix.bias"]).reshape(count, 3, heads, -1)
        query, key, value = mixed.transpose(1, 2, 0, 3)  # each (heads, items, width of a head)
        asked = 1 if only_newest else count
        scores = query[:, :asked] @ key.transpose(0, 2, 1) / np.float32((width // heads) ** 0.5)
        if only_newest:
            scores += w[at + "ago"][:, None, :count]
        else:
            ago = np.arange(count) - np.arange(count)[:, None]
            scores = np.where(ago >= 0, scores + w[at + "ago"][:, np.maximum(ago, 0)], np.float32(-np.inf))
        share = np.exp(scores - scores.max(2, keepdims=True))
        share /= share.sum(2, keepdims=True)
        seen = (share @ value).transpose(1, 0, 2).reshape(asked, width)
        x = x[:asked] + seen @ w[at + "join.weight"].T + w[at + "join.bias"]
        inner = _normed(x, w[at + "then.weight"], w[at + "then.bias"]) @ w[at + "up.weight"].T + w[at + "up.bias"]
        return np.asarray(x + np.maximum(inner, 0) @ w[at + "down.weight"].T + w[at + "down.bias"], np.float32)

    def save(self, folder: Path) -> None:
        """Write one file into a folder, what there is of each item as float16."""
        facts = msgspec.json.encode((self.shape, self.items))
        stored = {
            **self.weights,
            **{name: self.weights[name].astype(np.float16) for name in ("ids", "known")},
            "facts": np.frombuffer(facts, np.uint8),
        }
        np.savez(folder / FILE, allow_pickle=False, **stored)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """What `save` wrote; None where there is none.

        Raises:
            Corrupt: there is one that cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with np.load(path) as stored:
                weights = {name: stored[name].astype(np.float32) for name in stored.files if name != "facts"}
                shape, items = msgspec.json.decode(stored["facts"].tobytes(), type=tuple[Shape, tuple[str, ...]])
        except (OSError, ValueError, KeyError, BadZipFile, msgspec.DecodeError) as error:
            raise Corrupt(f"{path} cannot be read: {error}") from None
        if f"{ASKING}.text.weight" not in weights:
            raise Corrupt(f"{path} holds a user tower with one transformer for both answers: train a new bundle")
        got = tuple(len(weights.get(name, ())) for name in ("ids", "known"))
        if got != (len(items) + 1, len(items)):
            raise Corrupt(f"{path} should hold residuals and keys of {len(items)} items, got {got[0]} and {got[1]}")
        return cls(shape, items, weights)


def _normed(x: Floats, scale: Floats, shift: Floats) -> Floats:
    """Layer normalisation over the last axis."""
    width = x.shape[-1]
    away = x - np.add.reduce(x, -1, keepdims=True) / np.float32(width)
    spread = np.sqrt(np.add.reduce(away * away, -1, keepdims=True) / np.float32(width) + np.float32(_SMALL))
    return np.asarray(away / spread * scale + shift, np.float32)


def _unit(vector: NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)
