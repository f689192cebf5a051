"""The shape of vectors, and what turns texts into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (n, dim), unit length
Progress = Callable[[int, int], None]  # texts done, texts in all


class TextEncoder(Protocol):
    """`models.encoder.Encoder` is the real one. Only vectors of an equal `space_id` may be compared."""

    @property
    def space_id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """One unit vector a text, row i for `texts[i]`."""
        ...
