"""A new bundle takes over, of the same space or of another one, and gives way again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.decision import Decision, Filters, Request
from ranker import recommend
from tests.gateway.words import COLOURS, THINGS, Encoders, Words, encoders
from tests.gateway.world import GOODS, World, open_world
from tests.ranker.tiny import NOW

DAY_MS = 86_400_000


@pytest.fixture
def opened() -> Iterator[Encoders]:
    with encoders() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, opened: Encoders) -> Iterator[World]:
    with open_world(tmp_path) as found:
        yield found


def like(decision: Decision) -> set[str]:
    """The space in which the text features of a list are what they are, for somebody who looked at red tea."""
    spaces = set[str]()
    for one in decision.items:
        colour, thing = one.item_id.split()
        near = one.features["text_taste"] > 0.9
        spaces |= {space for space, alike in ((COLOURS, colour == "red"), (THINGS, thing == "tea")) if near != alike}
    return {COLOURS, THINGS} - spaces


def test_a_bundle_of_another_space_takes_over_with_its_encoder(world: World, opened: Encoders) -> None:
    assert {one.split()[0] for one in world.near("red tea", 4)} == {"red"}
    made = world.promoted(THINGS, 1)
    decision = world.ask()
    assert (decision.bundle, decision.ranker) == (made, "lambdarank")
    assert world.engine.describe()["encoder"] == THINGS
    assert {one.split()[1] for one in world.near("red tea")} == {"tea"}
    assert opened.opened[made].asked[-1] == "red tea", "the words were encoded by the encoder of the space they meet"
    assert {one.item_id.split()[1] for one in world.engine.similar("green sock", 2, Filters())} == {"sock"}


def test_the_bundles_vectors_are_used_and_only_what_it_lacks_is_encoded(world: World, opened: Encoders) -> None:
    world.sell("new hose", ts=NOW)
    world.sell("red sock", ts=NOW, title="red teapot")
    made = world.promoted(THINGS, 1)
    assert sorted(opened.opened[made].encoded) == ["new hose", "red sock"]
    assert set(world.near("a hose", 4)) == {f"{colour} hose" for colour in ("red", "green", "old", "new")}
    assert world.near("a teapot", 1) == ["red sock"]


def test_what_comes_changes_and_goes_while_a_bundle_is_loaded_is_so_in_its_index(
    world: World, opened: Encoders
) -> None:
    slow = opened.before[THINGS] = Words(THINGS)
    slow.may.clear()
    world.sell("late kite", ts=NOW)
    made = world.made(THINGS, 1)
    world.store.promote(made)
    loading = threading.Thread(target=world.swapper.look)
    loading.start()
    while world.engine.filler.of(THINGS) is None or not world.engine.filler.of(THINGS).begun:  # type: ignore[union-attr]
        pass
    world.sell("later kite", ts=NOW)
    world.sell("green sock", ts=NOW, title="green kite")
    world.withdraw("old hose")
    world.withdraw("late kite")
    world.sell("late kite", ts=NOW + 1)
    assert world.ask().bundle == "", "what serves goes on while the other one is loaded"
    slow.may.set()
    loading.join(20)
    world.settled()
    assert world.ask().bundle == made
    assert set(world.near("a kite", 3)) == {"late kite", "later kite", "green sock"}
    assert "old hose" not in world.near("a hose", 20)
    assert sorted(set(opened.before[THINGS].encoded)) == ["green sock", "late kite", "later kite"]


def test_a_rollback_loads_nothing_and_the_old_index_has_what_came_since(world: World, opened: Encoders) -> None:
    first = world.promoted(COLOURS, 1)
    second = world.promoted(THINGS, 2)
    world.sell("red kite", ts=NOW)
    world.withdraw("red sock")
    world.settled()
    assert world.near("a kite", 1) == ["red kite"]
    times = len(opened.times)
    assert world.store.rollback() == first
    world.swapper.look()
    assert world.ask().bundle == first
    assert set(world.near("red kite", 4)) == {"red tea", "red bike", "red hose", "red kite"}
    world.store.promote(second)
    world.swapper.look()
    assert (world.ask().bundle, len(opened.times)) == (second, times)
    assert "red kite" in world.near("a kite", 1)


def test_a_third_bundle_lets_the_oldest_go(world: World) -> None:
    names = [world.promoted(space, n) for n, space in enumerate((THINGS, COLOURS, COLOURS), 1)]
    assert [one.bundle for one in world.roles.all()] == [names[2], names[1]]
    assert world.engine.filler.of(THINGS) is None
    space = world.roles.serving.filling
    assert space is world.roles.before.filling if world.roles.before else None, "bundles of one space share it"


def test_each_bundle_answers_in_its_own_space_with_its_own_models(world: World) -> None:
    assert like(world.ask(explain=True)) == {COLOURS}
    second = world.promoted(THINGS, 2)
    for standing, space in ((world.roles.serving, THINGS), (world.roles.before, COLOURS)):
        assert standing is not None
        with world.engine._roster.reading(standing) as snapshot:
            request = Request(recommendation_id="r", ts=NOW, shopper="v", explain=True)
            decision = recommend.recommend(request, world.profile("v"), snapshot)
        assert like(decision) == {space}
        assert decision.bundle == (second if space == THINGS else "")


# ---------------------------------------------------------------------- what cannot be loaded
@pytest.mark.parametrize("fault", ["file", "features", "encoder", "base"])
def test_a_bundle_that_cannot_be_loaded_is_told_once_and_what_serves_goes_on(
    world: World, opened: Encoders, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    good = world.promoted(COLOURS, 1)
    world.sell("new kite", ts=NOW)
    world.settled()
    if fault == "encoder":
        opened.before[THINGS] = Words(THINGS)
        opened.before[THINGS].broken = True
    contents: dict[str, Any] = {"space_id": "a third"} if fault == "base" else {}
    if fault == "features":
        contents["features"] = {"names": ("other",), "hash": "other"}
    bad = world.made(THINGS, 2, **contents)
    world.store.promote(bad)
    if fault == "file":
        (world.store.folder(bad) / "ranker.txt").write_text("nonsense")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            world.swapper.look()
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [bad in one for one in errors] == [True]
    assert world.ask().bundle == good
    assert world.engine.filler.of(THINGS) is None
    assert world.near("new kite", 1) == ["new kite"]
    world.store.rollback()
    world.swapper.look()
    assert world.ask().bundle == good


def test_a_start_on_a_bundle_with_an_encoder_encodes_only_what_is_new(tmp_path: Path, opened: Encoders) -> None:
    world = World(tmp_path)
    world.store.promote(world.made(COLOURS, 1))
    made = world.made(THINGS, 2)
    world.store.promote(made)
    try:
        world.open(*GOODS, "old kite")
        world.settled()
        assert world.ask().bundle == made
        assert opened.opened[made].encoded == ["old kite"]
        assert len(world.roles.all()) == 1
        world.swapper.look()
        assert len(world.roles.all()) == 2, "what served before is warm again soon after a start"
        world.store.rollback()
        world.swapper.look()
        assert world.near("old tea", 1)[0].startswith("old ")
    finally:
        world.close()


# ---------------------------------------------------------------------- probation
@pytest.fixture
def probation(tmp_path: Path, opened: Encoders) -> Iterator[World]:
    found = World(tmp_path, probation_s=86_400.0, holdback=0.2)
    try:
        found.open(*GOODS)
        found.settled()
        yield found
    finally:
        found.close()


def shares(world: World) -> dict[str, float]:
    """Which bundles answer a thousand shoppers, and how many of them."""
    names, counts = np.unique([world.roles.answering(f"s{n}").bundle for n in range(1_000)], return_counts=True)
    return dict(zip(names.tolist(), (counts / 1_000).tolist(), strict=True))


def test_on_probation_a_share_of_the_shoppers_stays_with_the_old_bundle(probation: World) -> None:
    first = probation.promoted(COLOURS, 1)
    assert shares(probation) == {first: 1.0}, "before it there was no bundle to compare with"
    second = probation.promoted(THINGS, 2)
    found = shares(probation)
    assert found[first] == pytest.approx(0.2, abs=0.04)
    assert found[first] + found[second] == 1.0
    held = next(f"s{n}" for n in range(1_000) if probation.roles.answering(f"s{n}").bundle == first)
    assert {probation.ask(held).bundle for _ in range(5)} == {first}
    assert probation.ask("").bundle == second, "whom we do not know gets what serves"
    probation.now += DAY_MS
    probation.swapper.look()
    assert shares(probation) == {second: 1.0}


def test_after_a_rollback_nobody_is_held_back(probation: World) -> None:
    first = probation.promoted(COLOURS, 1)
    probation.promoted(THINGS, 2)
    probation.store.rollback()
    probation.swapper.look()
    assert shares(probation) == {first: 1.0}


def test_a_start_on_probation_loads_both_and_the_same_shoppers_are_held_back(probation: World, tmp_path: Path) -> None:
    first, second = probation.promoted(COLOURS, 1), probation.promoted(THINGS, 2)
    before = {f"s{n}": probation.roles.answering(f"s{n}").bundle for n in range(300)}
    again = World(tmp_path, probation_s=86_400.0, holdback=0.2)
    try:
        again.open(*GOODS)
        again.swapper.look()
        assert {again.roles.serving.bundle, *shares(again)} == {first, second}
        assert {name: again.roles.answering(name).bundle for name in before} == before
    finally:
        again.close()
