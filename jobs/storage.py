"""Where the archive's files lie: a folder, or an object store by its URL. A file is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from core.claim import MOMENTS, Claim
from core.disk import sync
from core.errors import BadSettings, Unavailable

_LOCK: Final = ".lock"
_WRITING: Final = ".writing-"
_LOCAL: Final = "file://"


class Storage(Protocol):
    """Files by name; a name has slashes between folders. Every method raises Unavailable where it cannot be done."""

    where: str

    def names(self) -> list[str]:
        """The names of all files that are whole, in order."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place in one move; durable on return. A file of this name is replaced."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already do not matter."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one that writes, where that can be seen to, and remove what killed writers left."""


def open_storage(path: str) -> Storage:
    """The storage of a folder's path or an object store's URL; nothing is made or asked yet.

    Raises:
        BadSettings: no such kind of store, or the package that reads it is not installed.
    """
    if "://" not in path or path.startswith(_LOCAL):
        return Folder(Path(path.removeprefix(_LOCAL)))
    import fsspec  # type: ignore[import-untyped]

    try:
        files, root = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise BadSettings(f"archive.path {path!r} cannot be opened: {error}") from None
    return ObjectStore(files, root, path)


class Folder:
    """Files of this machine, or of a network's file system that renames in one step."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = str(root)

    def names(self) -> list[str]:
        with self._reported("listed"):
            found = (path for path in self._root.rglob("*.parquet") if not path.name.startswith("."))
            return sorted(path.relative_to(self._root).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        with self._reported("read"):
            return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        aside = path.with_name(_WRITING + path.name)
        with self._reported("written"):
            self._make(path.parent)
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            sync(path.parent)

    def delete(self, names: Iterable[str]) -> None:
        with self._reported("removed"):
            for name in names:
                (self._root / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder's lock; the kernel lets it go with the process, however that ends.

        Raises:
            Unavailable: another process has it.
        """
        with self._reported("locked"):
            self._make(self._root)
        with Claim(self._root / _LOCK, f"another process archives into {self._root}: one at a time", MOMENTS):
            for path in self._root.rglob(_WRITING + "*"):
                path.unlink(missing_ok=True)
            yield

    def _make(self, folder: Path) -> None:
        """The folder and those above it; a new one's name is on the disk too."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            sync(folder.parent)

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"the archive {self._root} cannot be {what}: {error}") from error


class ObjectStore:
    """Objects that fsspec reaches: s3://, gs://, abfs:// and what else it knows. One write is one PUT.

    Nothing keeps a second writer away: what two write of the same records, a reader tells once.
    """

    def __init__(self, files: Any, root: str, url: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self.where = url

    def names(self) -> list[str]:
        with self._reported("listed"):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._root)
            except FileNotFoundError:
                return []
        return sorted(path.removeprefix(self._root).lstrip("/") for path in found if path.endswith(".parquet"))

    def read(self, name: str) -> bytes:
        with self._reported("read"):
            return bytes(self._files.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        with self._reported("written"):
            self._files.pipe_file(f"{self._root}/{name}", data)

    def delete(self, names: Iterable[str]) -> None:
        with self._reported("removed"):
            for name in names:
                if self._files.exists(f"{self._root}/{name}"):
                    self._files.rm_file(f"{self._root}/{name}")

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store's package has errors of its own
            raise Unavailable(f"the archive {self.where} cannot be {what}: {error!r:.300}") from error
