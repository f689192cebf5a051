"""When models of histories are learnt on event time, from what, and what they may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import msgspec
import numpy as np
import pytest

from core.decision import Request
from core.errors import FutureLeak, Missing
from core.profile import Memory, Profile
from core.settings import Settings
from jobs import train_tower
from jobs.refitting import Cadence, Refits, remembered
from jobs.rehearsal import Rehearsal
from models.user_tower import UserTower
from ranker import ease, features
from ranker.user_vector import WEIGHTED_MEAN, Transformer
from streams.recorded import Query
from tests.factories import DAY, HOUR, T, event, item, small_settings
from tests.towers import chains, embedder_of, small_towers, tower_settings


# ---------------------------------------------------------------------- when
def test_a_job_is_due_at_first_after_its_time_and_when_there_is_so_much_more() -> None:
    cadence = Cadence(every_s=60.0, growth=0.5)
    assert cadence.due(T, 0)
    cadence.ran(T, 100, learnt=True)
    assert not cadence.due(T + 59_999, 150)
    assert cadence.due(T + 60_000, 100)
    assert cadence.due(T + 1, 151)


@pytest.mark.parametrize("learnt", [True, False])
def test_without_growth_only_time_counts(learnt: bool) -> None:
    cadence = Cadence(every_s=60.0, again=inf)
    cadence.ran(T, 0, learnt=learnt)
    assert not cadence.due(T + 59_999, 1_000_000)
    assert cadence.due(T + 60_000, 0)


def test_what_came_to_nothing_is_tried_again_when_there_is_twice_as_much_and_not_before() -> None:
    cadence, tries = Cadence(every_s=1e9), []
    for events in range(1_000):
        if cadence.due(T, events):
            tries.append(events)
            cadence.ran(T, events, learnt=events > 300)
    assert tries == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511]


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each fit of EASE came to something."""
    told: list[bool] = []
    fit: Callable[..., Any] = ease.fit

    def counted(*given: Any) -> Any:
        found = fit(*given)
        told.append(found is not None)
        return found

    monkeypatch.setattr(ease, "fit", counted)
    return told


def test_the_first_minutes_of_a_log_are_not_modelled_for_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try that came to nothing is made again when the next fit is due, and not at each request."""
    told, shop = count_fits(monkeypatch), Rehearsal(small_settings())
    every = round(shop.settings.ease.every_s * 1000)
    for name in "ab":
        shop.accept(item(name))
    for n in range(64):  # after the first purchase nobody has two items
        for at, name in enumerate("ab"):
            shop.accept(event("purchase", name, user_id=f"u{n}", ts=T + 10 * n + at))
            shop.ready(T + 10 * n + at + 1)
    assert told == [False]
    shop.ready(T + every + 1)
    assert told == [False, True]
    assert shop.snapshot.live.ease is not None


# ---------------------------------------------------------------------- from what
def test_histories_hold_the_first_and_the_last_use_of_what_was_not_disliked() -> None:
    profile = Profile(
        memory={
            "tea": Memory(buys=2, views=9, first=T, last=T + 5),
            "mug": Memory(views=1, first=T + 3, last=T + 3),
            "cart": Memory(carts=1, first=T + 4, last=T + 4),
            "shown": Memory(shown=3, first=T + 4, last=T + 4),
            "bad": Memory(buys=1, first=T + 1, last=T + 2, opinion=-1.0),
        }
    )
    found = remembered([("bob", Profile()), ("ann", profile)], T + 1)
    assert [(one.item, one.ts - T) for one in found.touches["ann"]] == [("mug", 3), ("cart", 4), ("tea", 5)]
    strengths = [one.strength for one in found.touches["ann"]]
    assert strengths == sorted(strengths)
    assert found.against == {"ann": {"bad": T + 2}}
    assert (found.newest_ms, list(found.touches)) == (T + 5, ["ann"])
    assert len(remembered([("ann", profile)], 0).touches["ann"]) == 4


# ---------------------------------------------------------------------- a user vector on the way
def played(settings: Settings, *, until: int = 1 << 62, **more: Any) -> Rehearsal:
    shop = Rehearsal(settings, embedder_of(settings), learn_from_ms=T + 4 * DAY, **({"learn_user": True} | more))
    for entry in chains():
        assert not isinstance(entry, Query)
        if entry.ts < until:
            shop.accept(entry)
    return shop


def test_a_user_vector_is_learnt_on_the_way_and_is_older_than_what_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)
    asked = list[tuple[int, int]]()
    due = Refits.due

    def noted(refits: Refits, snapshot: Any, now_ms: int, known: Any) -> Any:
        found = due(refits, snapshot, now_ms, known)
        if isinstance(found.user, Transformer):
            asked.append((now_ms, found.user.tower.shape.max_event_ms))
        return found

    monkeypatch.setattr(Refits, "due", noted)
    shop = played(tower_settings())
    assert len(asked) > 100
    assert all(newest < now for now, newest in asked)
    assert {newest for _, newest in asked} == {one.max_event_ms for one in shop.users}
    pauses = np.diff([one.ts for one in shop.users]) / DAY
    assert len(pauses) == 2
    assert all(2.0 <= pause < 2.5 for pause in pauses)
    shop.finish()
    column = features.names(shop.settings).index("next_score")
    known = [one for one in shop.lessons if np.isfinite(one.features[:, column]).any()]
    assert len(known) > 0.9 * len(shop.lessons) > 50


def test_a_user_vector_newer_than_a_question_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)
    shop = played(tower_settings())
    assert isinstance(shop.snapshot.user, Transformer)
    made = shop.snapshot.user.tower
    newer = UserTower(msgspec.structs.replace(made.shape, max_event_ms=shop.now_ms + HOUR), made.items, made.weights)
    snapshot = replace(shop.snapshot, user=Transformer(newer))
    request = Request(recommendation_id="r", ts=shop.now_ms + HOUR, shopper="u1")
    with pytest.raises(FutureLeak, match="the user vector has seen"):
        shop.draft_with(request, snapshot)
    shop.draft_with(msgspec.structs.replace(request, ts=request.ts + 1), snapshot)


def test_where_it_is_not_clearly_better_the_mean_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch, better=False)
    shop = played(tower_settings())
    assert shop.snapshot.user is WEIGHTED_MEAN
    assert [one.kept for one in shop.users] == [False] * 3


def test_where_too_little_is_known_it_is_tried_again_when_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = list[int]()

    def fit(*given: Any) -> Any:
        tries.append(1)
        raise Missing("nobody came back")

    monkeypatch.setattr(train_tower, "fit", fit)
    shop = played(tower_settings(tower_every_s=1e9))
    assert shop.snapshot.user is WEIGHTED_MEAN
    assert shop.users == []
    assert len(tries) == 2, "at 120 events, and at 241 of 300"


def test_nobody_who_does_not_ask_for_it_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(train_tower, "fit")
    shop = played(tower_settings(), learn_user=False)
    assert shop.snapshot.user is WEIGHTED_MEAN
