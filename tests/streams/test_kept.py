from __future__ import annotations

import msgspec
import pytest

from core.catalogue import Item
from core.settings import Settings
from streams.catalogue import Entry
from streams.kept import ORIGINS, Cache, Kept, origin_of, stored, version_of
from streams.topology import build

CATALOGUE = next(stage for stage in build(Settings()) if stage.name == "catalogue")


class Shelf:
    """What is stored, and how often it was asked for."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int, bytes], bytes] = {}
        self.asked = 0

    def get(self, stage: str, partition: int, key: bytes) -> bytes | None:
        self.asked += 1
        return self.values.get((stage, partition, key))


def entry(name: str, price: float = 1.0) -> Entry:
    return Entry(1, Item(item_id=name, since=1, ts=1, price=price))


def value(name: str, version: int = 3) -> bytes:
    return stored(version, {origin_of("items", 1): (5, 0, 0)}, msgspec.Raw(msgspec.msgpack.encode(entry(name))))


def test_a_stored_value_comes_back_with_version_and_positions() -> None:
    shelf = Shelf()
    shelf.values["catalogue", 1, b"pot"] = value("pot")
    assert Cache(shelf, 10).get(("catalogue", 1, "pot"), CATALOGUE.empty) == Kept(
        3, {origin_of("items", 1): (5, 0, 0)}, entry("pot")
    )


def test_a_version_is_read_without_the_state() -> None:
    assert version_of(stored(7, {}, msgspec.Raw(msgspec.msgpack.encode("no entry of a catalogue")))) == 7
    assert version_of(value("pot", version=1 << 60)) == 1 << 60


def test_a_key_without_a_value_is_empty_and_is_asked_for_again() -> None:
    shelf = Shelf()
    cache = Cache(shelf, 10)
    assert cache.get(("catalogue", 0, "pot"), CATALOGUE.empty) == Kept(0, {}, CATALOGUE.empty)
    shelf.values["catalogue", 0, b"pot"] = value("pot")
    assert cache.get(("catalogue", 0, "pot"), CATALOGUE.empty).state == entry("pot")


def test_the_same_key_in_another_partition_is_another_one() -> None:
    shelf = Shelf()
    shelf.values["catalogue", 0, b"pot"] = value("pot")
    cache = Cache(shelf, 10)
    cache.get(("catalogue", 0, "pot"), CATALOGUE.empty)
    assert cache.get(("catalogue", 1, "pot"), CATALOGUE.empty).state == CATALOGUE.empty


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    shelf = Shelf()
    cache = Cache(shelf, 2)
    for name in "ab":
        cache.put(("catalogue", 0, name), Kept(1, {}, entry(name)))
    cache.get(("catalogue", 0, "a"), CATALOGUE.empty)
    cache.put(("catalogue", 0, "c"), Kept(1, {}, entry("c")))
    assert shelf.asked == 0
    assert cache.get(("catalogue", 0, "a"), CATALOGUE.empty).state == entry("a")
    assert shelf.asked == 0
    assert cache.get(("catalogue", 0, "b"), CATALOGUE.empty).state == CATALOGUE.empty
    assert shelf.asked == 1


def test_a_cache_that_is_cleared_reads_what_is_stored() -> None:
    shelf = Shelf()
    cache = Cache(shelf, 2)
    cache.put(("catalogue", 0, "pot"), Kept(9, {}, entry("pot", price=9.0)))
    shelf.values["catalogue", 0, b"pot"] = value("pot")
    cache.clear()
    assert cache.get(("catalogue", 0, "pot"), CATALOGUE.empty).state == entry("pot")


def test_every_partition_of_every_topic_has_a_number_of_its_own() -> None:
    numbers = {origin_of(topic, partition) for topic in ORIGINS for partition in (0, 1, 65_535)}
    assert len(numbers) == 3 * len(ORIGINS)
    with pytest.raises(ValueError, match="not in tuple"):
        origin_of("tea", 0)
