"""Putting files and folders on the disk, for whoever must find them after a power loss; reading small ones back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from core.errors import Corrupt

T = TypeVar("T")


def sync(path: Path) -> None:
    """Wait until a file's content, or which files a folder has, is on the disk."""
    with opened(path) as handle:
        os.fsync(handle)


def read_json(path: Path, kind: type[T]) -> T | None:
    """What a file holds; None where there is no file.

    Raises:
        Corrupt: it holds nothing of that kind.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{path} cannot be read: {error}") from None


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
