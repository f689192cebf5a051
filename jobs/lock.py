"""Locks between processes. The kernel lets them go with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import Unavailable


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is not there; its folder too.

    Raises:
        Unavailable: another process holds it; `busy` says what that means.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(busy) from None
        yield
    finally:
        os.close(file)
