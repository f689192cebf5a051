"""What cannot be used stands aside with its reason, and everything good around it is worked off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import cli
from core.decision import Decision, Ranked
from core.events import parse
from core.settings import Settings
from core.stats import Signal
from kafka_dev import Kafka
from streams import topics
from streams.letters import newest
from streams.partition import partition_of
from streams.wire import Packet, Told
from tests.kafka.crashes import T, events, miscounted
from tests.kafka.shop import (
    PARTITIONS,
    Message,
    Worker,
    drain,
    environment,
    eventually,
    produce,
    quick_settings,
    record_of,
    write,
)
from tests.kafka.states import Expected, differences, states

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

FIVE_MB = 5_000_000
VIEW = {"name": "view_item", "event_id": "x", "user_id": "mallory", "item_id": "i1", "ts": T}


def raw(value: Any) -> bytes:
    return msgspec.json.encode(value)


def packet(v: int) -> bytes:
    signal = msgspec.Raw(msgspec.msgpack.encode(Signal(1, "i1", "view", T)))
    return msgspec.msgpack.encode(Packet(v, "clickstream", 0, (Told((0, 0, 0), "i1", signal),)))


def decision(v: int = 1) -> Decision:
    return Decision(
        v=v, recommendation_id="r1", ts=T, shopper="u1", placement="home", bundle="", ranker="blend",
        items=(Ranked("i1", 1.0),),
    )  # fmt: skip


# topic, value, what the reason says
POISON: tuple[tuple[str, bytes | None, str], ...] = (
    ("clickstream", b'{"name":"view_item",', "not JSON"),
    ("clickstream", b"\xff\xfe\x00", "not JSON"),
    ("clickstream", b"", "not JSON"),
    ("clickstream", b"17", "an event is a JSON object"),
    ("clickstream", raw(VIEW | {"ts": "yesterday"}), "ts"),
    ("clickstream", raw(VIEW | {"item_id": ["i1"]}), "item_id"),
    ("clickstream", raw(VIEW | {"v": 9}), "version 1"),
    ("clickstream", raw(VIEW | {"name": "stare"}), "unknown event name"),
    ("clickstream", raw(VIEW | {"note": "x" * FIVE_MB}), "at most 1,000,000"),
    ("clickstream", b"[" * 100_000, "JSON"),
    ("feedback", raw({"name": "rating", "user_id": "mallory", "item_id": "i1", "ts": T, "rating": 9}), "1 to 5"),
    ("feedback", b"\x00" * FIVE_MB, "at most 1,000,000"),
    ("items", b"{", "cannot be read"),
    ("items", raw({"title": "a thing without a name"}), "item_id"),
    ("items", raw({"item_id": "i1", "description": "x" * FIVE_MB}), "at most 1,000,000"),
    ("decisions", b"\xc1\xc1", "cannot be read"),
    ("decisions", msgspec.msgpack.encode(decision(v=7)), "version 1"),
    ("item-signals", b"\xc1", "no packet"),
    ("item-signals", packet(v=7), "no packet"),
    ("item-signals", None, "no packet"),
    ("identity", raw(VIEW), "no packet"),
)


def poison(settings: Settings, partition: int) -> dict[str, str]:
    """Write all of it to one partition; the reason by origin."""
    wanted = {}
    for topic, value, reason in POISON:
        (offset,) = write(settings, topic, [(b"mallory", value)], partition)
        wanted[f"{topic}/{partition}/{offset}"] = reason
    home = partition_of(b"u1", PARTITIONS)
    mixed = [record_of(event("mixed-1")).value, raw(VIEW | {"ts": -1}), record_of(event("mixed-2")).value]
    (offset,) = write(settings, "clickstream", [(None, b"[" + b",".join(one or b"" for one in mixed) + b"]")], home)
    return wanted | {f"clickstream/{home}/{offset}/1": "ts"}


def event(event_id: str) -> Any:
    return parse(VIEW | {"event_id": event_id, "user_id": "u1", "session_id": "mixed"})


@pytest.fixture
def shop(broker: Kafka, prefix: str) -> Settings:
    settings = quick_settings(broker.bootstrap, prefix)
    topics.create(settings)
    return settings


def test_all_good_ones_count_and_all_bad_ones_are_told(shop: Settings, tmp_path: Path) -> None:
    good = list(events(900))
    wanted: dict[str, str] = {}
    with Worker(shop, tmp_path) as worker:
        for part in range(3):
            produce(shop, good[300 * part : 300 * (part + 1)])
            wanted |= poison(shop, part)
        elsewhere = parse(VIEW | {"event_id": "strayed", "user_id": "u2", "session_id": "mixed"})
        strange = (partition_of(b"u2", PARTITIONS) + 1) % PARTITIONS
        write(shop, "clickstream", [(b"u2", record_of(elsewhere).value), (b"u2", None)], strange)
        drain(shop, 90.0)
        assert worker.alive
        assert worker.health()["refused"] >= len(wanted)
    given: list[Message] = [*good, event("mixed-1"), event("mixed-2"), elsewhere]
    expected = Expected(shop)
    expected.take(given)
    got = states(shop)
    assert differences(shop, expected.states(), got) == []
    assert miscounted(got, given) == []
    found = {one.origin: one.reason for one in newest(shop, 1_000)}
    assert found.keys() == wanted.keys()
    assert {origin: reason for origin, reason in wanted.items() if reason not in found[origin]} == {}


def test_letters_are_listed_and_those_that_are_good_by_now_are_worked_off(
    shop: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = partition_of(b"u1", PARTITIONS)
    for name, value in environment(shop).items():
        monkeypatch.setenv(name, value)
    with Worker(shop, tmp_path):
        write(shop, "clickstream", [(b"u1", b"{"), (b"u1", raw(VIEW | {"name": "stare"}))], home)
        eventually(lambda: len(newest(shop, 10)) == 2, 60.0, "the refusal")
        ahead = {"reason": "an event lay ahead", "origin": "gateway", "ts": T, "raw": raw(VIEW).decode()}
        write(shop, "dead-letter", [(None, raw(ahead | {"raw": raw(fresh()).decode()}))])
        assert cli.main(["dead-letters", "list"]) == 0
        told = capsys.readouterr().out
        assert "unknown event name" in told
        assert f"clickstream/{home}/0" in told
        cli.main(["dead-letters", "replay"])
        told = capsys.readouterr().out
        drain(shop, 60.0)
    assert list(states(shop)["profile"]) == ["late"]
    assert "not JSON" in told


def fresh() -> dict[str, Any]:
    """An event that a gateway takes today."""
    import time

    return VIEW | {"event_id": "late", "user_id": "late", "ts": int(time.time() * 1_000)}
