"""Making texts vary while a model learns: words and fields that are left out by chance.

What is left out is masked, not cut: so it works on activations that were computed once too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

WORDS, FIELDS = "drop_words", "drop_fields"
WORD_CHANCE: Final = 0.15
FIELD_CHANCE: Final = 0.25
_SEPARATOR: Final = "|"  # stands between the fields of an item's text

Marks = NDArray[np.int64]  # (texts, tokens), 1 for what is read


@dataclass(frozen=True, slots=True)
class Dropper:
    """Which options are on, and what tells fields apart."""

    words: bool
    fields: bool
    separator: int

    @classmethod
    def of(cls, augment: Collection[str], tokenizer: Any) -> Dropper:
        """The text options among the names; others are for whoever reads histories."""
        separator = tokenizer.convert_tokens_to_ids(_SEPARATOR)
        return cls(WORDS in augment, FIELDS in augment, -1 if separator is None else int(separator))

    def keep(self, ids: NDArray[np.int64], mask: Marks, seed: int) -> Marks:
        """The mask without what is dropped; each text keeps its ends and at least one word more."""
        if not (self.words or self.fields):
            return mask
        chance = np.random.default_rng(seed)
        field = np.cumsum(ids == self.separator, axis=1)
        left = mask.astype(bool)
        if self.fields:
            out = chance.random((len(ids), int(field.max(initial=0)) + 1)) < FIELD_CHANCE
            left &= ~np.take_along_axis(out, field, axis=1)
        if self.words:
            left &= chance.random(ids.shape) >= WORD_CHANCE
        ends = _ends(mask)
        spare = (left & ~ends).any(axis=1, keepdims=True)
        return np.where(spare, left | ends, mask).astype(np.int64)


def _ends(mask: Marks) -> NDArray[np.bool_]:
    """First and last token of each text, which mark its ends."""
    places = np.arange(mask.shape[1])
    ends: NDArray[np.bool_] = (places == 0) | (places == mask.sum(axis=1, keepdims=True) - 1)
    return ends
