import msgspec

from core.catalogue import parse_change
from streams.catalogue import Entry, upsert
from tests.factories import T, World, event, item


def test_an_upsert_is_published_as_the_whole_item() -> None:
    world = World().take(item("tea", ts=T, price=3), parse_change({"item_id": "tea", "ts": T + 1, "price": 4}))
    (_, _, first), (topic, key, second) = [told for told in world.published if told[0] == "catalogue"]
    assert (topic, key) == ("catalogue", "tea")
    assert (first.price, second.price, second.title) == (3.0, 4.0, "The tea")
    assert (second.since, second.ts) == (T, T + 1)


def test_a_removal_is_published_as_nothing_and_leaves_nothing_stored() -> None:
    world = World().take(item("tea", ts=T))
    world.stored()
    world.take(parse_change({"item_id": "tea", "ts": T + 1, "removed": True}))
    assert world.published[-1] == ("catalogue", "tea", None)
    assert world.stored()["catalogue"] == {b"tea": None}


def test_a_change_that_is_older_than_what_stands_says_nothing() -> None:
    entry, _ = upsert(Entry(), item("tea", ts=T))
    for late in (item("tea", ts=T - 1, price=9), parse_change({"item_id": "tea", "ts": T - 1, "removed": True})):
        assert upsert(entry, late) == (entry, ())
        assert upsert(entry, late)[0] is entry


def test_removing_what_was_never_sold_says_nothing() -> None:
    world = World().take(parse_change({"item_id": "tea", "ts": T, "removed": True}))
    assert world.published == []


def test_what_needs_a_new_vector_is_told_by_the_time_of_its_text() -> None:
    entry, _ = upsert(Entry(), item("tea", ts=T))
    dearer, _ = upsert(entry, parse_change({"item_id": "tea", "ts": T + 1, "price": 4}))
    renamed, _ = upsert(dearer, parse_change({"item_id": "tea", "ts": T + 2, "title": "Tea"}))
    assert [one.item.text_ts for one in (entry, dearer, renamed) if one.item] == [T, T, T + 2]


def test_an_item_that_nobody_described_is_not_in_the_catalogue() -> None:
    world = World().take(event("view_item", "tea"))
    assert world.state("catalogue", "tea") == Entry()
    assert "tea" in [key for topic, key, _ in world.published if topic == "item-stats"]


def test_an_entry_comes_back_from_msgpack_as_it_was() -> None:
    for entry in (Entry(), upsert(Entry(), item("tea", attributes={"size": ["s", "m"], "eco": True}))[0]):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Entry) == entry
