from __future__ import annotations

from typing import cast

import msgspec
import numpy as np
import pytest

from core.catalogue import Item, ItemChange
from core.events import Event
from core.ids import hash64
from jobs.duel import Duel, Side, fight
from jobs.embedding import Embedder
from ranker.arrays import Floats
from ranker.model import Ranker
from tests.factories import DAY, T, habits_log, small_settings

LOG = [one for one in habits_log(shoppers=16, days=8) if isinstance(one, Event | ItemChange)]
FROM = T + 5 * DAY
SETTINGS = small_settings()


class Grouped:
    """Vectors of items of one group lie together; those of `noise` anywhere."""

    dim = 8

    def __init__(self, *, noise: bool) -> None:
        self.noise, self.space_id = noise, f"grouped {noise}"

    def vectors(self, items: list[Item], progress: object = None) -> Floats:
        return np.stack([self._of(one.item_id) for one in items])

    def _of(self, item: str) -> Floats:
        seed = hash64(item) if self.noise else int(item[1])
        vector = np.random.default_rng(seed).normal(size=8) + 0.05 * np.random.default_rng(hash64(item)).normal(size=8)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def side(*, noise: bool, ranker: Ranker | None = None) -> Side:
    return Side(cast(Embedder, Grouped(noise=noise)), ranker)


@pytest.fixture(scope="module")
def told() -> Duel:
    """Knowing vectors against noise, where text alone retrieves."""
    names = SETTINGS.channels.__struct_fields__
    alone = msgspec.structs.replace(SETTINGS.channels, **dict.fromkeys(names, 0) | {"text": 20})
    settings = msgspec.structs.replace(SETTINGS, channels=alone)
    return fight(LOG, settings, side(noise=False), side(noise=True), FROM, 10_000)


def test_the_side_whose_vectors_tell_more_finds_more(told: Duel) -> None:
    assert len(told.shoppers) >= 40
    assert told.challenger.recall.mean() > told.champion.recall.mean() + 0.2
    assert told.challenger.ndcg.mean() > told.champion.ndcg.mean() + 0.1


def test_both_spaces_are_filled_at_the_end(told: Duel) -> None:
    rows = len(told.shop.snapshot.live)
    for space in (told.shop.beside, told.shop.snapshot.space):
        assert space is not None
        assert np.count_nonzero(space.has[:rows]) == rows == 64


def test_a_side_against_itself_is_worth_the_same() -> None:
    both = side(noise=False)
    found = fight(LOG, SETTINGS, both, side(noise=False), FROM, 10_000)
    assert found.challenger.ndcg.tolist() == found.champion.ndcg.tolist()
    assert found.challenger.covered == found.champion.covered


def test_where_there_are_many_visits_some_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Side(None, None)
    every = fight(LOG, SETTINGS, plain, plain, FROM, 10)
    monkeypatch.setattr("jobs.duel.MOST", 5)
    some = fight(LOG, SETTINGS, plain, plain, FROM, 100)
    assert 0 < len(some.shoppers) < 0.6 * len(every.shoppers)


def test_what_came_before_the_moment_is_not_asked_about_and_the_future_is_not_known() -> None:
    plain = Side(None, None)
    first = fight(LOG, SETTINGS, plain, plain, FROM, 10)
    later = [one for one in LOG if one.ts < T + 7 * DAY]
    cut = fight(later, SETTINGS, plain, plain, FROM, 10)
    n = len(cut.shoppers)
    assert n < len(first.shoppers)
    settled = n - 16  # of the last day not all that followed is in the shorter log
    assert cut.challenger.ndcg[:settled].tolist() == first.challenger.ndcg[:settled].tolist()


def test_a_champion_that_has_seen_too_much_is_stood_in_for_by_its_twin() -> None:
    known: list[int] = []

    def twin(lessons: object) -> None:
        assert isinstance(lessons, list)
        known.extend(one.ts for one in lessons)

    fight(LOG, SETTINGS, Side(None, None), Side(None, None), FROM, 10, learn_from_ms=T, twin=twin)
    assert known
    assert max(known) < FROM
