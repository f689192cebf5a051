from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from core.errors import Missing
from core.settings import Settings, TuningSettings, load
from jobs.search import STUDIES, Found, lines, run
from tests.factories import fill, habits_log, small_settings
from tests.jobs.test_renewal import shop
from tests.jobs.test_train_encoder import NOW, in_groups
from tests.models.tiny import tiny_encoder


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = msgspec.structs.replace(
        small_settings(tmp_path, trees=15, learning_rate=0.01), tuning=TuningSettings(path=tmp_path / "encoders")
    )
    fill(settings, habits_log(shoppers=16, days=8))
    return settings


def test_a_search_finds_better_settings_and_another_run_goes_on(settings: Settings, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = run(settings, "ranker", NOW, lambda *one: told.append(one), limit_s=60.0, most=3)
    assert (settings.tuning.path / STUDIES).exists()
    assert (first.section, first.tries) == ("training", 3)
    assert told[-1][0] == "searching, seconds"
    second = run(settings, "ranker", NOW, quiet, limit_s=60.0, most=2)
    assert second.tries == 5
    assert second.best.keys() == {"leaves", "learning_rate", "rows_a_leaf", "features", "doubt"}
    said = "\n".join(lines(second))
    assert "5 tries; NDCG@10 " in said
    assert "exclude" in said
    (tmp_path / "best.toml").write_text(said)
    assert load(tmp_path / "best.toml", {}).training.leaves == second.best["leaves"]


def test_a_search_ends_in_time(settings: Settings) -> None:
    assert run(settings, "ranker", NOW, quiet, limit_s=0.01).tries == 1


def test_the_encoder_has_a_search_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.text_quality.FEWEST", 10)
    settings = shop(tiny_encoder(tmp_path / "tiny"), tmp_path, rounds=1)
    fill(settings, in_groups())
    found = run(settings, "encoder", NOW, quiet, limit_s=60.0, most=2)
    assert (found.section, found.tries) == ("tuning", 2)
    assert found.best.keys() <= {"learning_rate", "temperature", "hard", "layers"}


def test_what_a_search_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings(tmp_path)
    fill(settings, habits_log(shoppers=4, days=2))
    with pytest.raises(Missing, match="it takes 60 to choose settings by"):
        run(settings, "ranker", NOW, quiet, limit_s=1.0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(Missing, match=r"pip install 'headwater\[search\]'"):
        run(settings, "ranker", NOW, quiet, limit_s=1.0)


def test_where_nothing_is_better_it_says_so() -> None:
    assert lines(Found("training", {}, 7, (0.0, 0.0, 0.0), "nothing was better")) == ["# 7 tries; nothing was better"]
