from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import Missing
from core.settings import Settings
from jobs.history import HISTORY, PROGRESS, described, figures, look, note, noted, running, runs
from jobs.trainer import alone
from tests.factories import small_settings

NOW = 1_750_000_000_000
ROOT = Path(__file__).parents[2]


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


def test_a_run_is_seen_while_it_goes_on_and_written_down_when_it_ended(settings: Settings) -> None:
    with alone(settings), noted(settings, "ranker", lambda: NOW, quiet) as run:
        run.progress("rehearsing the log", 30, 60)
        now = running(settings)
        assert now is not None
        assert (now.what, now.work, now.done, now.total) == ("ranker", "rehearsing the log", 30, 60)
        assert figures(look(settings))["job_running"]
        assert figures(look(settings))["job_progress"] == 0.5
        run.end("promoted", "better", "b1")
    assert running(settings) is None
    (ended,) = runs(settings)
    assert (ended.what, ended.result, ended.why, ended.bundle) == ("ranker", "promoted", "better", "b1")
    assert described(look(settings))["results"] == {"promoted": 1}
    assert figures(look(settings))["job_results"]["promoted"] == 1


def test_a_run_that_fails_says_why(settings: Settings) -> None:
    with pytest.raises(Missing), noted(settings, "ranker", lambda: NOW, quiet):
        raise Missing("nothing there")
    assert [(one.result, one.why) for one in runs(settings)] == [("failed", "nothing there")]
    assert not (settings.bundles.path / PROGRESS).exists()


def test_a_run_that_was_killed_runs_no_more_and_is_written_down_by_the_next(settings: Settings) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from core.settings import Settings, BundleSettings\n"
        "from jobs.history import noted\nfrom jobs.trainer import alone\n"
        "settings = Settings(bundles=BundleSettings(path=pathlib.Path(sys.argv[1])))\n"
        "quiet = lambda *told: None\n"
        "with alone(settings), noted(settings, 'encoder', lambda: 1, quiet) as run:\n"
        "    run.progress('encoding', 1, 2); print('there', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(settings.bundles.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    now = running(settings)
    assert now is not None
    assert now.work == "encoding"
    child.kill()
    child.communicate()
    assert running(settings) is None
    with alone(settings), noted(settings, "ranker", lambda: NOW, quiet) as run:
        run.end("kept", "")
    assert [(one.what, one.result) for one in runs(settings)] == [("ranker", "kept"), ("encoder", "killed")]
    assert runs(settings)[1].why == "while encoding"


def test_a_line_that_a_crash_cut_off_takes_no_other_with_it(settings: Settings) -> None:
    note(settings, "promote", NOW, "promoted", "by hand", "b1")
    with (settings.bundles.path / HISTORY).open("ab") as file:
        file.write(b'{"what": "rank')
    note(settings, "rollback", NOW + 1, "rolled back", "by hand", "b0")
    assert [one.what for one in runs(settings)] == ["rollback", "promote"]


def test_progress_is_told_now_and_then_and_at_each_new_piece_of_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with noted(settings, "ranker", lambda: NOW, quiet) as run:
        path = settings.bundles.path / PROGRESS
        run.progress("a", 1, 9)
        first = path.read_bytes()
        run.progress("a", 2, 9)
        assert path.read_bytes() == first
        clock[0] = 5.0
        run.progress("a", 3, 9)
        assert b'"done":3' in path.read_bytes()
        run.progress("b", 1, 9)
        assert b'"work":"b"' in path.read_bytes()


def test_without_a_history_there_is_none(settings: Settings) -> None:
    assert (runs(settings), running(settings)) == ([], None)
    assert described(look(settings)) == {"running": None, "runs": [], "results": {}}
