from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import Unavailable
from core.settings import Settings
from streams import follower
from streams.follower import Follower
from streams.log import EmbeddedLog, New
from streams.messages import Letter, letters, of_change, of_decision, of_event
from tests.factories import T, World, event, item, small_settings
from tests.streams.test_messages import DECISION


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


@pytest.fixture
def log(settings: Settings) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.open(settings.log)
    yield opened
    opened.close()


def follow(settings: Settings, log: EmbeddedLog) -> Follower:
    """Take in all that is there, and end."""
    one, stopping = Follower(settings, log, lambda *_: None), threading.Event()

    def moved() -> None:
        if not one.lag():
            stopping.set()

    if not one.lag():
        stopping.set()
    one.run(stopping, moved)
    one.close()
    return one


def stored(log: EmbeddedLog) -> dict[str, dict[bytes, bytes]]:
    names = World().stored()
    return {name: dict(log.table(name)) for name in names}


def some_day() -> list[New]:
    views = [event("view_item", f"i{n % 7}", user_id=f"u{n % 5}", ts=T + n) for n in range(200)]
    return [of_change(item("i1")), of_decision(DECISION), *map(of_event, views), of_event(event("purchase", "i1"))]


def test_state_outputs_and_positions_are_stored(settings: Settings, log: EmbeddedLog) -> None:
    log.append([of_decision(DECISION), of_event(event("purchase", "a", ts=T + 5))])
    one = follow(settings, log)
    assert one.caught_up
    assert log.positions(follower.GROUP) == one.done == {p: e for p, e in log.ends().items() if p[0] != "labelled"}
    assert log.get("profile", b"ida") is not None
    assert [entry.key for entry in log.read_all(["labelled"], {}, 10)] == [b"ida"]


def test_a_run_in_many_parts_ends_where_one_run_ends(settings: Settings, tmp_path: Path) -> None:
    records = some_day()
    found = []
    for name, size in (("whole", len(records)), ("parts", 13)):
        own = small_settings(tmp_path / name)
        log = EmbeddedLog.open(own.log)
        for start in range(0, len(records), size):
            log.append(records[start : start + size])
            follow(own, log)
        found.append((stored(log), [(e.key, e.value) for e in log.read_all(["labelled"], {}, 1_000)]))
        log.close()
    assert found[0] == found[1]
    assert found[0][1]


def test_a_record_that_cannot_be_read_becomes_a_dead_letter_once(settings: Settings, log: EmbeddedLog) -> None:
    log.append([New("clickstream", b"k", b"{", T), New("items", b"k", b"[]", T), of_event(event("view_item", "a"))])
    follow(settings, log)
    follow(settings, log)
    found = letters(log, 10)
    assert sorted(one.origin.split("/")[0] for one in found) == ["clickstream", "items"]
    assert all(isinstance(one, Letter) and one.raw and one.reason for one in found)
    assert log.get("profile", b"ida") is not None


def test_every_change_is_published(settings: Settings, log: EmbeddedLog) -> None:
    log.append([of_change(item("a")), of_event(event("view_item", "a"))])
    told: list[tuple[str, str]] = []
    one = Follower(settings, log, lambda topic, key, value: told.append((topic, key)))
    stopping = threading.Event()
    one.run(stopping, stopping.set)
    assert {("catalogue", "a"), ("profiles", "ida"), ("item-stats", "a")} <= set(told)
    one.close()


def test_only_one_may_follow_a_log_at_a_time(settings: Settings, log: EmbeddedLog) -> None:
    one = Follower(settings, log, lambda *_: None)
    with pytest.raises(Unavailable, match=r"log.sqlite is in use: one process at a time .*\(process \d+ has it\)"):
        Follower(settings, log, lambda *_: None)
    one.close()
    Follower(settings, log, lambda *_: None).close()


def test_a_full_disk_is_waited_for(settings: Settings, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([of_event(event("view_item", "a"))])
    monkeypatch.setattr(follower, "RETRY_S", 0.01)
    commit, refusals = log.commit, iter(range(3))

    def full(*arguments: Any, **named: Any) -> None:
        if next(refusals, None) is not None:
            raise Unavailable("the log cannot be used now: disk full")
        commit(*arguments, **named)

    monkeypatch.setattr(log, "commit", full)
    monkeypatch.setattr(follower, "COMMIT_S", 0.0)
    one, stopping = Follower(settings, log, lambda *_: None), threading.Event()
    ended = threading.Thread(target=one.run, args=(stopping, lambda: None))
    ended.start()
    while not log.positions(follower.GROUP):
        pass
    stopping.set()
    ended.join()
    one.close()
    assert log.get("profile", b"ida") is not None


def test_an_end_while_the_disk_is_full_loses_nothing(
    settings: Settings, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([of_event(event("view_item", "a"))])

    def full(*_: Any, **__: Any) -> None:
        raise Unavailable("the log cannot be used now: disk full")

    with monkeypatch.context() as patched:
        patched.setattr(log, "commit", full)
        follow(settings, log)
    assert log.positions(follower.GROUP) == {}
    follow(settings, log)
    assert log.get("profile", b"ida") is not None
