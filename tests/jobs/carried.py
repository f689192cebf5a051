"""A trained encoder of three small layers, and bundles that carry it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from core.bundle import Bundles
from core.manifest import Contents, FeatureSchema
from core.settings import Settings
from jobs.embedding import Embedder
from models.head import Head
from ranker import bundle
from ranker.space import Space
from tests.models.tiny import tiny_encoder
from tests.ranker.tiny import TinyShop


def turned(shop: Settings, name: str = "turned", seed: int = 1) -> Path:
    """The base with a layer on top, as a trained encoder."""
    folder = tiny_encoder(Path(shop.encoder.model).with_name(name))
    head = Head(24)
    torch.manual_seed(seed)
    with torch.no_grad():
        head.turn.copy_(torch.randn(24, 24))
    head.save(folder)
    return folder


def written(shop: Settings, embedder: Embedder, created_ms: int) -> str:
    """A bundle of the space of an embedder, that carries its encoder if that was trained."""
    described = Contents(
        created_ms=created_ms, space_id=embedder.space_id, encoder=embedder.reference,
        text=msgspec.to_builtins(shop.text), user_vector={}, features=FeatureSchema(), max_event_time=0,
        ranker="blend", metrics={},
    )  # fmt: skip
    tiny = TinyShop(shop)
    object.__setattr__(tiny.snapshot, "space", Space(embedder.space_id, embedder.dim, shop.index))
    store = Bundles(shop.bundles.path, 5)
    return store.write(described, lambda into: bundle.save(into, None, tiny.snapshot, embedder.folder)).id
