"""What an index takes, and the checks at its door."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import Broken, SpaceMixed
from models.vectors import Vectors

Keys = NDArray[np.int64]  # item row numbers

NO_KEY: Final = -1
_KEYS_BELOW: Final = 1 << 31
_UNIT_WITHIN: Final = 1e-3


def check_same_space(own: str, other: str) -> None:
    """Refuse vectors of another encoder.

    Raises:
        SpaceMixed: the two differ.
    """
    if own != other:
        raise SpaceMixed(f"the index holds vectors of space {own}, got some of {other}")


def unit(vectors: Vectors, dim: int) -> Vectors:
    """The same vectors, contiguous float32.

    Raises:
        Broken: another shape than (n, dim), or a row that is not of unit length.
    """
    checked = np.ascontiguousarray(vectors, np.float32)
    if checked.ndim != 2 or checked.shape[1] != dim:
        raise Broken(f"vectors must have shape (n, {dim}), got {checked.shape}")
    lengths = np.sqrt(np.einsum("nd,nd->n", checked, checked))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_WITHIN))  # the negation catches NaN
    if wrong.size:
        row = int(wrong[0])
        raise Broken(f"vectors must have length 1, got {lengths[row]} in row {row} ({wrong.size} of {len(checked)})")
    return checked


def keyed(keys: Keys, vectors: Vectors, dim: int) -> tuple[Keys, Vectors]:
    """Keys ascending and each once, with their last vectors.

    Raises:
        Broken: as `unit`, or keys that are not one number from 0 a vector.
    """
    checked = unit(vectors, dim)
    numbers = np.ascontiguousarray(keys, np.int64)
    if numbers.shape != (len(checked),):
        raise Broken(f"{len(checked)} vectors need as many keys, got shape {numbers.shape}")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < _KEYS_BELOW:
        raise Broken(f"keys are row numbers from 0 to 2**31 - 1, got {numbers.min()} to {numbers.max()}")
    once, last = np.unique(numbers[::-1], return_index=True)
    return once, checked[len(checked) - 1 - last]
