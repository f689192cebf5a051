"""What one process at a time may use. The kernel lets a claim go with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from core.errors import Unavailable

AGAIN_S: Final = 0.05
MOMENTS: Final = 5  # tries that outlast somebody who only sees whether it is free


class Claim:
    """Holds the lock of a file, which is made where it is not there, its folder too; released at the end of a `with`.

    Args:
        path: of the file.
        busy: what it means that another process holds it, and what to do.
        tries: to get it, `MOMENTS` or 1.

    Raises:
        Unavailable: another process holds it: `busy`, and which one it is.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, busy: str, tries: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        while not self._taken():
            tries -= 1
            if tries <= 0:
                self._file.seek(0)
                owner = self._file.read().strip()
                self._file.close()
                raise Unavailable(f"{busy} ({owner or 'another process'} has it)")
            time.sleep(AGAIN_S)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}")
        self._file.flush()

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let another process have it."""
        self._file.close()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
