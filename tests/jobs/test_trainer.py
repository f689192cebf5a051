from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.errors import Unavailable
from core.settings import Settings
from jobs import trainer
from jobs.schedule import EVENTS_A_LIST
from jobs.storage import open_storage
from jobs.trainer import Service, alone, run
from streams.messages import of_event
from tests.factories import T, event, small_settings
from tests.jobs.archived import archive_all, placed

NOW = 1_750_000_000_000
ENOUGH = EVENTS_A_LIST * 2
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A shop on Kafka with an archive of just enough events for a first training."""
    settings = small_settings(tmp_path, min_groups=2)
    folder = str(tmp_path / "archive")
    records = [of_event(event("view_item", "tea", ts=T + n)) for n in range(ENOUGH)]
    archive_all(open_storage(folder), placed(records, NOW))
    return msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, bootstrap="nowhere:1"),
        archive=msgspec.structs.replace(settings.archive, path=folder),
        training=msgspec.structs.replace(settings.training, port=0),
    )


def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def touch(path: Path, *, then: str = "") -> list[str]:
    return [sys.executable, "-c", f"open({str(path)!r}, 'a').write('x'); {then}"]


def serve_until(settings: Settings, command: Sequence[str], true: Callable[[], bool]) -> dict[str, Any]:
    """Let the service work until something is true, send the signal that ends it, and tell its figures."""
    service = Service(settings, command, lambda: NOW)
    seen: list[dict[str, Any]] = []

    def end() -> None:
        try:
            until(true)
            seen.append(dict(service.described()[1]))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end)

    async def work() -> None:
        ending.start()
        await service.run()

    asyncio.run(work())
    ending.join()
    return seen[0]


def test_it_trains_as_soon_as_the_archive_has_enough_and_tells_so(settings: Settings, tmp_path: Path) -> None:
    mark = tmp_path / "trained"
    told = serve_until(settings, touch(mark, then="import time; time.sleep(60)"), mark.exists)
    assert (told["events"], told["training"], told["trainings"]) == (ENOUGH, True, 0)
    assert mark.read_text() == "x"


def test_a_signal_ends_the_training_that_is_going_on(settings: Settings, tmp_path: Path) -> None:
    mark, pid = tmp_path / "trained", tmp_path / "pid"
    then = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    serve_until(settings, touch(mark, then=then), lambda: pid.exists() and pid.read_text() != "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_shop_with_too_few_events_is_not_trained(settings: Settings, tmp_path: Path) -> None:
    patient = msgspec.structs.replace(settings, training=msgspec.structs.replace(settings.training, min_groups=3))
    started = time.monotonic()
    told = serve_until(patient, touch(tmp_path / "trained"), lambda: time.monotonic() > started + 0.5)
    assert (told["trainings"], told["events"]) == (0, ENOUGH)
    assert not (tmp_path / "trained").exists()


def test_a_training_that_a_killed_trainer_left_behind_ends_first(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "TURN_S", 0.05)
    mark, there = tmp_path / "trained", tmp_path / "there"
    orphan = holding(settings, there)
    until(there.exists)
    service: list[dict[str, Any]] = []

    def released() -> bool:
        if orphan.poll() is None:
            assert not mark.exists()
            orphan.kill()
            orphan.wait()
        return mark.exists()

    service.append(serve_until(settings, touch(mark), released))
    assert not service[0]["waiting_for_another"]


def holding(settings: Settings, there: Path) -> subprocess.Popen[bytes]:
    """A process that trains, as far as anybody can see."""
    code = (
        "import sys, time, pathlib\n"
        "from core.settings import Settings, BundleSettings\n"
        "from jobs.trainer import alone\n"
        "with alone(Settings(bundles=BundleSettings(path=pathlib.Path(sys.argv[1])))):\n"
        "    pathlib.Path(sys.argv[2]).touch(); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(settings.bundles.path), str(there)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_one_training_at_a_time_and_a_kill_lets_the_next_one_in(settings: Settings, tmp_path: Path) -> None:
    other = holding(settings, tmp_path / "there")
    try:
        until((tmp_path / "there").exists)
        with pytest.raises(Unavailable, match="another training writes to"), alone(settings):
            pass
    finally:
        other.kill()
        other.wait()
    with alone(settings):
        pass


def test_one_trainer_at_a_time(settings: Settings) -> None:
    def second(port: int) -> None:
        assert port > 0
        with pytest.raises(Unavailable, match="another trainer runs for"):
            run(settings, [], lambda: NOW)
        os.kill(os.getpid(), signal.SIGTERM)  # of which the loop is told once it listens

    previous = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        with pytest.raises(KeyboardInterrupt):
            run(settings, [], lambda: NOW, second)
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_an_archive_that_cannot_be_read_makes_it_ill_and_keeps_what_was_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(settings, [], lambda: NOW)
    assert service.events() == ENOUGH
    assert service.described()[0]
    monkeypatch.setattr(trainer, "COUNT_S", 0.0)

    def gone(self: object, topics: object) -> int:
        raise Unavailable("gone")

    monkeypatch.setattr("jobs.recordings.ArchiveRecording.count", gone)
    assert service.events() == ENOUGH
    well, told = service.described()
    assert (well, told["archive_failing"]) == (False, "gone")
