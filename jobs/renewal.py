"""The encoder job as a whole: an encoder, a ranker in its space, the comparison, one bundle with both.

A run that is killed goes on: an encoder that was ready is not trained again, and what was not yet a bundle
is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from core.ids import DAY_MS
from core.settings import Settings
from jobs import train, train_encoder
from jobs.embedding import Embedder

READY: Final = "ready.json"
GOOD_MS: Final = DAY_MS  # an encoder that was ready longer ago is trained anew
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a run came to. `encoder` is None where one from before was gone on with, `whole` where none was better."""

    encoder: train_encoder.Outcome | None
    whole: train.Outcome | None

    @property
    def result(self) -> train.Result:
        return self.whole.result if self.whole else "kept"

    @property
    def why(self) -> str:
        said = [one.why for one in (self.encoder, self.whole) if one is not None]
        return "; ".join(said)


class Ready(msgspec.Struct, frozen=True):
    """An encoder that waits for its ranker."""

    folder: str
    unseen_ms: int
    made_ms: int
    about: str


def run(settings: Settings, now_ms: int, progress: Progress, *, archive: str = "", force: bool = False) -> Renewed:
    """Train an encoder, and where it finds more by text, what else a bundle needs; promote that if it is better.

    Args:
        settings: of the shop.
        now_ms: wall clock.
        progress: told (what, done, total).
        archive: as in `jobs.train.run`.
        force: promote whatever the checks and the comparison say.

    Raises:
        BadSettings: text is switched off, or an option of `tuning.augment` is none.
        Missing: too little was recorded.
    """
    encoder, ready = None, _ready(settings, now_ms)
    if ready is None:
        encoder = train_encoder.run(settings, now_ms, progress, archive=archive)
        if encoder.folder is None:
            return Renewed(encoder, None)
        ready = Ready(encoder.folder.name, encoder.unseen_ms, now_ms, train_encoder.mark_of(settings))
        _note(settings, ready)
    embedder = Embedder.trained(settings, settings.tuning.path / ready.folder)
    whole = train.run(settings, embedder, now_ms, progress, force=force, archive=archive, unseen_ms=ready.unseen_ms)
    (settings.tuning.path / READY).unlink(missing_ok=True)
    prune(settings)
    return Renewed(encoder, whole)


def prune(settings: Settings) -> list[Path]:
    """Delete trained encoders but the newest `tuning.keep` and the one that `encoder.model` names."""
    from models.trained import NOTES  # torch takes seconds to import

    store = settings.tuning.path
    found = [path.parent for path in store.glob(f"*/{NOTES}") if not path.parent.name.startswith(".")]
    newest = sorted(found, key=lambda folder: (folder / NOTES).stat().st_mtime_ns, reverse=True)
    named = Path(settings.encoder.model).resolve()
    gone = [folder for folder in newest[settings.tuning.keep :] if folder.resolve() != named]
    for folder in gone:
        hidden = folder.with_name(f".removing-{folder.name}")  # never half an encoder under its name
        folder.rename(hidden)
    for hidden in store.glob(".removing-*"):
        shutil.rmtree(hidden)
    return gone


def _ready(settings: Settings, now_ms: int) -> Ready | None:
    path = settings.tuning.path / READY
    try:
        ready = msgspec.json.decode(path.read_bytes(), type=Ready)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    good = ready.about == train_encoder.mark_of(settings) and now_ms - ready.made_ms < GOOD_MS
    return ready if good and (settings.tuning.path / ready.folder).is_dir() else None


def _note(settings: Settings, ready: Ready) -> None:
    partial = settings.tuning.path / (READY + ".partial")
    partial.write_bytes(msgspec.json.encode(ready))
    partial.replace(settings.tuning.path / READY)
