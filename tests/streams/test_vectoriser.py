from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from core.catalogue import Item
from streams import vectoriser
from streams.batch import Write
from streams.vectoriser import AT_ONCE, Vectoriser
from streams.wire import ItemVector, decoders


class Encoder:
    """Two numbers a text; notes what it was asked."""

    def __init__(self, space_id: str = "space") -> None:
        self.space_id = space_id
        self.asked: list[list[str]] = []
        self.failures = 0

    def vectors(self, items: Sequence[Item]) -> NDArray[np.float32]:
        self.asked.append([one.item_id for one in items])
        if self.failures:
            self.failures -= 1
            raise OSError("out of memory")
        return np.array([[len(one.title), one.text_ts] for one in items], np.float32)


class Shop:
    """A vectoriser, what it published, and the table that it leaves."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.published, self.table = encoder, list[Write](), dict[tuple[int, bytes], bytes]()
        self.owned = True
        self.meanwhile: Callable[[], None] = lambda: None
        self.vectoriser = Vectoriser(encoder, lambda partition, key: self.table.get((partition, key)), self._publish)

    async def _publish(self, writes: Sequence[Write]) -> bool:
        self.meanwhile()
        if not self.owned:
            return False
        self.published += writes
        self.table |= {(one.partition, one.key.encode()): one.stored for one in writes}
        return True

    def work(self, rounds: int = 1) -> None:
        """So many looks at what waits."""
        left = [rounds]

        def stopping() -> bool:
            left[0] -= 1
            return left[0] < 0

        asyncio.run(self.vectoriser.work(stopping))


def pot(text_ts: int = 5, title: str = "Pot", name: str = "pot") -> Item:
    return Item(item_id=name, since=1, ts=text_ts, text_ts=text_ts, title=title)


def vector(write: Write) -> tuple[int, ItemVector]:
    assert write.published is not None
    assert write.published.value is not None
    found: tuple[int, ItemVector] = decoders()["item-vectors"].decode(write.published.value)
    return found


def test_a_new_text_gets_its_vector_once() -> None:
    shop = Shop(Encoder())
    shop.vectoriser.note(2, "pot", pot())
    shop.work()
    shop.vectoriser.note(2, "pot", pot())
    assert shop.encoder.asked == [["pot"]]
    (write,) = shop.published
    version, found = vector(write)
    assert (version, found.space_id, found.text_ts) == (5, "space", 5)
    assert np.frombuffer(found.vector, "<f4").tolist() == [3.0, 5.0]
    assert (write.partition, write.published.partition if write.published else None) == (2, 2)
    assert (shop.vectoriser.encoded, shop.vectoriser.waiting) == (1, 0)


def test_a_text_that_another_worker_has_encoded_is_not_encoded_again() -> None:
    first = Shop(Encoder())
    first.vectoriser.note(0, "pot", pot())
    first.work()
    second = Shop(Encoder())
    second.table = first.table
    second.vectoriser.note(0, "pot", pot())
    assert second.vectoriser.waiting == 0


@pytest.mark.parametrize(("space", "text_ts"), [("another", 5), ("space", 6)])
def test_another_text_or_another_space_is_encoded(space: str, text_ts: int) -> None:
    first = Shop(Encoder())
    first.vectoriser.note(0, "pot", pot())
    first.work()
    second = Shop(Encoder(space))
    second.table = first.table
    second.vectoriser.note(0, "pot", pot(text_ts))
    second.work()
    assert vector(second.published[0])[1].space_id == space
    assert second.encoder.asked == [["pot"]]


def test_an_item_that_is_sold_no_more_loses_its_vector_and_nothing_is_encoded() -> None:
    shop = Shop(Encoder())
    shop.vectoriser.note(0, "pot", pot())
    shop.work()
    shop.vectoriser.note(0, "pot", None)
    shop.work()
    assert shop.published[-1].published is not None
    assert shop.published[-1].published.value is None
    shop.vectoriser.note(0, "never", None)
    assert shop.vectoriser.waiting == 0
    shop.vectoriser.note(0, "pot", pot())
    shop.work()
    assert shop.encoder.asked == [["pot"], ["pot"]]


def test_what_could_not_be_published_is_tried_again() -> None:
    shop = Shop(Encoder())
    shop.owned = False
    shop.vectoriser.note(0, "pot", pot())
    shop.work()
    assert (shop.vectoriser.waiting, shop.vectoriser.encoded) == (1, 0)
    shop.owned = True
    shop.work()
    assert (shop.vectoriser.waiting, len(shop.published)) == (0, 1)


def test_a_failing_encoder_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectoriser, "REST_S", 0.0)
    shop = Shop(Encoder())
    shop.encoder.failures = 1
    shop.vectoriser.note(0, "pot", pot())
    shop.work(2)
    assert (len(shop.encoder.asked), len(shop.published)) == (2, 1)


def test_a_text_that_changed_while_the_old_one_was_encoded_is_encoded_too() -> None:
    shop = Shop(Encoder())
    shop.vectoriser.note(0, "pot", pot(5))

    def change() -> None:
        shop.meanwhile = lambda: None
        shop.vectoriser.note(0, "pot", pot(6, "Teapot"))

    shop.meanwhile = change
    shop.work(2)
    assert [vector(one)[1].text_ts for one in shop.published] == [5, 6]


def test_many_are_encoded_in_portions() -> None:
    shop = Shop(Encoder())
    for n in range(AT_ONCE + 3):
        shop.vectoriser.note(0, f"i{n}", pot(name=f"i{n}"))
    shop.work(2)
    assert [len(some) for some in shop.encoder.asked] == [AT_ONCE, 3]
    assert len(shop.published) == AT_ONCE + 3


def test_nothing_waits_after_partitions_have_changed_hands() -> None:
    shop = Shop(Encoder())
    shop.vectoriser.note(0, "pot", pot())
    shop.vectoriser.forget()
    assert shop.vectoriser.waiting == 0


def test_the_table_says_which_text_has_a_vector() -> None:
    shop = Shop(Encoder())
    shop.vectoriser.note(0, "pot", pot(9))
    shop.work()
    assert vectoriser.had(shop.table[0, b"pot"]) == (9, "space")
    assert msgspec.msgpack.decode(shop.table[0, b"pot"])[0] == 9


def test_after_a_turn_to_another_space_all_that_is_noted_is_encoded_in_it() -> None:
    shop, things = Shop(Encoder("colours")), Encoder("things")
    shop.vectoriser.note(0, "pot", pot())
    shop.work()
    shop.vectoriser.turn_to(things)
    shop.vectoriser.note(0, "pot", pot())
    shop.work()
    assert [vector(one)[1].space_id for one in shop.published] == ["colours", "things"]
    assert vectoriser.had(shop.table[0, b"pot"]) == (5, "things")
    assert shop.vectoriser.waiting == 0


def test_a_turn_while_something_is_encoded_mixes_no_spaces_and_forgets_nothing() -> None:
    shop, things, item = Shop(Encoder("colours")), Encoder("things"), pot()

    def turn() -> None:
        shop.meanwhile = lambda: None
        shop.vectoriser.turn_to(things)
        shop.vectoriser.note(0, "pot", item)

    shop.meanwhile = turn
    shop.vectoriser.note(0, "pot", item)
    shop.work(2)
    assert shop.encoder.asked == things.asked == [["pot"]]
    assert [vector(one)[1].space_id for one in shop.published] == ["colours", "things"]
