from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from core.catalogue import Item
from core.errors import Unavailable
from core.settings import IndexSettings
from gateway import filling as filling_module
from gateway.filling import Brought, Filler, Filling
from ranker.space import Space
from tests.gateway.words import COLOURS, THINGS, Words
from tests.ranker.tiny import DIM, vector_of


class Side(NamedTuple):
    """A space, who encodes for it, and what fills it."""

    words: Words
    filling: Filling


class Shop:
    """Spaces that are filled, under a clock that is set by hand. Whoever asks takes in what was offered."""

    def __init__(self, patience_s: float = 0.0) -> None:
        self.now = 100.0
        self.filler = Filler(patience_s, lambda: self.now)
        self.rows: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.filler.run, args=(self._stopping,))

    def space(self, name: str, *, ready: bool = True) -> Side:
        words = Words(name)
        filling = Filling(Space(name, DIM, IndexSettings()), words.embedder())
        self.filler.add(filling)
        self.filler.begin(filling)
        if ready:
            self.filler.end(filling)
        return Side(words, filling)

    def sold(self, title: str, text_ts: int = 1, name: str = "") -> Item:
        item = Item(item_id=name or title, since=1, ts=text_ts, text_ts=text_ts, title=title)
        self.filler.note(item.item_id, item)
        return item

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self.filler.wake()
        if self._thread.ident is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()

    def near(self, side: Side, words: str, count: int = 1) -> list[str]:
        side.filling.space.refresh(lambda item: self.rows.setdefault(item, len(self.rows)))
        names = {row: name for name, row in self.rows.items()}
        return [names[row] for row in side.filling.space.search(vector_of(words), count)[0].tolist()]


@pytest.fixture
def shop() -> Iterator[Shop]:
    found = Shop()
    yield found
    found.stop()


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to pass in time")


def brought(item_id: str, words: str, text_ts: int = 1) -> Brought:
    return Brought(item_id, text_ts, vector_of(words))


def test_a_new_item_gets_a_vector_in_every_space_that_is_warm(shop: Shop) -> None:
    colours, things = shop.space(COLOURS), shop.space(THINGS)
    shop.start()
    shop.sold("red tea")
    shop.sold("old bike")
    eventually(lambda: not shop.filler.waiting)
    assert (shop.near(colours, "red"), shop.near(things, "bike")) == (["red tea"], ["old bike"])
    assert colours.words.encoded == things.words.encoded == ["red tea", "old bike"]


def test_while_a_space_is_made_ready_all_spaces_leave_the_cores_to_the_requests(shop: Shop) -> None:
    colours, things = shop.space(COLOURS), shop.space(THINGS, ready=False)
    shop.start()
    shop.sold("red tea")
    eventually(lambda: not shop.filler.waiting)
    assert colours.words.aside_too == things.words.aside_too == ["red tea"]
    shop.filler.end(things.filling)
    shop.sold("old bike")
    eventually(lambda: not shop.filler.waiting)
    assert colours.words.encoded == things.words.encoded == ["red tea", "old bike"]
    assert colours.words.aside_too == things.words.aside_too == ["red tea"]


def test_a_space_that_was_let_go_gets_nothing_more(shop: Shop) -> None:
    colours, things = shop.space(COLOURS), shop.space(THINGS)
    shop.filler.keep([things.filling])
    shop.start()
    shop.sold("red tea")
    eventually(lambda: not shop.filler.waiting)
    assert (colours.words.encoded, things.words.encoded) == ([], ["red tea"])
    shop.filler.take(COLOURS, [brought("red tea", "red")])  # a worker that has not turned yet
    assert shop.near(colours, "red") == []


