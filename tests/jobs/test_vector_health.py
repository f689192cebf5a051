from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.vector_health import Health, examine
from models.vectors import Vectors


def spread(n: int = 400, dim: int = 32, seed: int = 1) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def unit(vectors: NDArray[Any]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


TEXTS = [f"item {n}" for n in range(400)]
SOUND = spread()


def moved(vectors: Vectors, by: float) -> Vectors:
    """Each of them turned a little, or a lot."""
    return unit(vectors + by * spread(len(vectors), vectors.shape[1], seed=2))


def broken(vectors: Vectors, before: Vectors | None = SOUND, texts: list[str] = TEXTS) -> str:
    return "; ".join(examine(vectors, texts, before).broken)


def test_sound_vectors_pass() -> None:
    found = examine(moved(SOUND, 0.3), TEXTS, SOUND)
    assert found.broken == ()
    assert found.figures["effective rank"] > 20
    assert 0.3 < found.figures["shared neighbours"] < 1.0


def test_nothing_is_wrong_with_no_items() -> None:
    assert examine(np.zeros((0, 8), np.float32), []) == Health({}, ())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_named(value: float) -> None:
    vectors = SOUND.copy()
    vectors[7, 3] = value
    assert broken(vectors) == "1 of 400 vectors hold what is no number"


def test_vectors_of_another_length_are_named() -> None:
    assert "off unit length by 0.500" in broken(SOUND * 1.5)


def test_a_collapse_is_named() -> None:
    near = SOUND[0] + 0.01 * SOUND
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    assert "the vectors have collapsed: the mean cosine of two items is 1.000" in broken(near)


def test_a_base_that_is_crowded_by_itself_is_no_reason() -> None:
    crowded = SOUND[0] + 0.15 * SOUND
    crowded /= np.linalg.norm(crowded, axis=1, keepdims=True)
    assert "collapsed" in broken(crowded)
    assert "collapsed" not in broken(moved(crowded, 0.01), crowded)


def test_a_line_is_no_space() -> None:
    line = np.outer(np.random.default_rng(3).normal(size=400), SOUND[0]).astype(np.float32)
    line /= np.linalg.norm(line, axis=1, keepdims=True)
    assert "directions only" in broken(line)


def test_items_of_other_texts_with_the_same_vector_are_named_and_those_of_the_same_text_are_not() -> None:
    vectors = SOUND.copy()
    vectors[:40] = vectors[0]
    assert "10.0% of the items have the vector of another text" in broken(vectors)
    assert "another text" not in broken(vectors, texts=["same"] * 40 + TEXTS[40:])


def test_neighbours_that_have_nothing_to_do_with_those_before_are_named() -> None:
    assert "of the nearest 20 items 5% are those of what serves" in broken(spread(seed=9))
    assert broken(spread(seed=9), None) == ""
