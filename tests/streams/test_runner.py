import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange
from core.events import Event
from core.profile import NOBODY
from core.stats import CATEGORY
from streams.attribution import Served
from streams.runner import Runner, Table
from streams.topology import Stage
from tests.factories import DAY, T, World, event, item, messages

Message = Event | ItemChange | Served
Stored = dict[str, dict[bytes, bytes]]


class Store:
    """What a log keeps of the states: bytes by stage and key."""

    def __init__(self) -> None:
        self.states: Stored = {}
        self.fetched: list[tuple[str, bytes]] = []

    def fetch(self, name: str, key: bytes) -> bytes | None:
        self.fetched.append((name, key))
        return self.states.get(name, {}).get(key)

    def keep(self, world: World) -> None:
        for name, changed in world.stored().items():
            table = self.states.setdefault(name, {})
            for key, value in changed.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value


def played(*parts: Sequence[Message], shrink: int | None = None) -> tuple[Stored, list[Any]]:
    """The stored states and all that was told after a log, with a restart between its parts."""
    store, told = Store(), []
    for part in parts:
        world = World(fetch=store.fetch)
        for message in part:
            world.take(message)
            if shrink is not None:
                store.keep(world)
                for table in world.runner.tables.values():
                    table.shrink(shrink)
        store.keep(world)
        told += [*world.published, *world.emitted]
    return {name: dict(sorted(table.items())) for name, table in store.states.items()}, told


# ---------------------------------------------------------------------- the cascade
def test_a_message_and_all_that_follows_is_worked_off_before_the_next() -> None:
    world = World().take(item("tea", category="Food"), item("cup"))
    world.published.clear()
    world.take(event("add_to_cart", "tea", "cup", user_id="u", visitor_id="v", ts=T + 1))
    assert [(topic, key) for topic, key, _ in world.published] == [
        ("profiles", "u"),
        ("item-stats", "tea"),
        ("item-neighbours", "tea"),
        ("item-stats", "cup"),
        ("item-neighbours", "cup"),
        ("item-stats", CATEGORY + "Food"),
    ]


def test_a_login_reaches_the_visitor_and_comes_back_to_the_user() -> None:
    world = World().take(event("view_item", "tea", visitor_id="v"))
    world.published.clear()
    world.take(event("view_item", "cup", ts=T + 1, visitor_id="v", user_id="u"))
    profiles = [(key, list(value.memory)) for topic, key, value in world.published if topic == "profiles"]
    assert profiles == [("u", ["cup"]), ("v", []), ("u", ["cup", "tea"])]


def test_what_no_stage_reads_is_emitted() -> None:
    world = World().take(Served("r", T, "ida", ("tea",)), event("view_item", "tea", ts=T + 1))
    ((topic, key, label),) = world.emitted
    assert (topic, key, label.recommendation_id) == ("labelled", "ida", "r")


def test_what_changes_nothing_is_neither_published_nor_stored() -> None:
    world = World().take(event("view_item", "tea", event_id="one"))
    world.stored()
    world.published.clear()
    world.take(event("view_item", "tea", event_id="one"))
    assert world.published == world.emitted == []
    assert not any(world.stored().values())


def test_a_stage_without_a_topic_publishes_nothing() -> None:
    said: list[Any] = []
    stage = Stage("attribution", frozenset({"news"}), lambda state, message: (message, ()), "")
    Runner([stage], lambda *told: said.append(told), lambda *told: said.append(told)).feed("news", "k", "state")
    assert said == []


# ---------------------------------------------------------------------- states
def table(stored: dict[bytes, bytes] | None = None) -> tuple[Table, list[bytes]]:
    asked: list[bytes] = []

    def fetch(name: str, key: bytes) -> bytes | None:
        asked.append(key)
        return (stored or {}).get(key)

    stage = Stage("profile", frozenset(), lambda state, message: (state, ()), NOBODY)
    return Table(stage, fetch), asked


def profile(last: int) -> Any:
    return msgspec.structs.replace(NOBODY, last=last)


def test_dirty_states_are_handed_over_once_and_empty_ones_as_removals() -> None:
    states, _ = table()
    states.put("ida", profile(1))
    states.put("bob", NOBODY)
    assert states.take_dirty() == {b"ida": msgspec.msgpack.encode(profile(1)), b"bob": None}
    assert states.take_dirty() == {}


