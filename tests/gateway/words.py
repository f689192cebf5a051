"""Encoders that know nothing but words, each in a space of its own, and bundles that carry one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from core.bundle import Bundles
from core.catalogue import Item
from core.errors import Broken
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import Settings, TrainingSettings
from jobs.embedding import Embedder
from ranker import bundle, features
from ranker.bundle import Opened
from ranker.model import Examples, Ranker, train
from ranker.space import Space
from tests.ranker.tiny import DIM, TinyShop, vector_of

COLOURS, THINGS = "colours", "things"  # spaces in which an item is its first word, and its last one
_PLACE = {COLOURS: 0, THINGS: -1}


class Words:
    """In the space of colours what has a colour in common is alike, in that of things what is the same thing."""

    dim, weights_sha256 = DIM, "0"

    def __init__(self, space_id: str, folder: Path | None = None) -> None:
        self.space_id, self.name, self.folder = space_id, space_id, folder
        self.encoded: list[str] = []
        self.aside_too: list[str] = []  # of the encoded ones
        self.asked: list[str] = []
        self.broken = False
        self.may = threading.Event()  # holds up the encoding of items
        self.may.set()

    def vectors(self, items: Sequence[Item]) -> NDArray[np.float32]:
        assert self.may.wait(20)
        if self.broken:
            raise Broken("an encoder gave vectors with NaN")
        self.encoded += [item.item_id for item in items]
        return np.stack([self._vector(item.title) for item in items])

    def aside(self, items: Sequence[Item]) -> NDArray[np.float32]:
        self.aside_too += [item.item_id for item in items]
        return self.vectors(items)

    def query(self, text: str) -> NDArray[np.float32]:
        self.asked.append(text)
        return self._vector(text)

    def _vector(self, text: str) -> NDArray[np.float32]:
        return vector_of(text.split()[_PLACE[self.space_id]])

    def embedder(self) -> Embedder:
        """Itself, as what it stands for."""
        return cast(Embedder, self)


class Encoders:
    """Opens the encoders that bundles carry, and remembers them by bundle."""

    def __init__(self) -> None:
        self.opened: dict[str, Words] = {}
        self.times: list[str] = []
        self.before: dict[str, Words] = {}  # by space, what is to be opened

    def of_bundle(self, settings: Settings, opened: Opened, manifest: Manifest) -> Embedder | None:
        if opened.encoder is None:
            return None
        space = (opened.encoder / "space").read_text()
        self.times.append(manifest.id)
        self.opened[manifest.id] = self.before.get(space) or Words(space, opened.encoder)
        return self.opened[manifest.id].embedder()


@contextmanager
def encoders() -> Iterator[Encoders]:
    """What bundles carry is opened as an encoder of words."""
    found = Encoders()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "of_bundle", found.of_bundle)
        yield found


def ranker_of(settings: Settings, seed: int) -> Ranker:
    """A ranker that was trained on noise, and asks how near an item's text is to the shopper's taste."""
    names = features.names(settings)
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(1_000, len(names))).astype(np.float32)
    grades = (matrix[:, names.index("text_taste")] > 1).astype(np.int8)
    examples = Examples(matrix, grades, np.full(50, 20, np.int64))
    return train(examples, names, features.schema(settings), TrainingSettings(trees=3, leaves=7), threads=1)


def bundle_of(
    settings: Settings, tmp: Path, space: str, created_ms: int, shop: TinyShop | None = None, **contents: object
) -> str:
    """Write a bundle of that space that carries its encoder, with the vectors of a shop."""
    carried = tmp / f"{space}-encoder"
    carried.mkdir(exist_ok=True)
    (carried / "space").write_text(space)
    given = {"space_id": space, "features": FeatureSchema.of(features.names(settings)), "ranker": "lambdarank"}
    described = Contents(
        created_ms=created_ms, encoder=EncoderReference(space, "0", "words"), text={}, user_vector={},
        max_event_time=0, metrics={}, **(given | contents),  # type: ignore[arg-type]
    )  # fmt: skip
    snapshot, made = (shop or TinyShop(settings)).snapshot, ranker_of(settings, created_ms % 1_000)
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    return store.write(described, lambda folder: bundle.save(folder, made, snapshot, carried)).id


class WordShop(TinyShop):
    """A shop with the vectors of a space."""

    def __init__(self, settings: Settings, space: str) -> None:
        super().__init__(settings)
        self.space, self._words = space, Words(space)
        self.snapshot = replace(self.snapshot, space=Space(space, DIM, settings.index))

    def _publish(self, topic: str, key: str, value: object) -> None:
        self.live.offer(topic, key, value)
        if topic == "catalogue" and isinstance(value, Item):
            assert self.snapshot.space is not None
            self.snapshot.space.offer(self._words.space_id, [key], self._words.vectors([value]))
