"""Locks between processes. The kernel lets them go with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.errors import Unavailable

AGAIN_S: Final = 0.05


@contextmanager
def held(path: Path, busy: str, tries: int = 5) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is not there; its folder too.

    Args:
        path: of the file.
        busy: what it means that another process holds it.
        tries: to get it; somebody may hold it for a moment, only to see whether it is free.

    Raises:
        Unavailable: another process holds it; `busy` says what that means.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        while not _taken(file):
            tries -= 1
            if tries <= 0:
                raise Unavailable(busy)
            time.sleep(AGAIN_S)
        yield
    finally:
        os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
