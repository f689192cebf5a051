from __future__ import annotations

import time

import pytest

from core.settings import WorkerSettings
from streams import watch
from streams.watch import EX_TEMPFAIL, Judge, Seen, Watchdog, paused

SETTINGS = WorkerSettings(session_s=10.0, stuck_s=60.0, memory_bytes=1_000)


def verdicts(*looks: tuple[float, Seen], resident: int = 0) -> list[str | None]:
    judge = Judge(SETTINGS)
    return [judge.verdict(seen, now, resident) for now, seen in looks]


def behind(at: float, committed: int = 5, lag: int = 100) -> Seen:
    return Seen(at, recovering=False, lag=lag, committed=committed)


def test_a_worker_that_commits_is_well_however_far_it_is_behind() -> None:
    looks = [(float(n), behind(float(n), committed=n // 50)) for n in range(0, 1_000, 10)]
    assert set(verdicts(*looks)) == {None}


def test_one_that_commits_nothing_with_records_to_read_is_stuck() -> None:
    first, patient, late = verdicts((0.0, behind(0.0)), (60.0, behind(60.0)), (61.0, behind(61.0)))
    assert (first, patient) == (None, None)
    assert late is not None
    assert "100 records behind" in late


def test_one_without_records_to_read_may_stand_still() -> None:
    looks = [(float(n), behind(float(n), lag=0)) for n in range(0, 1_000, 10)]
    assert set(verdicts(*looks)) == {None}


def test_brokers_that_are_away_are_no_reason_to_end() -> None:
    looks = [(float(n), behind(float(n))._replace(reachable=False)) for n in range(0, 1_000, 10)]
    assert set(verdicts(*looks)) == {None}


def test_recovery_has_more_time_and_ends_when_it_stands_still() -> None:
    def recovering(at: float, remaining: int = 9) -> Seen:
        return Seen(at, recovering=True, remaining=remaining)

    assert verdicts((0.0, recovering(0.0)), (299.0, recovering(299.0)))[-1] is None
    told = verdicts((0.0, recovering(0.0)), (301.0, recovering(301.0)))[-1]
    assert told is not None
    assert "9 records left to recover" in told
    assert verdicts((0.0, recovering(0.0)), (299.0, recovering(299.0, 8)), (500.0, recovering(500.0, 8)))[-1] is None


def test_a_loop_that_does_not_turn_is_stuck_also_where_nothing_is_to_be_done() -> None:
    told = verdicts((0.0, behind(0.0, lag=0)), (61.0, behind(0.0, lag=0)))[-1]
    assert told is not None
    assert "has not turned for 61 s" in told


def test_one_that_swells_ends() -> None:
    assert verdicts((0.0, behind(0.0)), resident=1_000) == [None]
    (told,) = verdicts((0.0, behind(0.0)), resident=1_001)
    assert told is not None
    assert "1,001 bytes are resident" in told


def test_one_whose_app_has_crashed_ends_with_the_reason() -> None:
    assert verdicts((0.0, behind(0.0)._replace(failed="Faust crashed: why"))) == ["Faust crashed: why"]


def test_a_pause_that_comes_near_to_a_session_is_one() -> None:
    assert not paused(0.0, 8.0, SETTINGS)
    assert paused(0.0, 8.1, SETTINGS)


def test_the_watchdog_ends_a_worker_that_was_stopped_before_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ended = [100.0], list[int]()
    monkeypatch.setattr(watch, "clock", lambda: now[0])
    dog = Watchdog(SETTINGS, lambda: Seen(now[0], recovering=False), ended.append)
    dog.check()
    now[0] = 107.9
    dog.check()
    assert ended == []
    now[0] = 108.1
    dog.check()
    assert ended == [EX_TEMPFAIL]


def test_the_watchdogs_thread_ends_a_worker_for_what_it_sees() -> None:
    ended = list[int]()
    dog = Watchdog(SETTINGS, lambda: Seen(watch.clock(), failed="it crashed"), ended.append)
    dog.start()
    until = time.monotonic() + 20.0
    while not ended and time.monotonic() < until:
        time.sleep(0.02)
    dog.stop()
    assert ended == [EX_TEMPFAIL]


def test_this_process_is_resident() -> None:
    assert watch.resident_bytes() > 1_000_000
