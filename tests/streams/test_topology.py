import ast
import copy
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from core.catalogue import ItemChange
from core.decision import Label
from core.events import Event
from core.settings import Settings
from core.stats import Signal
from streams import attribution, catalogue, neighbours, popularity, profile, runner, topology
from streams.attribution import Served
from streams.profile import Absorb, Link
from streams.topology import DERIVED, SERVING, SOURCES, STATE_TYPES, Stage, build
from tests.factories import World, messages

STAGES = build(Settings())
PURE = (attribution, catalogue, neighbours, popularity, profile, topology, runner)
IMPURE = frozenset(
    {"time", "datetime", "random", "secrets", "uuid", "os", "sys", "io", "pathlib", "socket", "threading", "sqlite3",
     "numpy", "logging", "subprocess", "asyncio"}
)  # fmt: skip


def test_every_topic_that_is_read_is_written_by_somebody() -> None:
    read = {topic for stage in STAGES for topic in stage.reads}
    assert read <= {*SOURCES, *DERIVED}
    assert {topic for topic in DERIVED if topic not in read} == {"labelled"}
    assert set(SOURCES) <= read


def test_every_stage_has_a_name_of_its_own_and_a_stored_type() -> None:
    assert [stage.name for stage in STAGES] == list(STATE_TYPES)
    for stage in STAGES:
        assert isinstance(stage.empty, STATE_TYPES[stage.name])


def test_every_serving_topic_is_published_by_one_stage() -> None:
    assert sorted(stage.publishes for stage in STAGES if stage.publishes) == sorted(SERVING)


@given(messages())
def test_steps_write_the_topics_and_types_that_the_topology_names(log: list[Event | ItemChange | Served]) -> None:
    kinds = {"item-signals": Signal, "labelled": Label, "identity": Link | Absorb}
    assert kinds == DERIVED
    said: list[tuple[str, str, object]] = []
    watched = [stage._replace(step=_overheard(stage, said)) for stage in STAGES]
    world = World()
    world.runner = runner.Runner(watched, lambda *told: world.published.append(told), lambda *_: None)
    world.take(*log)
    assert all(isinstance(value, kinds[topic]) for topic, _, value in said)
    assert all(isinstance(value, SERVING[topic] | None) for topic, _, value in world.published)


def _overheard(stage: Stage, said: list[tuple[str, str, object]]) -> topology.Step:
    def step(state: object, message: object) -> tuple[object, object]:
        after, outputs = stage.step(state, message)
        said.extend((one.topic, one.key, one.value) for one in outputs)
        return after, outputs

    return step  # type: ignore[return-value]


@given(messages())
def test_states_and_messages_stay_as_they_were_handed_to_a_step(log: list[Event | ItemChange | Served]) -> None:
    world = World()
    watched = [stage._replace(step=_watched(stage)) for stage in STAGES]
    world.runner = runner.Runner(watched, lambda *_: None, lambda *_: None)
    world.take(*log)


def _watched(stage: Stage) -> topology.Step:
    def step(state: object, message: object) -> tuple[object, object]:
        given_state, given_message = copy.deepcopy(state), copy.deepcopy(message)
        found = stage.step(state, message)
        assert (state, message) == (given_state, given_message)
        assert stage.step(state, message) == found  # nothing but these two decides
        return found

    return step  # type: ignore[return-value]


@given(messages())
def test_every_state_comes_back_from_msgpack_as_it_was(log: list[Event | ItemChange | Served]) -> None:
    world = World().take(*log)
    for name, table in world.runner.tables.items():
        for _, state in table.items():
            stored = msgspec.msgpack.encode(state)
            back = msgspec.msgpack.decode(stored, type=STATE_TYPES[name])
            assert back == state
            assert msgspec.msgpack.encode(back) == stored


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.__name__)
def test_steps_and_their_driver_know_no_clock_no_chance_and_no_machine(module: object) -> None:
    path = Path(str(module.__file__))  # type: ignore[attr-defined]
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & IMPURE
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input", "hash", "id", "eval", "exec", "__import__"}
