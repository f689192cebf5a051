"""Vectors for items: text from the catalogue, encoded once per text and space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from core.settings import Settings
from models.cache import VectorCache, encode_cached
from models.text import item_text

if TYPE_CHECKING:
    from models.encoder import Encoder


class Embedder:
    """An encoder with the template it goes with and the cache of what it has encoded."""

    def __init__(self, encoder: Encoder, cache: VectorCache, settings: Settings) -> None:
        self._encoder, self._cache, self._settings = encoder, cache, settings
        self.space_id, self.dim, self.name = encoder.space_id, encoder.dim, encoder.name
        self.weights_sha256 = encoder.weights_sha256

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """The embedder of the settings; None when text is switched off."""
        if settings.encoder.model == "none":
            return None
        from models.encoder import Encoder  # torch takes seconds to import: only where text is used

        encoder = Encoder.open(settings.encoder, settings.text)
        return cls(encoder, VectorCache(settings.encoder.cache), settings)

    def vectors(self, items: Sequence[Item], progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Unit vectors of the items' texts, `(items, dim)`; the id stands in for an item without any."""
        texts = [item_text(item, self._settings.text) or item.item_id for item in items]
        return encode_cached(self._encoder, self._cache, texts, progress)

    def query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a shopper's words, `(dim,)`; not cached."""
        vector: NDArray[np.float32] = self._encoder.encode([text])[0]
        return vector
