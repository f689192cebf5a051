from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import HOUR_MS
from core.settings import SessionSettings
from ranker.sessions import SessionIndex

NOW = 1_750_000_000_000
ITEMS = 12
Pairs = list[tuple[int, int]]


def index_of(**fields: Any) -> SessionIndex:
    index = SessionIndex(SessionSettings(**{"kept": 8, "width": 6, "per_item": 50, "nearest": 50, **fields}))
    index.grow(ITEMS)
    return index


def answer(index: SessionIndex, query: dict[int, float], shopper: str = "asks") -> list[tuple[float, dict[int, int]]]:
    """Similarities with the sessions they are of, most similar first."""
    rows, weights = np.array(list(query), np.int64), np.array(list(query.values()))
    items, acts, near = index.like(rows, weights, shopper, NOW)
    found = [
        (round(float(score), 5), {int(item): int(act) for item, act in zip(row, act_row, strict=True) if item >= 0})
        for score, row, act_row in zip(near, items, acts, strict=True)
    ]
    return sorted(found, key=lambda one: (-one[0], sorted(one[1].items())))


class BruteForce:
    """Every session that is kept, compared with the query."""

    def __init__(self, config: SessionSettings) -> None:
        self.config = config
        self.sessions: dict[tuple[str, str], tuple[int, Pairs]] = {}

    def put(self, shopper: str, session: str, ts: int, pairs: Pairs) -> None:
        if (shopper, session) not in self.sessions and len(self.sessions) == self.config.kept:
            del self.sessions[next(iter(self.sessions))]
        self.sessions[shopper, session] = ts, pairs[-self.config.width :]

    def answer(self, query: dict[int, float], shopper: str) -> list[tuple[float, dict[int, int]]]:
        found = []
        for (owner, _), (ts, pairs) in self.sessions.items():
            overlap = sum(query.get(item, 0.0) for item, _ in pairs)
            if owner == shopper or not overlap:
                continue
            age = max(NOW - ts, 0) / (self.config.half_life_s * 1000.0)
            found.append((round(overlap / (len(pairs) + 1.0) ** 0.5 * 2.0**-age, 5), dict(pairs)))
        return sorted(found, key=lambda one: (-one[0], sorted(one[1].items())))


steps = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w", "asks"]),
        st.integers(0, 4),
        st.dictionaries(st.integers(0, ITEMS - 1), st.integers(1, 5), min_size=1, max_size=3),
    ),
    max_size=40,
)
queries = st.dictionaries(st.integers(0, ITEMS - 1), st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=5)


@given(steps, queries)
@settings(max_examples=150)
def test_the_nearest_sessions_are_those_of_a_comparison_with_all(
    told: list[tuple[str, int, dict[int, int]]], query: dict[int, float]
) -> None:
    index = index_of()
    brute = BruteForce(index.settings)
    grown: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for n, (shopper, session, added) in enumerate(told):
        items = grown[shopper, f"s{session}"]
        items.update({item: max(act, items.get(item, 0)) for item, act in added.items()})
        ts, pairs = NOW - (100 - n) * HOUR_MS, list(items.items())
        index.put(shopper, f"s{session}", ts, pairs)
        brute.put(shopper, f"s{session}", ts, pairs)
    found, expected = answer(index, query), brute.answer(query, "asks")
    assert [items for _, items in found] == [items for _, items in expected]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=2e-5)


def test_a_session_that_was_overwritten_leaves_no_trace() -> None:
    index = index_of(kept=2)
    index.put("u", "s", NOW, [(1, 1), (2, 1)])
    for n in range(2):
        index.put("v", f"s{n}", NOW, [(3 + n, 1)])
    assert answer(index, {1: 1.0, 2: 1.0}) == []
    assert [items for _, items in answer(index, {3: 1.0})] == [{3: 1}]


def test_a_session_that_grows_is_one_session() -> None:
    index = index_of()
    index.put("u", "s", NOW - HOUR_MS, [(1, 1)])
    index.put("u", "s", NOW, [(1, 4), (2, 1)])
    assert [items for _, items in answer(index, {1: 1.0})] == [{1: 4, 2: 1}]
    assert len(index) == 1


def test_a_stronger_act_at_the_same_moment_counts() -> None:
    index = index_of()
    for act in (1, 5):
        index.put("u", "s", NOW, [(1, act)])
    assert [items for _, items in answer(index, {1: 1.0})] == [{1: 5}]


def test_the_same_session_told_twice_changes_nothing() -> None:
    once, twice = index_of(), index_of()
    for index, times in ((once, 1), (twice, 3)):
        for _ in range(times):
            index.put("u", "s", NOW, [(1, 1), (2, 5)])
    assert answer(once, {1: 1.0, 2: 0.5}) == answer(twice, {1: 1.0, 2: 0.5})


def test_ones_own_sessions_are_not_others() -> None:
    index = index_of()
    index.put("u", "s", NOW, [(1, 1)])
    assert answer(index, {1: 1.0}, shopper="u") == []
    assert len(answer(index, {1: 1.0}, shopper="v")) == 1


def test_only_the_newest_sessions_of_an_item_are_looked_at() -> None:
    index = index_of(per_item=3)
    for n in range(6):
        index.put(f"u{n}", "s", NOW, [(1, 1), (2 + n, 1)])
    found = [item for _, items in answer(index, {1: 1.0}) for item in items if item != 1]
    assert sorted(found) == [5, 6, 7]


def test_only_the_most_similar_ones_are_answered() -> None:
    index = index_of(nearest=2)
    for n in range(5):
        index.put(f"u{n}", "s", NOW - n * 24 * HOUR_MS, [(1, 1), (2 + n, 1)])
    assert [max(items) for _, items in answer(index, {1: 1.0})] == [2, 3]


def test_a_long_session_is_known_by_its_newest_items() -> None:
    index = index_of(width=3)
    index.put("u", "s", NOW, [(item, 1) for item in range(5)])
    assert [items for _, items in answer(index, {4: 1.0})] == [{2: 1, 3: 1, 4: 1}]
    assert answer(index, {0: 1.0}) == []


def test_a_shopper_who_is_forgotten_is_like_nobody() -> None:
    index = index_of()
    index.put("u", "s", NOW, [(1, 1)])
    index.put("v", "s", NOW, [(1, 1)])
    index.forget("u")
    assert len(answer(index, {1: 1.0}, shopper="asks")) == 1
    assert answer(index, {1: 1.0}, shopper="v") == []
    index.put("u", "s", NOW, [(1, 2)])
    assert [items for _, items in answer(index, {1: 1.0}, shopper="v")] == [{1: 2}]


def test_growing_keeps_what_items_know() -> None:
    index = index_of()
    index.put("u", "s", NOW, [(1, 1)])
    index.grow(5_000)
    index.put("v", "s", NOW, [(4_999, 1), (1, 1)])
    assert len(answer(index, {1: 1.0})) == 2
