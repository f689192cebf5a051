"""Bundles: everything one version of the recommender is made of, as an immutable folder.

    <root>/<bundle id>/manifest.json    what it is, and the checksum of every other file
    <root>/<bundle id>/...              encoder, index, ranker: whatever the manifest names
    <root>/current                      the pointer: which bundle serves, and which served before
    <root>/shadow                       which bundle answers unseen; absent for none

A folder appears under its id in one rename, after everything in it is on the disk; the pointer
is replaced in one rename too. A process that is killed at any moment leaves the old state or
the new one. Changes are serialised between processes by a lock on <root>/.lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from core import manifest as manifests
from core.disk import opened, read_json, sync
from core.errors import Missing
from core.manifest import Contents, Manifest

POINTER: Final = "current"
SHADOW: Final = "shadow"
_LOCK: Final = ".lock"
_WRITING: Final = ".writing-"
_REMOVING: Final = ".removing-"
_ID: Final = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{20}")


class Pointer(msgspec.Struct, frozen=True):
    """Which bundle serves, and the ones that served before it, latest first.

    `since_ms` is when it was promoted, 0 where that does not count: it serves again, or nobody told.
    """

    id: str
    previous: tuple[str, ...] = ()
    since_ms: int = 0

    def rival(self, now_ms: int, probation_s: float) -> str | None:
        """The bundle that a newly promoted one is still compared with; None once its probation is over."""
        newly = self.since_ms and now_ms < self.since_ms + probation_s * 1000.0
        return self.previous[0] if newly and self.previous else None


class Shadow(msgspec.Struct, frozen=True):
    """Which bundle answers unseen."""

    id: str


class Bundles:
    """The bundles in one folder. `keep` is how many of the newest `prune` leaves, and how far back one can roll."""

    def __init__(self, root: Path, keep: int) -> None:
        self.root = root
        self.keep = keep

    def write(self, contents: Contents, fill: Callable[[Path], None]) -> Manifest:
        """Make a bundle of what `fill` puts into the empty folder it is given.

        Nothing is visible before all of it is on the disk. The same contents and files at the
        same `created_ms` are the same bundle: a repeated write returns the first.

        Raises:
            BadInput: a value that the manifest cannot hold, or a link or manifest.json made by `fill`.
            Corrupt: the bundle is there already, and damaged.
        """
        with self._draft() as draft:
            fill(draft)
            manifest = manifests.describe(contents, draft)
            manifests.save(manifest, draft)
            _sync_tree(draft)
            with self._locked():
                if not self.folder(manifest.id).exists():
                    draft.rename(self.folder(manifest.id))
                    sync(self.root)
                    return manifest
        return self.load(manifest.id)

    def load(self, bundle_id: str) -> Manifest:
        """The manifest of a bundle, every file of which was read and has its checksum.

        Raises:
            Missing: no such bundle.
            Corrupt: a file is absent or differs.
        """
        manifest = self._manifest(bundle_id)
        manifests.verify(manifest, self.folder(bundle_id))
        return manifest

    def promote(self, bundle_id: str, now_ms: int = 0) -> Manifest:
        """Verify a bundle and make it the one that serves, on probation from `now_ms` on; 0 for no probation.

        Raises:
            Missing: no such bundle.
            Corrupt: a file is absent or differs; what served goes on serving.
        """
        manifest = self.load(bundle_id)
        with self._locked():
            if not self.folder(bundle_id).exists():
                raise self._missing(bundle_id)
            old = self.pointer()
            if old is None:
                self._write(POINTER, Pointer(bundle_id, (), now_ms))
            elif old.id != bundle_id:
                self._write(POINTER, Pointer(bundle_id, (old.id, *old.previous)[: self.keep], now_ms))
        return manifest

    def rollback(self) -> str:
        """Go back to the bundle that served before this one, and return its id.

        Raises:
            Missing: none served before, or it is gone.
            Corrupt: that bundle is damaged; what served goes on serving.
        """
        with self._locked():
            now = self.pointer()
            if now is None or not now.previous:
                raise Missing(f"nothing to roll back to: no bundle served before {now.id if now else 'now'}")
            back, *earlier = now.previous
            self.load(back)
            self._write(POINTER, Pointer(back, tuple(earlier)))
        return back

    def shadow(self, bundle_id: str | None) -> None:
        """Verify a bundle and have it answer unseen, beside the one that serves; None for none any more.

        Raises:
            Missing: no such bundle.
            Corrupt: a file is absent or differs.
        """
        if bundle_id is not None:
            self.load(bundle_id)
        with self._locked():
            if bundle_id is not None:
                self._write(SHADOW, Shadow(bundle_id))
            else:
                (self.root / SHADOW).unlink(missing_ok=True)
                sync(self.root)

    def current_id(self) -> str | None:
        """Which bundle serves; None before the first promotion. Cheap enough to ask every second."""
        pointer = self.pointer()
        return pointer.id if pointer else None

    def pointer(self) -> Pointer | None:
        """Which bundle serves and which did before; None before the first promotion. As cheap as `current_id`."""
        return read_json(self.root / POINTER, Pointer)

    def shadow_id(self) -> str | None:
        """Which bundle answers unseen; as cheap as `current_id`."""
        shadow = read_json(self.root / SHADOW, Shadow)
        return shadow.id if shadow else None

    def current(self) -> Manifest | None:
        """The manifest of the bundle that serves; its files were verified when it was promoted."""
        pointer = self.pointer()
        return self._manifest(pointer.id) if pointer else None

    def list(self) -> tuple[Manifest, ...]:
        """Every bundle's manifest, newest first.

        Raises:
            Corrupt: one of the manifests is damaged.
        """
        return tuple([self._manifest(bundle_id) for bundle_id in self._ids()])

    def prune(self) -> tuple[str, ...]:
        """Delete bundles but the `keep` newest, the current one, those it can be rolled back to and the unseen one.

        Returns the ids that were deleted. What a process has open or mapped stays readable to it.
        """
        with self._locked():
            pointer = self.pointer()
            wanted = {
                *self._ids()[: self.keep],
                *((pointer.id, *pointer.previous) if pointer else ()),
                self.shadow_id(),
            }
            gone = tuple([bundle_id for bundle_id in self._ids() if bundle_id not in wanted])
            for bundle_id in gone:
                self.folder(bundle_id).rename(self.root / f"{_REMOVING}{bundle_id}")
            sync(self.root)
            self._sweep()
        return gone

    def folder(self, bundle_id: str) -> Path:
        """Where a bundle's files lie, whether it exists or not.

        Raises:
            Missing: that is no bundle id.
        """
        if not _ID.fullmatch(bundle_id):
            raise self._missing(bundle_id)
        return self.root / bundle_id

    def _ids(self) -> tuple[str, ...]:
        found = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        return tuple(sorted([name for name in found if _ID.fullmatch(name)], reverse=True))

    def _missing(self, bundle_id: str) -> Missing:
        return Missing(f"no bundle {bundle_id!r} in {self.root}; there are {', '.join(self._ids()) or 'none'}")

    def _manifest(self, bundle_id: str) -> Manifest:
        folder = self.folder(bundle_id)
        if not folder.exists():
            raise self._missing(bundle_id)
        return manifests.read(folder)

    def _write(self, name: str, value: Pointer | Shadow) -> None:
        draft = self.root / f"{_WRITING}{name}"
        draft.write_bytes(msgspec.json.encode(value))
        sync(draft)
        draft.replace(self.root / name)
        sync(self.root)

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        """An empty folder, locked while its writer lives, so that only abandoned ones are swept."""
        with self._locked():
            self._sweep()
            numbered = (self.root / f"{_WRITING}{number}" for number in count())
            draft = next(folder for folder in numbered if not folder.exists())
            draft.mkdir()
            handle = os.open(draft, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield draft
        finally:
            if draft.exists():
                shutil.rmtree(draft)
            os.close(handle)

    def _sweep(self) -> None:
        """Remove what killed processes left; to be called under the lock."""
        for name in (POINTER, SHADOW):
            (self.root / f"{_WRITING}{name}").unlink(missing_ok=True)
        for path in self.root.glob(f"{_REMOVING}*"):
            shutil.rmtree(path)
        for path in self.root.glob(f"{_WRITING}*"):
            if _abandoned(path):
                shutil.rmtree(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / _LOCK).open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _abandoned(folder: Path) -> bool:
    """Whether the process that was writing it is gone: the lock it held went with it."""
    with opened(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync(path)
