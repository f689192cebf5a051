"""The small file beside an index's vectors that says what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from core.errors import Corrupt, Missing

Kind = Literal["exact", "flat", "ivf"]

_FILE: Final = "index.json"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`trained_on` counts the vectors that an ivf's lists were made from."""

    v: int = 1
    kind: Kind
    space_id: str
    dim: int
    count: int
    trained_on: int = 0


def write_header(folder: Path, header: Header) -> None:
    """Make the folder where needed and write the header into it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_bytes(msgspec.json.encode(header))


def read_header(folder: Path) -> Header:
    """What was written.

    Raises:
        Missing: there is no index in the folder.
        Corrupt: the header cannot be read.
    """
    path = folder / _FILE
    if not path.is_file():
        raise Missing(f"no index in {folder}: {_FILE} is not there")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Header)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{path} cannot be read: {error}") from None


def check_stored(header: Header, shape: tuple[int, ...]) -> None:
    """Refuse vectors that are not the header's.

    Raises:
        Corrupt: another number or another length of vectors.
    """
    if shape != (header.count, header.dim):
        raise Corrupt(f"the index should hold vectors of shape {(header.count, header.dim)}, got {shape}")
