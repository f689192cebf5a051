import numpy as np
import pytest

from jobs.drift import MOVED, NOTED, edges, psi, psis, shares

CHANCE = np.random.default_rng(4)
NORMAL = CHANCE.normal(size=5_000)


def test_the_same_population_has_not_moved() -> None:
    assert psi(NORMAL, CHANCE.normal(size=5_000)) < 0.02


@pytest.mark.parametrize(("by", "low", "high"), [(0.1, 0.005, NOTED), (0.35, NOTED, MOVED), (1.0, MOVED, 9.0)])
def test_the_further_it_moves_the_higher_the_index(by: float, low: float, high: float) -> None:
    assert low < psi(NORMAL, CHANCE.normal(size=5_000) + by) < high


def test_a_field_that_is_unknown_now_has_moved() -> None:
    assert psi(NORMAL, np.full(100, np.nan)) > 1
    assert psi(np.full(100, np.nan), np.full(50, np.nan)) < 0.01


def test_a_feature_of_two_values_has_two_bins() -> None:
    coins = np.array([0.0, 1.0] * 100)
    assert np.count_nonzero(shares(coins, edges(coins)) > 0.1) == 2
    assert psi(coins, np.ones(100)) > MOVED


def test_each_column_has_an_index_of_its_own() -> None:
    before = CHANCE.normal(size=(1_000, 3)).astype(np.float32)
    found = psis(before, before + np.array([0, 1, 0], np.float32))
    assert found[1] > MOVED
    assert found[[0, 2]].max() < 0.05
