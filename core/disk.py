"""Putting files and folders on the disk, for whoever must find them after a power loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file's content, or which files a folder has, is on the disk."""
    with opened(path) as handle:
        os.fsync(handle)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
