from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import SpaceMixed
from core.settings import IndexSettings
from ranker.space import Space

DIM = 8


class Rows:
    """Rows as the live state gives them."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, item: str) -> int:
        if item not in self.ids:
            self.ids.append(item)
        return self.ids.index(item)


def vectors(*seeds: int) -> NDArray[np.float32]:
    found = np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]).astype(np.float32)
    unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def space_of(**fields: int) -> tuple[Space, Rows]:
    return Space("one", DIM, IndexSettings(**fields)), Rows()  # type: ignore[arg-type]


def nearest(space: Space, rows: Rows, seed: int, count: int = 3) -> list[str]:
    return [rows.ids[row] for row in space.search(vectors(seed)[0], count)[0].tolist()]


def test_vectors_of_another_space_are_refused() -> None:
    space, _ = space_of()
    with pytest.raises(SpaceMixed, match="two"):
        space.offer("two", ["a"], vectors(1))


def test_an_item_is_found_by_its_own_vector() -> None:
    space, rows = space_of()
    space.offer("one", ["a", "b", "c"], vectors(1, 2, 3))
    assert space.search(vectors(1)[0], 3)[0].tolist() == [], "not before the refresh"
    space.refresh(rows)
    assert [nearest(space, rows, seed)[0] for seed in (1, 2, 3)] == ["a", "b", "c"]
    assert space.search(vectors(2)[0], 1)[1][0] == pytest.approx(1.0, abs=1e-3)


def test_a_changed_text_takes_the_place_of_the_old_one() -> None:
    space, rows = space_of()
    for seed in (1, 2):
        space.offer("one", ["a"], vectors(seed))
        space.refresh(rows)
    found, has = space.of(np.array([rows("a")]))
    assert has.tolist() == [True]
    assert found[0] == pytest.approx(vectors(2)[0], abs=1e-3)
    assert len(space.index) == 1


def test_of_two_offers_before_a_refresh_the_newer_one_counts() -> None:
    space, rows = space_of()
    space.offer("one", ["a", "b"], vectors(1, 3))
    space.offer("one", ["a"], vectors(2))
    space.refresh(rows)
    assert nearest(space, rows, 2)[0] == "a"
    assert space.search(vectors(2)[0], 1)[1][0] == pytest.approx(1.0, abs=1e-3)


def test_what_is_no_longer_sold_is_not_found_but_still_known() -> None:
    space, rows = space_of()
    space.offer("one", ["a", "b"], vectors(1, 2))
    space.refresh(rows)
    space.remove(["a", "never heard of"])
    space.refresh(rows)
    assert nearest(space, rows, 1) == ["b"]
    assert space.of(np.array([rows("a")]))[1].tolist() == [True]


def test_an_item_that_comes_back_is_found_again() -> None:
    space, rows = space_of()
    for seed in (1, 2):
        space.offer("one", ["a"], vectors(seed))
        space.remove(["a"])
        space.refresh(rows)
        assert nearest(space, rows, seed) == []
    space.remove(["a"])
    space.offer("one", ["a"], vectors(3))
    space.refresh(rows)
    assert nearest(space, rows, 3) == ["a"]


def test_items_without_a_vector_have_zeros() -> None:
    space, rows = space_of()
    space.offer("one", ["a"], vectors(1))
    space.refresh(rows)
    found, has = space.of(np.array([rows("a"), 1, 5_000]))
    assert has.tolist() == [True, False, False]
    assert not found[1:].any()


def test_a_space_that_outgrows_its_index_gets_another_kind_and_finds_the_same() -> None:
    space, rows = space_of(flat_until=300)
    kinds = []
    for start in range(0, 600, 100):
        space.offer("one", [f"i{n}" for n in range(start, start + 100)], vectors(*range(start, start + 100)))
        space.refresh(rows)
        kinds.append(type(space.index).__name__)
        assert len(space.index) == start + 100
    assert kinds == ["Flat"] * 3 + ["Ivf"] * 3
    found = [nearest(space, rows, seed, 1) == [f"i{seed}"] for seed in range(600)]
    assert np.mean(found) > 0.95


def test_what_was_removed_stays_away_when_the_index_is_built_anew() -> None:
    space, rows = space_of(flat_until=300)
    space.offer("one", [f"i{n}" for n in range(300)], vectors(*range(300)))
    space.refresh(rows)
    space.remove([f"i{n}" for n in range(50)])
    space.refresh(rows)
    space.offer("one", [f"i{n}" for n in range(300, 400)], vectors(*range(300, 400)))
    space.refresh(rows)
    assert type(space.index).__name__ == "Ivf"
    assert len(space.index) == 350
    assert all(nearest(space, rows, seed, 1) != [f"i{seed}"] for seed in range(50))


def test_a_full_index_is_not_built_anew_for_texts_that_change() -> None:
    space, rows = space_of(flat_until=300)
    space.offer("one", [f"i{n}" for n in range(310)], vectors(*range(310)))
    space.refresh(rows)
    built = space.index
    space.offer("one", [f"i{n}" for n in range(20)], vectors(*range(20)))
    space.refresh(rows)
    assert space.index is built


def test_only_what_is_allowed_is_found() -> None:
    space, rows = space_of()
    space.offer("one", ["a", "b", "c"], vectors(1, 2, 3))
    space.refresh(rows)
    found, _ = space.search(vectors(1)[0], 3, np.array([rows("b"), rows("c")]))
    assert {rows.ids[row] for row in found.tolist()} == {"b", "c"}
    assert space.search(vectors(1)[0], 3, np.zeros(0, np.int64))[0].tolist() == []


def test_nothing_offered_by_another_thread_during_a_refresh_is_lost() -> None:
    space, rows = space_of()

    def offer() -> None:
        for n in range(400):
            space.offer("one", [f"i{n}"], vectors(n))

    thread = threading.Thread(target=offer)
    thread.start()
    while thread.is_alive():
        space.refresh(rows)
    space.refresh(rows)
    assert len(space.index) == 400


def test_a_space_that_is_filled_is_as_one_that_got_its_vectors_bit_by_bit() -> None:
    for fields in ({}, {"flat_until": 20}):
        (bit, rows), (filled, _) = space_of(**fields), space_of(**fields)
        names, made = [f"i{n}" for n in range(50)], vectors(*range(50))
        bit.offer("one", names, made)
        bit.refresh(rows)
        places = np.arange(49, -1, -1)  # in whatever order
        filled.fill(np.array([rows(names[place]) for place in places]), made.astype(np.float16), places)
        filled.offer("one", ["i3"], vectors(99))
        filled.remove(["i4"])
        assert nearest(filled, rows, 99) == nearest(bit, rows, 99), "what was offered waits for the next look"
        for space in (bit, filled):
            space.offer("one", ["i3"], vectors(99))
            space.remove(["i4"])
            space.refresh(rows)
        for seed in (7, 99):
            assert nearest(filled, rows, seed) == nearest(bit, rows, seed)
        assert "i4" not in nearest(filled, rows, 4, 50)
        assert len(filled.index) == 49


def test_a_space_that_is_filled_with_nothing_is_empty() -> None:
    space, rows = space_of()
    space.fill(np.zeros(0, np.int64), np.zeros((0, 0), np.float16), np.zeros(0, np.int64))
    assert nearest(space, rows, 1) == []
