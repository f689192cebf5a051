from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Item
from core.profile import NOBODY, Act, Profile, Session
from core.settings import IndexSettings, PopularitySettings, RankingSettings, SessionSettings, Settings
from core.stats import Circle, Counter, ItemStats, Neighbours
from gateway import profiles as profiles_module
from gateway.filling import Filler, Filling
from gateway.profiles import Profiles
from gateway.views import Views
from jobs.embedding import Embedder
from ranker.live import Live
from ranker.space import Space
from streams.wire import VECTORS, ItemVector, serve
from tests.ranker.tiny import DIM, SPACE, vector_of

SETTINGS = Settings(
    sessions=SessionSettings(kept=3),
    popularity=PopularitySettings(half_lives_s=(3_600.0, 172_800.0)),
    ranking=RankingSettings(trending_half_life_s=172_800.0),
)


class World:
    """Views over a snapshot's live state, refreshed at every look."""

    def __init__(self, *, text: bool = True) -> None:
        self.live = Live(SETTINGS)
        self.space = Space(SPACE, DIM, IndexSettings()) if text else None
        self.filler = Filler(clock=lambda: 0.0)
        if self.space is not None:
            self.filler.add(Filling(self.space, cast(Embedder, None)))
        self.views = Views(SETTINGS, self.live, self.filler)

    def take(self, topic: str, key: str, value: bytes | None) -> None:
        self.views.take(topic, key.encode(), value)

    def refresh(self) -> None:
        self.views.flush()
        self.live.refresh()
        if self.space is not None:
            self.space.refresh(self.live.row)

    def near(self, words: str) -> list[str]:
        self.refresh()
        assert self.space is not None
        return [self.live.ids[row] for row in self.space.search(vector_of(words), 10)[0].tolist()]


def sold(item_id: str, **fields: Any) -> bytes:
    version = fields.pop("version", 1)
    return serve(version, Item(item_id=item_id, since=1, ts=1, text_ts=1, title=item_id, **fields))


def vector(words: str, *, ts: int = 1, space: str = SPACE) -> bytes:
    return serve(ts, ItemVector(1, space, ts, vector_of(words).astype("<f4").tobytes()))


def visits(*lasts: int, version: int = 1, item: str = "red tea") -> bytes:
    sessions = tuple(Session(f"s{last}", last, last, {item: Act.VIEW}) for last in lasts)
    return serve(version, Profile(last=max(lasts, default=0), sessions=sessions))


# ---------------------------------------------------------------------- versions
@given(st.permutations(list(range(5))))
def test_in_whatever_order_versions_come_the_highest_counts(order: Sequence[int]) -> None:
    world = World()
    for version in order:
        world.take("catalogue", "red tea", sold("red tea", price=float(version), version=version))
        world.take("profiles", "ida", visits(10 + version, version=version))
    world.refresh()
    item, profile = world.live.items[world.live.rows["red tea"]], world.views.profiles.get("ida")
    assert item is not None
    assert (item.price, profile.last) == (4.0, 14)


def test_a_removal_counts_whatever_came_before_and_a_later_record_brings_the_key_back() -> None:
    world = World()
    world.take("catalogue", "red tea", sold("red tea", version=9))
    world.take("catalogue", "red tea", None)
    world.refresh()
    assert world.live.sold_count == 0
    world.take("catalogue", "red tea", sold("red tea", version=1))
    world.refresh()
    assert world.live.sold_count == 1


def test_stats_and_neighbours_reach_the_live_state() -> None:
    world = World()
    stats = ItemStats(counters={"buy": Counter(5, 2.0, (2.0, 2.0))}, first=5, last=5)
    world.take("item-stats", "red tea", serve(1, stats))
    world.take("item-neighbours", "red tea", serve(1, Neighbours(circles={"bought": Circle(5, 2.0, {"cup": 1.0})})))
    world.refresh()
    row = world.live.rows["red tea"]
    assert float(world.live.counters.ever(np.array([row]), "buy")[0]) == 2.0
    assert world.live.circles["bought"].rows[row, 0] == world.live.rows["cup"]


