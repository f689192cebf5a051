from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from core.bundle import Bundles
from core.ids import DAY_MS, HOUR_MS
from core.manifest import Contents, EncoderReference, FeatureSchema, Manifest
from core.settings import Settings
from jobs import schedule
from jobs.history import Ran
from jobs.schedule import EVENTS_A_LIST, Trainer, Tried, due, encoder_due
from jobs.train import EXIT
from tests.factories import small_settings

NOW = 1_750_000_000_000
SETTINGS = Settings()
ENOUGH = EVENTS_A_LIST * SETTINGS.training.min_groups


def manifest(folder: Path, *, made_ms: int, ranker: str = "lambdarank", events: float = 0.0) -> Manifest:
    contents = Contents(
        created_ms=made_ms, space_id="", encoder=EncoderReference("none", ""), text={}, user_vector={},
        features=FeatureSchema(), max_event_time=0, ranker=ranker, metrics={"events": events} if events else {},
    )  # fmt: skip
    return Bundles(folder, 5).write(contents, lambda _: None)


@pytest.mark.parametrize(("events", "expected"), [(0, False), (ENOUGH - 1, False), (ENOUGH, True), (10**7, True)])
def test_the_first_ranker_waits_for_enough_events(events: int, expected: bool) -> None:
    assert due([], events, NOW, Tried(), SETTINGS) is expected


def test_a_try_that_made_no_ranker_is_repeated_when_the_log_has_doubled(tmp_path: Path) -> None:
    blend = [manifest(tmp_path, made_ms=NOW - HOUR_MS, ranker="blend")]
    tried = Tried(NOW - HOUR_MS, ENOUGH)
    assert not due(blend, 2 * ENOUGH - 1, NOW, tried, SETTINGS)
    assert due(blend, 2 * ENOUGH, NOW, tried, SETTINGS)


@pytest.mark.parametrize(("days", "expected"), [(0, False), (6.9, False), (7.0, True), (30, True)])
def test_the_next_ranker_is_trained_after_a_week(tmp_path: Path, days: float, expected: bool) -> None:
    made = [manifest(tmp_path, made_ms=NOW - round(days * DAY_MS))]
    assert due(made, 0, NOW, Tried(), SETTINGS) is expected


def test_a_run_that_made_nothing_is_not_repeated_at_once(tmp_path: Path) -> None:
    old = [manifest(tmp_path, made_ms=NOW - 30 * DAY_MS)]
    assert not due(old, 0, NOW, Tried(NOW - HOUR_MS + 1), SETTINGS)
    assert due(old, 0, NOW, Tried(NOW - HOUR_MS), SETTINGS)


@pytest.mark.parametrize(("events", "expected"), [(11_999, False), (12_000, True)])
def test_a_fifth_more_events_call_for_a_new_ranker(tmp_path: Path, events: int, expected: bool) -> None:
    made = [manifest(tmp_path, made_ms=NOW - DAY_MS, events=10_000)]
    assert due(made, events, NOW, Tried(), SETTINGS) is expected
    fresh = [manifest(tmp_path, made_ms=NOW - HOUR_MS + 1, events=10_000)]
    assert not due(fresh, 10**6, NOW, Tried(), SETTINGS)  # one has just been made


def test_features_that_have_moved_call_for_a_new_ranker(tmp_path: Path) -> None:
    made = [manifest(tmp_path, made_ms=NOW - DAY_MS)]
    assert not due(made, 0, NOW, Tried(), SETTINGS)
    assert due(made, 0, NOW, Tried(), SETTINGS, moved=True)
    assert not due(made, 0, NOW, Tried(NOW - HOUR_MS + 1), SETTINGS, moved=True)


def ran(result: str, days_ago: float, what: str = "encoder") -> Ran:
    ended = NOW - round(days_ago * DAY_MS)
    return Ran(what=what, begun_ms=ended - 1, ended_ms=ended, result=result)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([], True),  # the first ranker is ten days old
        ([ran("held", 6.9)], False),
        ([ran("held", 7.0)], True),
        ([ran("refused", 1.0), ran("promoted", 9.0)], False),
        ([ran("promoted", 0.1, "ranker"), ran("promoted", 8.0)], True),
        ([ran("failed", 0.9)], False),
        ([ran("failed", 1.0)], True),
        ([ran("killed", 1 / 24)], True),
        ([ran("killed", 0.9 / 24)], False),
    ],
)
def test_the_encoder_has_a_cadence_of_its_own(tmp_path: Path, ended: list[Ran], expected: bool) -> None:
    made = [manifest(tmp_path, made_ms=NOW - days * DAY_MS) for days in (1, 10)]
    assert encoder_due(made, ended, NOW, SETTINGS) is expected


def test_no_encoder_is_trained_where_none_is_wanted_or_no_ranker_is_there(tmp_path: Path) -> None:
    old = [manifest(tmp_path, made_ms=NOW - 30 * DAY_MS)]
    never = msgspec.structs.replace(SETTINGS, tuning=msgspec.structs.replace(SETTINGS.tuning, every_s=0.0))
    assert encoder_due(old, [], NOW, SETTINGS)
    assert not encoder_due(old, [], NOW, never)
    assert not encoder_due(old, [], NOW, small_settings(tmp_path))
    assert not encoder_due([], [], NOW, SETTINGS)


def test_a_result_is_a_result_whatever_it_is() -> None:
    assert set(schedule.DECIDED) == set(EXIT.values())


def run(folder: Path, command: Sequence[str], until: Path | None = None, *, events: int = ENOUGH) -> None:
    """Let a trainer work until a file is there (or for a moment), then end it."""

    async def work() -> None:
        trainer = Trainer(small_settings(folder), command, lambda: events, lambda: NOW)
        task = asyncio.create_task(trainer.run())
        for _ in range(1_000):
            await asyncio.sleep(0.02)
            if until is None or until.exists():
                break
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(work())


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_command_runs_politely_and_what_it_says_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    done = tmp_path / "done"
    code = f"import os, pathlib; print('nice', os.nice(0)); pathlib.Path({str(done)!r}).touch()"
    run(tmp_path, python(code), done)
    assert f"job=train nice {os.nice(0) + schedule.NICE}" in caplog.messages
    assert caplog.messages[-1] == "job=train ended, exit code 0"


def test_a_failure_is_logged_as_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = tmp_path / "done"
    code = f"import pathlib, sys; pathlib.Path({str(done)!r}).touch(); sys.exit('headwater: no')"
    run(tmp_path, python(code), done)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["job=train headwater: no", "job=train ended, exit code 1"]


def test_a_bundle_that_is_held_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    done = tmp_path / "done"
    run(tmp_path, python(f"import pathlib, sys; pathlib.Path({str(done)!r}).touch(); sys.exit(3)"), done)
    assert caplog.records[-1].levelno == logging.INFO
    assert caplog.messages[-1] == "job=train ended, exit code 3"


def test_nothing_runs_before_it_is_due(tmp_path: Path) -> None:
    run(tmp_path, python(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"), events=3)
    assert not (tmp_path / "ran").exists()


def test_a_run_that_is_going_on_ends_with_the_gateway(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = f"import os, pathlib, time; pathlib.Path({str(begun)!r}).write_text(str(os.getpid())); time.sleep(600)"
    run(tmp_path, python(code), begun)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


def test_a_damaged_manifest_stops_training_but_not_the_trainer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = small_settings(tmp_path)
    made = manifest(settings.bundles.path, made_ms=NOW)
    (settings.bundles.path / made.id / "manifest.json").write_text("{")
    run(tmp_path, python("raise SystemExit"))
    assert "job=train not begun: " in caplog.text
