"""What opens a whole bundle: the ranker and the vectors, checked against the settings of the process.

    ranker.txt     LightGBM's own text; absent while the blend ranks
    ease.npz       the model of histories (`ranker.ease`); absent where none could be fitted
    items.txt      item ids, one a line, in the order of the vectors
    vectors.npy    float16, (items, dim), unit length
    texts.npy      int64, by item, when its text had last changed (ms)
    user_tower.npz what makes a shopper's vector (`models.user_tower`); absent where that is the mean of recent items
    queries.npy    float16, (at most 500, dim), vectors of recent shoppers, to set the index by
    encoder/       the encoder, where it was trained here; absent where the manifest names published weights

A vector whose item has another such time by now is of an old text.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import Broken
from core.manifest import Manifest
from core.settings import Settings
from models.user_tower import UserTower
from ranker import features
from ranker.ease import Ease
from ranker.model import Ranker
from ranker.recommend import Snapshot
from ranker.user_vector import Transformer

RANKER, ITEMS, VECTORS, TEXTS = "ranker.txt", "items.txt", "vectors.npy", "texts.npy"
QUERIES, ENCODER = "queries.npy", "encoder"


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle in memory. The vectors are mapped: processes on one machine share them."""

    manifest: Manifest
    ranker: Ranker | None
    items: tuple[str, ...]
    vectors: NDArray[np.float16]
    texts: NDArray[np.int64]
    ease: Ease | None
    encoder: Path | None = None  # folder of the encoder that it carries
    tower: UserTower | None = None  # None where the mean of recent items makes the user vector
    queries: NDArray[np.float16] | None = None  # of recent shoppers, to set the index by


def save(folder: Path, ranker: Ranker | None, snapshot: Snapshot, encoder: Path | None = None) -> None:
    """Write the files of a bundle: the ranker, the vectors of all items that have one, and a trained encoder.

    Args:
        folder: empty, as `core.bundle.Bundles.write` gives it.
        ranker: None while the blend ranks.
        snapshot: whose vectors, queries, model of histories and rule of the user vector go into it.
        encoder: folder of a trained encoder that made the vectors; it is copied. None for published weights.
    """
    if encoder is not None:
        shutil.copytree(encoder, folder / ENCODER)
    if ranker is not None:
        ranker.save(folder / RANKER)
    live, space = snapshot.live, snapshot.space
    if live.ease is not None:
        live.ease.ease.save(folder)
    if isinstance(snapshot.user, Transformer):
        snapshot.user.tower.save(folder)
    if space is not None and space.queries is not None:
        np.save(folder / QUERIES, space.queries.astype(np.float16))
    if space is None:
        (folder / ITEMS).write_text("")
        np.save(folder / VECTORS, np.zeros((0, 0), np.float16))
        np.save(folder / TEXTS, np.zeros(0, np.int64))
        return
    rows = np.flatnonzero(space.has[: len(live)])
    # a line break in an id would move every id behind it
    rows = np.array([row for row in rows.tolist() if live.ids[row].splitlines() == [live.ids[row]]], np.int64)
    (folder / ITEMS).write_text("\n".join(live.ids[row] for row in rows.tolist()))
    np.save(folder / VECTORS, space.vectors[rows])
    sold = [live.items[row] for row in rows.tolist()]
    np.save(folder / TEXTS, np.array([item.text_ts if item else 0 for item in sold], np.int64))


def open_bundle(folder: Path, manifest: Manifest, settings: Settings) -> Opened:
    """Read a bundle whose checksums were verified.

    Raises:
        Broken: its ranker wants other features than these settings give.
    """
    ranker = None
    if manifest.ranker != "blend":
        schema = features.schema(settings)
        if manifest.features.hash != schema:
            raise Broken(
                f"bundle {manifest.id} was trained on feature schema {manifest.features.hash}, "
                f"the settings give {schema}: train again after a change of popularity.half_lives_s"
            )
        ranker = Ranker.load(folder / RANKER, schema)
    text = (folder / ITEMS).read_text()
    items = tuple(text.split("\n")) if text else ()
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    queries = np.load(folder / QUERIES) if (folder / QUERIES).exists() else None
    return Opened(
        manifest, ranker, items, vectors, np.load(folder / TEXTS), Ease.load(folder), encoder_in(folder),
        UserTower.load(folder), queries,
    )  # fmt: skip


def encoder_in(folder: Path) -> Path | None:
    """The folder of the encoder that a bundle's folder carries."""
    carried = folder / ENCODER
    return carried if carried.is_dir() else None
