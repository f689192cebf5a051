import numpy as np
import pytest

from models.frequency import Frequency


def test_the_estimate_finds_how_often_items_come() -> None:
    chance, known = np.random.default_rng(1), Frequency(rate=0.05)
    often = np.array([0.9, 0.5, 0.1, 0.02])
    found = []
    for step in range(6_000):
        known.observe(step, np.flatnonzero(chance.random(4) < often))
        if step > 2_000:
            found.append(known.chance(np.arange(4), step))
    assert np.mean(found, axis=0) == pytest.approx(often, rel=0.25)


def test_it_follows_what_changes() -> None:
    known = Frequency(rate=0.2)
    for step in range(0, 1_000, 50):
        known.observe(step, np.array([3]))
    rare = float(known.chance(np.array([3]), 1_000)[0])
    for step in range(1_000, 1_100):
        known.observe(step, np.array([3]))
    assert rare == pytest.approx(1 / 50, rel=0.05)
    assert float(known.chance(np.array([3]), 1_100)[0]) == pytest.approx(1, rel=0.05)


def test_items_that_were_never_or_once_seen_are_rare() -> None:
    known = Frequency()
    known.observe(0, np.array([5]))
    assert known.chance(np.array([5, 1, 900]), 99).tolist() == pytest.approx([0.01, 0.01, 0.01])
