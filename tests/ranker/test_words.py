from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Item
from core.ids import hash64
from core.stats import Counter, ItemStats
from ranker.words import BUCKETS, Words


def sold(title: str, **fields: object) -> Item:
    return Item(item_id=title, since=0, ts=0, title=title, **fields)  # type: ignore[arg-type]


def bought(times: float) -> ItemStats:
    return ItemStats(counters={"buy": Counter(ts=0, total=times, faded=())})


def bucket(word: str) -> int:
    return hash64(word) % BUCKETS


def filled(*items: Item) -> Words:
    words = Words()
    words.grow(len(items) + 1)
    for row, one in enumerate(items):
        words.put(row, one)
    return words


def rows(*given: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(given, np.int64)


def test_words_are_those_of_title_brand_and_categories_once_each() -> None:
    words = filled(sold("Red tea-cup, RED!", brand="Ilse", categories=("Kitchen > Tea",)))
    wanted = {bucket(one) for one in ("red", "tea", "cup", "=ilse", "/kitchen", "/kitchen > tea")}
    assert set(words.single.of[0].tolist()) == wanted | {-1}
    assert set(words.pairs.of[0].tolist()) == {bucket(one) for one in ("red tea", "tea cup", "cup red")} | {-1}


def test_a_word_that_one_item_has_tells_nothing() -> None:
    words = filled(sold("red cup"), sold("red hat"))
    buckets, known = words.single.telling(rows(0, 1, 2))
    assert [set(mine[there].tolist()) for mine, there in zip(buckets, known, strict=True)] == [
        {bucket("red")}, {bucket("red")}, set(),
    ]  # fmt: skip


def test_what_is_rarer_weighs_more() -> None:
    words = filled(sold("red cup"), sold("red hat"), sold("blue hat"), sold("red bag"))
    red, hat = words.single.rarity(np.array([bucket("red"), bucket("hat")]))
    assert hat > red > 0


def test_a_word_was_taken_as_often_as_its_items_by_whatever_way_they_came() -> None:
    words = filled(sold("red cup"), sold("red hat"))
    words.count(0, bought(2))
    words.count(1, bought(1))
    words.count(0, bought(5))
    assert [words.single.taken[bucket(one)] for one in ("red", "cup", "hat")] == [36, 30, 6]
    words.put(0, sold("blue cup"))
    assert [words.single.taken[bucket(one)] for one in ("red", "blue", "cup")] == [6, 30, 30]
    assert words.single.whole == words.single.taken.sum()


TITLES = st.lists(st.sampled_from(["red", "blue", "cup", "hat", "of"]), max_size=5).map(" ".join)
CHANGES = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(TITLES.map(sold), st.integers(1, 9).map(float).map(bought))), max_size=20
)


@given(CHANGES)
def test_only_how_things_stand_now_matters(changes: list[tuple[int, Item | ItemStats]]) -> None:
    words, last = filled(), dict[tuple[int, type], Item | ItemStats]()
    words.grow(4)
    for row, change in changes:
        last[row, type(change)] = change
        if isinstance(change, Item):
            words.put(row, change)
        else:
            words.count(row, change)
    fresh = filled()
    fresh.grow(4)
    for (row, _), change in last.items():
        if isinstance(change, Item):
            fresh.put(row, change)
        else:
            fresh.count(row, change)
    for mine, theirs in ((words.single, fresh.single), (words.pairs, fresh.pairs)):
        np.testing.assert_array_equal(mine.of, theirs.of)
        np.testing.assert_array_equal(mine.having, theirs.having)
        np.testing.assert_array_equal(mine.taken, theirs.taken)
        assert (mine.items, mine.whole) == (theirs.items, theirs.whole)