def test_a_stored_state_is_fetched_once() -> None:
    states, asked = table({b"ida": msgspec.msgpack.encode(profile(7))})
    assert states.get("ida") == states.get("ida") == profile(7)
    assert states.get("bob") is NOBODY
    assert asked == [b"ida", b"bob"]
    assert states.take_dirty() == {}


def test_a_look_leaves_nothing_behind() -> None:
    states, asked = table({b"ida": msgspec.msgpack.encode(profile(7))})
    assert (states.peek("ida"), states.peek("bob")) == (profile(7), NOBODY)
    assert list(states.items()) == []
    states.put("ida", profile(8))
    assert states.peek("ida") == profile(8)
    assert asked == [b"ida", b"bob"]


def test_shrinking_forgets_what_was_written_longest_ago() -> None:
    states, _ = table()
    for n, key in enumerate(("a", "b", "c", "a")):
        states.put(key, profile(n))
    states.take_dirty()
    states.shrink(2)
    assert {key for key, _ in states.items()} == {"c", "a"}


def test_shrinking_loses_nothing_that_is_not_stored_yet() -> None:
    states, _ = table()
    states.put("ida", profile(1))
    states.shrink(0)
    assert states.get("ida") == profile(1)


def test_without_a_store_nothing_is_forgotten_and_nothing_kept_of_a_look() -> None:
    world = World().take(event("view_item", "tea"))
    states = world.runner.tables["profile"]
    assert states.get("bob") is NOBODY
    states.take_dirty()
    states.shrink(0)
    assert [key for key, _ in states.items()] == ["ida"]


# ---------------------------------------------------------------------- whole logs
@given(messages(), st.data())
def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(log: list[Message], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(log)))
    assert played(log[:cut], log[cut:])[0] == played(log)[0]


@given(messages(most=15))
def test_a_run_that_is_stopped_after_every_message_tells_the_same(log: list[Message]) -> None:
    stored, told = played(*[[message] for message in log])
    whole, all_told = played(log)
    assert stored == whole
    assert sorted(map(repr, told)) == sorted(map(repr, all_told))


@given(messages(most=15), st.integers(0, 2))
def test_states_that_are_put_away_and_fetched_again_make_no_difference(log: list[Message], most: int) -> None:
    assert played(log, shrink=most) == (played(log)[0], played(log, shrink=10**6)[1])


@given(messages())
def test_the_same_log_gives_the_same_bytes(log: list[Message]) -> None:
    first, second = played(log), played(log)
    assert first[0] == second[0]
    assert list(map(msgspec.msgpack.encode, first[1])) == list(map(msgspec.msgpack.encode, second[1]))


def test_another_process_makes_the_same_bytes_of_the_same_log() -> None:
    script = (
        "from tests.factories import World, invented_log; from core.ids import digest;"
        "world = World().take(*invented_log(days=4)).stored();"
        "print(digest(*(bytes(p) for t in world.values() for pair in t.items() for p in pair)))"
    )
    other = subprocess.run([sys.executable, "-c", script], env={"PYTHONHASHSEED": "1"}, capture_output=True, check=True)
    with redirect_stdout(StringIO()) as here:
        exec(script, {})
    assert other.stdout.decode() == here.getvalue() != ""


@given(messages())
def test_events_that_come_twice_in_a_row_change_nothing(log: list[Message]) -> None:
    twice = [one for message in log for one in ([message, message] if isinstance(message, Event) else [message])]
    stored, told = played(twice)
    once, told_once = played(log)
    assert stored == once
    assert told == told_once


@given(messages())
def test_a_whole_log_of_events_that_comes_again_changes_no_profile_and_no_count(log: list[Message]) -> None:
    events = [message for message in log if isinstance(message, Event)]
    named = [one for one in events if not (one.user_id and one.visitor_id)]
    assert played(named + named)[0] == played(named)[0]


@pytest.mark.parametrize("settled", [True, False])
def test_a_visitor_s_events_that_come_again_after_the_login_are_known(settled: bool) -> None:
    log = [
        event("view_item", "tea", visitor_id="v", event_id="1"),
        event("purchase", "tea", ts=T + DAY, visitor_id="v", user_id="u", event_id="2"),
    ]
    again = played(log, log) if settled else played(log + log)
    assert again[0]["popularity"] == played(log)[0]["popularity"]
    assert again[0]["profile"] == played(log)[0]["profile"]
