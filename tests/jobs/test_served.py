from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.decision import Decision, Ranked
from jobs import served
from ranker import features
from ranker.arrays import Floats
from streams.log import EmbeddedLog
from streams.messages import of_decision
from tests.factories import DAY, HOUR, T, small_settings


def lists(number: int, seed: int, *, moved: int = 0, columns: int = 40) -> list[Floats]:
    chance = np.random.default_rng(seed)
    made = [chance.normal(size=(10, columns)).astype(np.float32) for _ in range(number)]
    for one in made:
        one[:, :moved] += 2.0
        one[:, -1] = np.nan
    return made


@pytest.mark.parametrize(("moved", "expected"), [(0, 0), (3, 0), (8, 8)])
def test_many_features_that_have_moved_are_told(tmp_path: Path, moved: int, expected: int) -> None:
    served.save(tmp_path, lists(200, 1))
    assert served.moved(tmp_path, lists(200, 2, moved=moved), 0.25) == expected


def test_of_too_few_lists_nothing_is_told(tmp_path: Path) -> None:
    served.save(tmp_path, lists(served.FEWEST - 1, 1))
    assert not (tmp_path / served.FILE).exists()
    served.save(tmp_path, lists(200, 1))
    assert served.moved(tmp_path, lists(served.FEWEST - 1, 2, moved=40), 0.25) == 0
    assert served.moved(tmp_path, lists(200, 2, moved=40), 0.0) == 0
    assert served.moved(tmp_path, lists(200, 2, moved=41, columns=41), 0.25) == 0


def test_the_newest_lists_are_those_of_the_last_day_that_were_shown(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    width = len(features.names(settings))
    log = EmbeddedLog.open(settings.log)
    for n in range(48):
        matrix = np.full((3, width), n, np.float32)
        log.append(
            [
                of_decision(
                    Decision(
                        recommendation_id=f"r{n}", ts=T + n * HOUR, shopper="s", placement="", bundle="", ranker="",
                        items=(Ranked("a", 1.0),), pool=("a", "b", "c"), schema=features.schema(settings),
                        features=matrix.tobytes(),
                    )
                )
            ]
        )  # fmt: skip
    log.close()
    found = served.newest(settings, T + 47 * HOUR)
    assert [one.shape for one in found] == [(1, width)] * 25
    assert found[0][0, 0] == 47 - DAY / HOUR
