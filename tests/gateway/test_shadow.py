"""A bundle answers unseen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.decision import Request
from gateway.shadow import Differences, Shadow
from ranker.recommend import recommend
from tests.gateway.words import COLOURS, THINGS, encoders
from tests.gateway.world import World, open_world
from tests.ranker.tiny import NOW, shown

ASKED = 30


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with encoders(), open_world(tmp_path, shadow_share=1.0) as found:
        yield found


def answered(world: World) -> Shadow:
    """All that was noted has been answered unseen."""
    shadow, stopping = world.engine._shadow, threading.Event()
    thread = threading.Thread(target=shadow.run, args=(stopping,))
    thread.start()
    while not shadow._queue.empty():
        stopping.wait(0.01)
    stopping.set()
    thread.join()
    return shadow


def unseen(world: World, space: str, created_ms: int) -> str:
    made = world.made(space, created_ms)
    world.store.shadow(made)
    world.swapper.look()
    return made


def test_what_it_would_have_changed_is_counted_and_nobody_sees_it(world: World) -> None:
    first = world.promoted(COLOURS, 1)
    plain = shown(world.ask())
    other = unseen(world, THINGS, 2)
    decisions = [world.ask(recommendation_id=f"r{n}") for n in range(ASKED)]
    assert {(one.bundle, *shown(one)) for one in decisions} == {(first, *plain)}
    told = answered(world).describe()
    assert (told["shadow"], told["shadow_lists"], told["shadow_failures"]) == (other, ASKED, 0)
    standing = world.roles.unseen
    assert standing is not None
    with world.engine._roster.reading(standing) as snapshot:
        request = Request(recommendation_id="r0", ts=NOW, shopper="v")
        theirs = shown(recommend(request, world.profile("v"), snapshot))
    assert told["shadow_overlap"] == pytest.approx(len(set(plain) & set(theirs)) / 10, abs=1e-4)
    assert told["shadow_same_first"] == float(plain[0] == theirs[0])
    assert world.engine.describe()["shadow_ms"] > 0


def test_the_same_bundle_contents_change_nothing(world: World) -> None:
    world.promoted(COLOURS, 1_001)
    unseen(world, COLOURS, 2_001)  # the same ranker, made later
    for n in range(5):
        world.ask(recommendation_id=f"r{n}")
    told = answered(world).describe()
    assert (told["shadow_lists"], told["shadow_overlap"], told["shadow_same_first"]) == (5, 1.0, 1.0)


def test_a_share_of_the_requests_is_answered_unseen(world: World) -> None:
    unseen(world, COLOURS, 1)
    shadow = world.engine._shadow = Shadow(world.engine._roster, 0.3)
    for n in range(100):
        world.ask(recommendation_id=f"r{n}")
    assert 15 < shadow._queue.qsize() < 45


def test_one_that_fails_is_counted_and_harms_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unseen(world, THINGS, 1)
    standing = world.roles.unseen
    assert standing is not None
    ranker = standing.snapshot.ranker

    def fails(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(ranker, "score", fails)
    assert [world.ask(recommendation_id=f"r{n}").bundle for n in range(3)] == [""] * 3
    assert answered(world).describe()["shadow_failures"] == 3
    assert caplog.text.count("failed to answer unseen") == 1


def test_it_takes_over_without_being_loaded_again_and_can_be_switched_off(world: World) -> None:
    with encoders() as opened:
        other = unseen(world, THINGS, 1)
        world.store.promote(other)
        world.swapper.look()
        assert (world.ask().bundle, opened.times) == (other, [other])
        assert world.roles.unseen is None, "it is seen now"
        world.store.shadow(None)
        world.swapper.look()
        assert "shadow" not in world.engine.describe()


def test_what_it_does_not_manage_is_left_out(world: World) -> None:
    other = unseen(world, COLOURS, 1)
    world.ask(recommendation_id="r")
    shadow = answered(world)
    for n in range(150):
        world.ask(recommendation_id=f"r{n}")
    told = shadow.describe()
    assert (told["shadow"], told["shadow_lists"], told["shadow_left_out"]) == (other, 1, 50)


def test_of_two_empty_lists_all_is_the_same(world: World) -> None:
    found, empty = Differences("a", "b"), world.ask(items=())
    assert shown(empty) == []
    found.count(empty, empty, 0.004)
    told = found.told()
    assert (told["shadow_overlap"], told["shadow_same_first"], told["shadow_ms"]) == (1.0, 1.0, 4.0)