# ---------------------------------------------------------------------- what cannot be used
@pytest.mark.parametrize(
    ("topic", "key", "value", "said"),
    [
        ("catalogue", b"red tea", b"\x00rubbish", "catalogue"),
        ("catalogue", b"\xff\xfe", b"\x00", "utf-8"),
        ("item-stats", b"red tea", serve(1, ItemStats(counters={"buy": Counter(5, 2.0, (2.0,))})), "worker.version"),
        (VECTORS, b"red tea", serve(1, ItemVector(1, SPACE, 1, b"1234")), "a vector of 1 numbers"),
        ("profiles", b"ida", b"", "profiles"),
    ],
)
def test_a_record_that_cannot_be_used_is_told_and_stops_nothing(
    topic: str, key: bytes, value: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    with caplog.at_level(logging.ERROR):
        world.views.take(topic, key, value)
    world.take("catalogue", "cup", sold("cup"))
    world.refresh()
    assert said in caplog.text
    assert (world.views.unusable, world.live.sold_count) == (1, 1)


# ---------------------------------------------------------------------- vectors
@pytest.mark.parametrize("catalogue_first", [True, False])
def test_an_item_is_found_by_its_text_once_both_are_there(*, catalogue_first: bool) -> None:
    world = World()
    records = [("catalogue", "red tea", sold("red tea")), (VECTORS, "red tea", vector("red tea"))]
    first, second = records if catalogue_first else records[::-1]
    world.take(*first)
    assert world.near("tea") == []
    world.take(*second)
    assert world.near("tea") == ["red tea"]


def test_vectors_of_another_space_are_never_offered() -> None:
    world = World()
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea", ts=9, space="another"))
    assert world.near("tea") == []
    world.take(VECTORS, "red tea", vector("red tea", ts=3))
    assert world.near("tea") == ["red tea"]


@pytest.mark.parametrize("topic", ["catalogue", VECTORS])
def test_an_item_without_its_entry_or_its_vector_is_not_found_any_more(topic: str) -> None:
    world = World()
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea"))
    assert world.near("tea") == ["red tea"]
    world.take(topic, "red tea", None)
    assert world.near("tea") == []


def test_a_removal_in_the_same_batch_as_the_vector_wins() -> None:
    world = World()
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea"))
    world.take("catalogue", "red tea", None)
    assert world.near("tea") == []


def test_an_item_that_is_sold_again_is_found_by_its_new_vector() -> None:
    world = World()
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea"))
    world.take("catalogue", "red tea", None)
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("green bike", ts=2))
    assert world.near("bike") == ["red tea"]


def test_without_an_encoder_vectors_are_passed_over() -> None:
    world = World(text=False)
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea"))
    world.take("catalogue", "red tea", None)
    world.refresh()
    assert (world.views.unusable, world.live.sold_count) == (0, 0)


# ---------------------------------------------------------------------- profiles
def test_of_what_was_there_at_the_start_everybodys_newest_sessions_are_entered_in_the_order_of_time() -> None:
    world = World()
    for key, value in {"a": visits(50, 10), "b": visits(40, 20), "c": visits(30), "d": visits()}.items():
        world.take("profiles", key, value)
    world.refresh()
    assert len(world.live.sessions) == 0
    world.views.loaded(world.refresh)
    world.refresh()
    assert sorted(world.live.sessions.ts.tolist()) == [30, 40, 50]
    world.take("profiles", "d", visits(60))
    world.refresh()
    assert sorted(world.live.sessions.ts.tolist()) == [40, 50, 60]


def test_a_visitor_who_became_a_user_takes_the_sessions_along() -> None:
    world = World()
    world.views.loaded(world.refresh)
    world.take("profiles", "visitor", visits(10))
    world.refresh()
    world.take("profiles", "visitor", None)
    world.refresh()
    assert (len(world.live.sessions), world.views.profiles.get("visitor")) == (0, NOBODY)


def test_a_profile_is_decoded_once_until_it_changes_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles_module, "DECODED", 2)
    kept = Profiles()
    for number in range(4):
        kept.put(b"%d" % number, visits(number + 1))
    first = kept.get("0")
    assert kept.get("0") is first
    kept.put(b"0", visits(99, version=2))
    assert kept.get("0").last == 99
    assert [kept.get(str(number)).last for number in range(1, 4)] == [2, 3, 4]
    assert len(kept._decoded) == 2
    assert kept.get("somebody else") is NOBODY
    assert len(kept) == 4


@given(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(1, 5)), max_size=12))
def test_loading_keeps_what_following_would(records: list[tuple[str, int | None]]) -> None:
    loaded, followed = Profiles(), Profiles()
    for key, version in records:
        value = None if version is None else visits(version, version=version)
        loaded.load(key.encode(), value)
        followed.put(key.encode(), value)
    assert [loaded.get(key) for key in "ab"] == [followed.get(key) for key in "ab"]


def test_vectors_go_to_the_space_that_they_are_of_and_others_are_passed_over() -> None:
    world = World()
    other = Space("other", DIM, IndexSettings())
    world.filler.add(Filling(other, cast(Embedder, None)))
    world.take("catalogue", "red tea", sold("red tea"))
    world.take(VECTORS, "red tea", vector("red tea"))
    world.take(VECTORS, "red tea", vector("old bike", space="other"))
    world.take(VECTORS, "red tea", vector("kite", space="of a worker that is ahead"))
    assert world.near("red") == ["red tea"]
    other.refresh(world.live.row)
    ours, theirs = [one.of(np.array([0]))[0][0] for one in (world.space, other) if one is not None]
    assert theirs == pytest.approx(vector_of("old bike"), abs=1e-3)
    assert ours == pytest.approx(vector_of("red tea"), abs=1e-3)
    assert world.views.unusable == 0