def test_a_text_that_changes_while_it_is_encoded_is_encoded_again_and_its_old_vector_is_not_kept(shop: Shop) -> None:
    things = shop.space(THINGS)
    things.words.may.clear()
    shop.sold("red tea", name="i")
    shop.start()
    shop.sold("red bike", 2, name="i")
    things.words.may.set()
    eventually(lambda: not shop.filler.waiting)
    assert things.filling.has == {"i": 2}
    assert float(np.abs(things.filling.space.of(np.array([0]))[0]).sum()) == 0.0  # before it is looked at
    assert shop.near(things, "bike") == ["i"]
    vectors, _ = things.filling.space.of(np.array([shop.rows["i"]]))
    assert vectors[0] == pytest.approx(vector_of("bike"), abs=1e-3)


def test_an_item_that_goes_while_it_is_encoded_does_not_come_back(shop: Shop) -> None:
    things = shop.space(THINGS)
    things.words.may.clear()
    shop.sold("red tea")
    shop.start()
    shop.filler.note("red tea", None)
    things.words.may.set()
    shop.sold("old bike")
    eventually(lambda: not shop.filler.waiting)
    assert shop.near(things, "tea", 5) == ["old bike"]


def test_an_item_that_goes_while_a_space_is_filled_is_not_in_it(shop: Shop) -> None:
    things = shop.space(THINGS, ready=False)
    item = Item(item_id="red tea", since=1, ts=1, text_ts=1, title="red tea")
    shop.filler.note("red tea", None)
    shop.filler.stock(things.filling, [item])
    assert shop.filler.waiting == 0, "the catalogue was copied before it went"
    things.filling.space.fill(np.array([0]), vector_of("tea")[None], np.array([0]))
    shop.rows["red tea"] = 0
    shop.filler.end(things.filling)
    assert shop.near(things, "tea") == []


def test_what_a_worker_is_at_is_left_to_it_for_a_while(shop: Shop) -> None:
    shop = Shop(patience_s=2.0)
    try:
        things = shop.space(THINGS)
        first, second = shop.sold("red tea"), shop.sold("old bike")
        assert shop.filler._ripe(things.filling) == []
        shop.now += 2.5
        assert shop.filler._ripe(things.filling) == [first, second]
        shop.filler.take(THINGS, [brought("red tea", "tea")])
        assert shop.filler._ripe(things.filling) == [], "a worker is at it"
        assert shop.filler.waiting == 1
        shop.now += 2.5
        assert shop.filler._ripe(things.filling) == [second]
    finally:
        shop.stop()


def test_a_vector_of_an_older_text_than_the_one_that_is_there_changes_nothing(shop: Shop) -> None:
    things = shop.space(THINGS)
    shop.sold("red tea", 5)
    shop.filler.take(THINGS, [brought("red tea", "kettle", 4)])
    assert shop.filler.waiting == 1, "better than none, but not what is wanted"
    assert shop.near(things, "kettle") == ["red tea"]
    shop.filler.take(THINGS, [brought("red tea", "tea", 5)])
    shop.filler.take(THINGS, [brought("red tea", "kettle", 4)])
    shop.near(things, "tea")
    assert shop.filler.waiting == 0
    assert things.filling.space.of(np.array([0]))[0][0] == pytest.approx(vector_of("tea"), abs=1e-3)


def test_an_encoder_that_fails_before_its_space_is_ready_stops_nothing_else(shop: Shop) -> None:
    colours, things = shop.space(COLOURS), shop.space(THINGS, ready=False)
    things.words.broken = True
    shop.sold("red tea")
    shop.start()
    eventually(lambda: things.filling.failure is not None)
    eventually(lambda: colours.words.encoded == ["red tea"])


def test_what_cannot_be_reached_now_is_tried_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    things, failed = shop.space(THINGS), list[Any]()
    vectors = things.words.vectors

    def once(items: list[Item]) -> Any:
        if not failed:
            failed.append(items)
            raise Unavailable("the cache is locked")
        return vectors(items)

    monkeypatch.setattr(filling_module, "REST_S", 0.0)
    monkeypatch.setattr(things.words, "vectors", once)
    shop.sold("red tea")
    shop.start()
    eventually(lambda: not shop.filler.waiting)
    assert len(failed) == 1
