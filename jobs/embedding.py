"""Vectors for items: text from the catalogue, encoded once per text and space.

What a process encodes with is the encoder that the current bundle carries, where it carries one;
else the one that the settings name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundles
from core.catalogue import Item
from core.errors import HeadwaterError, Missing
from core.manifest import EncoderReference, Manifest
from core.settings import Settings
from models.cache import VectorCache, encode_cached
from models.text import item_text
from ranker.bundle import Opened, encoder_in

if TYPE_CHECKING:
    from models.encoder import Encoder

log = logging.getLogger("headwater")


class Embedder:
    """An encoder with the template it goes with and the cache of what it has encoded.

    `reference` is what the manifest of a bundle in this space says of the encoder. `folder` is where a trained
    encoder lies, which such a bundle has to carry (`ranker.bundle.save`); None for the one of the settings.
    """

    def __init__(
        self,
        encoder: Encoder,
        cache: VectorCache,
        settings: Settings,
        reference: EncoderReference | None = None,
        folder: Path | None = None,
    ) -> None:
        self._encoder, self._cache, self._settings = encoder, cache, settings
        self.reference = reference or EncoderReference(encoder.name, encoder.weights_sha256)
        self.space_id, self.dim, self.name = encoder.space_id, encoder.dim, self.reference.name
        self.weights_sha256, self.folder = encoder.weights_sha256, folder

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """The embedder of the settings; None when text is switched off."""
        if settings.encoder.model == "none":
            return None
        return cls(_opened(settings), VectorCache(settings.encoder.cache), settings)

    @classmethod
    def trained(cls, settings: Settings, folder: Path, name: str = "") -> Self:
        """The embedder of a trained encoder, that takes the place of the one that the settings name.

        Args:
            settings: with `encoder.model` as the shop has it: the base.
            folder: as `models.trained.write` made it.
            name: what bundles call it; without one that of its folder.

        Raises:
            Missing: that is no encoder.
        """
        own = msgspec.structs.replace(settings.encoder, model=str(folder))
        encoder = _opened(msgspec.structs.replace(settings, encoder=own))
        reference = EncoderReference(name or folder.name, encoder.weights_sha256, settings.encoder.model)
        return cls(encoder, VectorCache(settings.encoder.cache), settings, reference, folder)

    @classmethod
    def of_bundle(cls, settings: Settings, bundle: Opened | Path, manifest: Manifest) -> Self | None:
        """The embedder of the encoder that a bundle carries; None where it carries none, or text is switched off.

        Args:
            settings: of the shop.
            bundle: as opened, or its folder.
            manifest: of the bundle, whose checksums were verified.

        Raises:
            Missing: it takes the place of another base, or other settings make the texts.
        """
        carried = bundle.encoder if isinstance(bundle, Opened) else encoder_in(bundle)
        if carried is None or settings.encoder.model == "none":
            return None
        if manifest.encoder.base != settings.encoder.model:
            raise Missing(
                f"bundle {manifest.id} carries an encoder that was trained from {manifest.encoder.base!r}, "
                f"encoder.model is {settings.encoder.model!r}: set it back, or train again"
            )
        found = cls.trained(settings, carried, manifest.encoder.name)
        if found.space_id != manifest.space_id:
            raise Missing(
                f"bundle {manifest.id} is of space {manifest.space_id}, its encoder gives {found.space_id} here: "
                f"{_differences(settings, manifest)}; set it back, or train again"
            )
        return found

    @classmethod
    def serving(cls, settings: Settings) -> Self | None:
        """What to encode with now: the encoder that the current bundle carries, else that of the settings.

        A bundle that does not go with the settings is told in the log and passed over.
        """
        if settings.encoder.model == "none":
            return None
        store, now = Bundles(settings.bundles.path, settings.bundles.keep), None
        try:
            now = store.current()
            if now is not None and encoder_in(store.folder(now.id)) is not None:
                return cls.of_bundle(settings, store.folder(now.id), store.load(now.id))
        except HeadwaterError as error:
            log.error("bundle=%s its encoder is not used: %s", now.id if now else "current", error)
        return cls.open(settings)

    def vectors(self, items: Sequence[Item], progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Unit vectors of the items' texts, `(items, dim)`; the id stands in for an item without any."""
        texts = [item_text(item, self._settings.text) or item.item_id for item in items]
        return encode_cached(self._encoder, self._cache, texts, progress)

    def aside(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """As `vectors`, on one core: for what nobody waits for, in a process that answers requests.

        Several threads wait for each other at every layer, and where the cores are busy they take many times as long.
        """
        from models.encoder import one_thread

        with one_thread():
            return self.vectors(items)

    def query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a shopper's words, `(dim,)`; not cached."""
        vector: NDArray[np.float32] = self._encoder.encode([text])[0]
        return vector


class Newer:
    """Called now and then: the embedder of what serves by now, where that is of another space than the last one."""

    def __init__(self, settings: Settings, embedder: Embedder | None) -> None:
        self._settings = settings
        self._store = Bundles(settings.bundles.path, settings.bundles.keep)
        self._space = embedder.space_id if embedder is not None else ""
        self._seen = ""  # the bundle that was looked at last

    def __call__(self) -> Embedder | None:
        """None where nothing has changed, or what serves cannot be used."""
        if not self._space:
            return None
        try:
            now = self._store.current()
        except HeadwaterError as error:
            log.error("the current bundle cannot be read: %s", error)
            return None
        if now is None or now.id == self._seen:
            return None
        self._seen = now.id
        found = Embedder.serving(self._settings) if now.space_id not in ("", self._space) else None
        if found is None or found.space_id != now.space_id:  # what served goes on
            return None
        self._space = found.space_id
        log.info("bundle=%s items are encoded anew by %s", now.id, found.name)
        return found


def _opened(settings: Settings) -> Encoder:
    from models.encoder import Encoder  # torch takes seconds to import: only where text is used

    return Encoder.open(settings.encoder, settings.text)


def _differences(settings: Settings, manifest: Manifest) -> str:
    """Which settings of the text differ from those of the bundle."""
    ours = msgspec.json.decode(msgspec.json.encode(settings.text))
    found = [
        f"text.{name} is {value!r}, it was made with {manifest.text[name]!r}"
        for name, value in ours.items()
        if name in manifest.text and manifest.text[name] != value
    ]
    return "; ".join(found) or "encoder.max_tokens or the rules of item texts are others"
