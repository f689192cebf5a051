"""Whether the vectors of a new encoder are sound: numbers, of unit length, different where the texts are.

A fine-tuning that goes wrong seldom fails: it moves all items to one point (collapse), or anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.vectors import Vectors

SAMPLE: Final = 2_000
NEAREST: Final = 20
UNIT: Final = 0.01  # of the length, which half precision loses a little of
ALIKE: Final = 1 - 1e-4  # cosine of what counts as the same vector
TWINS: Final = 0.01  # share of items that may have the vector of another text
CROWDED: Final = 0.95  # mean cosine of two items, from which on all are one
FLAT: Final = 2.0  # directions that the vectors spread over
SHARED: Final = 0.1  # of the nearest items that the champion finds too


@dataclass(frozen=True, slots=True)
class Health:
    """Figures of a space, and what is broken in it."""

    figures: dict[str, float]
    broken: tuple[str, ...]


def examine(vectors: Vectors, texts: Sequence[str], before: Vectors | None = None) -> Health:
    """Look at the vectors of a catalogue, or an even sample of it.

    Args:
        vectors: `(items, dim)`.
        texts: of the same items: equal ones have equal vectors by right.
        before: of the same items in the champion's space, with any width.
    """
    if not len(vectors):
        return Health({}, ())
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).any(1).sum())
        return Health({}, (f"{bad:,} of {len(vectors):,} vectors hold what is no number",))
    step = max(1, len(vectors) // SAMPLE)
    some = vectors[::step].astype(np.float32)
    figures = {
        "off unit length": float(np.abs(np.linalg.norm(some, axis=1) - 1).max()),
        "mean cosine": _mean_cosine(some),
        "effective rank": _effective_rank(some),
        "twins": _twins(some, texts[::step]),
    }
    if before is not None and len(some) >= 2 * NEAREST:
        figures["shared neighbours"] = _shared(some, before[::step].astype(np.float32))
        figures["mean cosine before"] = _mean_cosine(before[::step].astype(np.float32))
    return Health(figures, tuple(_broken(figures)))


def _broken(figures: dict[str, float]) -> list[str]:
    crowded = max(CROWDED, figures.get("mean cosine before", 0.0) + (1 - CROWDED) / 2)
    limits = (
        ("off unit length", UNIT, "vectors are off unit length by {:.3f}"),
        ("mean cosine", crowded, "the vectors have collapsed: the mean cosine of two items is {:.3f}"),
        ("twins", TWINS, "{:.1%} of the items have the vector of another text"),
    )
    found = [words.format(figures[name]) for name, most, words in limits if figures[name] > most]
    if figures["effective rank"] < FLAT:
        found.append(f"the vectors spread over {figures['effective rank']:.1f} directions only")
    if figures.get("shared neighbours", 1.0) < SHARED:
        found.append(f"of the nearest {NEAREST} items {figures['shared neighbours']:.0%} are those of what serves")
    return found


def _mean_cosine(vectors: Vectors) -> float:
    """Of two different items: the square of the sum, without what each has with itself."""
    n = len(vectors)
    return float((np.square(vectors.sum(0)).sum() - np.square(vectors).sum()) / max(1, n * (n - 1)))


def _effective_rank(vectors: Vectors) -> float:
    """The exponential of the entropy of the spectrum (Roy and Vetterli, "The effective rank", 2007), about the mean."""
    spectrum = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False).astype(np.float64)
    if spectrum.sum() <= 0:
        return 0.0
    share = spectrum / spectrum.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _twins(vectors: Vectors, texts: Sequence[str]) -> float:
    """The share of items for which another text has the same vector."""
    kinds = np.unique(np.array(texts), return_inverse=True)[1]
    near = vectors @ vectors.T >= ALIKE
    near &= kinds[:, None] != kinds[None, :]
    return float(near.any(1).mean())


def _shared(now: Vectors, before: Vectors) -> float:
    """How many of the nearest items are nearest in both spaces."""
    same = [_nearest(vectors) for vectors in (now, before)]
    return float(np.mean([len(np.intersect1d(a, b)) / NEAREST for a, b in zip(*same, strict=True)]))


def _nearest(vectors: Vectors) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2.0)
    return np.argpartition(-cosines, NEAREST, axis=1)[:, :NEAREST]
