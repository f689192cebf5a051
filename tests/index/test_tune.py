import numpy as np
import pytest

from index.exact import Exact
from index.tune import noisy_sample, tune
from index.vectors import Keys
from models.vectors import Vectors

DRAWN = np.random.default_rng(0).standard_normal((400, 12))
VECTORS: Vectors = np.asarray(DRAWN / np.linalg.norm(DRAWN, axis=1, keepdims=True), np.float32)


class Half:
    """Finds as many of a hundred places as it looks into lists."""

    lists = 100
    probes = 0

    def __init__(self, exact: Exact) -> None:
        self.exact = exact

    def probe(self, queries: Vectors, k: int, probes: int) -> tuple[Keys, Vectors]:
        keys, scores = self.exact.search(queries, k)
        keys[:, probes:] = -1
        return keys, scores


@pytest.mark.parametrize(
    ("wanted", "probes"), [(0.005, 1), (0.02, 2), (0.3, 32), (0.33, 48), (0.9, 96), (0.99, 100), (1.5, 100)]
)
def test_the_fewest_lists_of_the_ladder_are_taken_that_reach_the_wanted_recall(wanted: float, probes: int) -> None:
    exact = Exact("space", 12)
    exact.add(np.arange(400), VECTORS)
    index = Half(exact)
    assert tune(index, exact, VECTORS[:20], wanted) == pytest.approx(probes / 100)
    assert index.probes == probes


def test_sampled_queries_are_unit_vectors_near_an_item_and_always_the_same() -> None:
    queries = noisy_sample(VECTORS)
    assert queries.shape == (200, 12)
    assert np.linalg.norm(queries, axis=1) == pytest.approx(1, abs=1e-5)
    nearest = (queries @ VECTORS.T).max(axis=1)
    assert 0.8 < nearest.mean() < 0.97
    np.testing.assert_array_equal(queries, noisy_sample(VECTORS))
    assert len(noisy_sample(VECTORS[:3])) == 3
