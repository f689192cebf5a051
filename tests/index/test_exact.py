from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Corrupt
from index.ann import load
from index.exact import Exact
from models.vectors import Vectors


def spread(count: int, dim: int = 8, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@given(count=st.integers(1, 60), k=st.integers(1, 70), seed=st.integers(0, 9), copies=st.integers(0, 20))
def test_the_answer_is_what_sorting_everything_gives(count: int, k: int, seed: int, copies: int) -> None:
    vectors = spread(count, seed=seed)
    vectors[:copies] = vectors[0]
    index = Exact("space", 8)
    index.add(np.arange(count)[::-1], vectors[::-1])
    keys, _ = index.search(vectors[:1], k)
    products = np.einsum("nd,d->n", vectors, vectors[0])
    wanted = sorted(range(count), key=lambda n: (-products[n], n))[:k]
    assert keys[0].tolist() == wanted + [-1] * (k - len(wanted))


def test_vectors_are_given_back_by_key_and_nan_where_there_is_none() -> None:
    index = Exact("space", 8)
    assert np.isnan(index.vectors(np.array([3]))).all()
    index.add(np.array([5, 2]), spread(2))
    got = index.vectors(np.array([[2, 9], [5, -1]]))
    assert got.shape == (2, 2, 8)
    np.testing.assert_array_equal(got[:, 0], spread(2)[::-1])
    assert np.isnan(got[:, 1]).all()


def test_a_damaged_file_is_corrupt(tmp_path: Path) -> None:
    index = Exact("space", 8)
    index.add(np.arange(3), spread(3))
    index.save(tmp_path)
    (tmp_path / "exact.npz").write_bytes(b"no archive")
    with pytest.raises(Corrupt, match="cannot be read"):
        load(tmp_path)
