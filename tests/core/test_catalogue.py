"""Items merged from changes, in whatever order they arrive."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import MAX_TEXT, Item, ItemChange, apply_change, parse_change, path_and_parents
from core.errors import BadInput
from core.fields import MAX_ID
from core.ids import MINUTE_MS

TEA: dict[str, Any] = {"item_id": "tea", "ts": 100, "title": "Green tea", "price": 3.5, "categories": ["Drinks > Tea"]}

values = {
    "title": st.text(max_size=8),
    "description": st.text(max_size=8),
    "brand": st.sampled_from(["", "Ronnefeldt"]),
    "price": st.none() | st.floats(0, 100),
    "in_stock": st.booleans(),
    "categories": st.lists(st.sampled_from(["Drinks", "Drinks > Tea"]), max_size=2).map(tuple),
    "attributes": st.dictionaries(st.sampled_from("ab"), st.booleans() | st.text(max_size=3) | st.floats(0, 9)),
}
upserts = st.builds(
    lambda ts, fields: ItemChange(item_id="tea", ts=ts, **fields),
    st.integers(0, 20),
    st.fixed_dictionaries({}, optional=values),
)
changes = upserts | st.builds(lambda ts: ItemChange(item_id="tea", ts=ts, removed=True), st.integers(0, 20))


def item_of(*raw: dict[str, Any]) -> Item:
    item: Item | None = None
    for one in raw:
        item = apply_change(item, parse_change(one))
    assert item is not None
    return item


def test_a_first_upsert_makes_an_item_with_defaults() -> None:
    item = item_of(TEA)
    assert (item.item_id, item.since, item.ts, item.title, item.price) == ("tea", 100, 100, "Green tea", 3.5)
    assert (item.brand, item.in_stock, item.attributes, item.description) == ("", True, {}, "")


def test_an_upsert_touches_only_what_it_names() -> None:
    item = item_of(TEA, {"item_id": "tea", "ts": 200, "in_stock": False})
    assert (item.title, item.price, item.in_stock, item.since, item.ts) == ("Green tea", 3.5, False, 100, 200)


def test_the_last_of_two_upserts_wins_and_an_older_one_changes_nothing() -> None:
    later = {"item_id": "tea", "ts": 200, "title": "Sencha"}
    assert item_of(TEA, later).title == "Sencha"
    assert item_of(later, TEA) == item_of(later)
    assert item_of(TEA, TEA | {"title": "Same moment"}).title == "Same moment"


def test_a_price_can_be_taken_away() -> None:
    assert item_of(TEA, {"item_id": "tea", "ts": 200, "price": None}).price is None
    assert item_of(TEA, {"item_id": "tea", "ts": 200, "title": None}).title == "Green tea"


def test_a_removal_removes_unless_it_is_older() -> None:
    item = item_of(TEA)
    assert apply_change(item, parse_change({"item_id": "tea", "ts": 100, "removed": True})) is None
    assert apply_change(item, parse_change({"item_id": "tea", "ts": 99, "removed": True})) == item
    assert apply_change(None, parse_change({"item_id": "tea", "ts": 99, "removed": True})) is None


def test_an_item_that_comes_back_is_new() -> None:
    assert apply_change(None, parse_change(TEA | {"ts": 500})) == item_of(TEA | {"ts": 500})
    assert item_of(TEA | {"ts": 500}).since == 500


def test_the_text_is_as_old_as_its_last_change() -> None:
    priced = item_of(TEA, TEA | {"ts": 200, "price": 4})
    assert (priced.ts, priced.text_ts) == (200, 100)
    assert item_of(TEA, TEA | {"ts": 200, "brand": "Ronnefeldt"}).text_ts == 200
    assert item_of(TEA, TEA | {"brand": "Ronnefeldt"}).text_ts == 101
    always = TEA | {"ts": 0}
    assert item_of(always).text_ts != item_of(always, always | {"brand": "Ronnefeldt"}).text_ts


@given(st.lists(upserts, min_size=1, max_size=6))
def test_time_and_values_only_move_forward(several: list[ItemChange]) -> None:
    item: Item | None = None
    for change in several:
        before, item = item, apply_change(item, change)
        assert item is not None
        assert item.ts == max(change.ts, before.ts if before else 0)
        assert item.since <= item.ts
        assert before is None or change.ts >= before.ts or item == before


@given(st.lists(changes, max_size=6))
def test_a_repeated_change_changes_nothing(several: list[ItemChange]) -> None:
    once: Item | None = None
    twice: Item | None = None
    for change in several:
        once = apply_change(once, change)
        twice = apply_change(apply_change(twice, change), change)
    assert once == twice


@given(changes)
def test_a_change_comes_back_from_a_topic_as_it_was(change: ItemChange) -> None:
    assert msgspec.json.decode(msgspec.json.encode(change), type=ItemChange) == change
    assert parse_change(msgspec.json.decode(msgspec.json.encode(change))) == change
    item = apply_change(None, change)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(item), type=Item | None) == item


@pytest.mark.parametrize(
    ("given_as", "paths"),
    [
        ({"categories": ["Drinks > Tea", "Gifts"]}, ("Drinks > Tea", "Gifts")),
        ({"categories": [["Drinks", "Tea"], "Gifts"]}, ("Drinks > Tea", "Gifts")),
        ({"categories": "Drinks > Tea"}, ("Drinks > Tea",)),
        ({"category": "Drinks > Tea"}, ("Drinks > Tea",)),
        ({"category": ["Drinks", "Tea"]}, ("Drinks > Tea",)),
        ({"item_category": "Drinks"}, ("Drinks",)),
        ({"category": []}, ()),
        ({"category": ""}, ()),
        ({"categories": [""]}, ()),
    ],
)
def test_categories_are_paths_however_they_are_given(given_as: dict[str, Any], paths: tuple[str, ...]) -> None:
    assert parse_change({"item_id": "tea", "ts": 1} | given_as).categories == paths


@pytest.mark.parametrize(("word", "stock"), [("in stock", True), ("IN_STOCK", True), ("OUT_OF_STOCK", False)])
def test_availability_is_stock(word: str, stock: bool) -> None:
    assert parse_change({"item_id": "tea", "ts": 1, "availability": word}).in_stock is stock


def test_what_we_do_not_know_is_kept_as_attributes_of_simple_kinds() -> None:
    raw = {"organic": True, "grams": 250, "taste": ["fresh", 5], "origin": {"country": "JP"}, "huge": 10**400}
    change = parse_change({"item_id": "tea", "ts": 1, "attributes": {"colour": "green"}, "nothing": None} | raw)
    assert change.attributes == {
        "colour": "green",
        "organic": True,
        "grams": 250.0,
        "taste": ["fresh", "5"],
        "origin": '{"country":"JP"}',
        "huge": str(10**400),
    }
    assert msgspec.json.decode(msgspec.json.encode(change), type=ItemChange) == change


def test_numbers_that_json_cannot_hold_are_kept_as_text() -> None:
    change = parse_change({"item_id": "tea", "ts": 1, "a": float("nan"), "b": float("-inf")})
    assert change.attributes == {"a": "nan", "b": "-inf"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": None}, f"an item needs an item_id of 1 to {MAX_ID} characters"),
        ({"item_id": ""}, "an item needs an item_id"),
        ({"item_id": "i" * (MAX_ID + 1)}, "item_id is longer than"),
        ({"item_id": {}}, "item_id must be a string, got dict"),
        ({"item_id": "\x1fcategory:Tea"}, "item_id must not begin with a control character"),
        ({"v": 9}, "items of version 1 are known, got v 9"),
        ({"ts": None}, "ts must be milliseconds .*got None"),
        ({"ts": "today"}, "ts must be milliseconds .*got 'today'"),
        ({"title": 5}, "item 'tea': Expected `str`, got `int`"),
        ({"title": "t" * (MAX_TEXT + 1)}, rf"title is longer than {MAX_TEXT} characters \({MAX_TEXT + 1}\)"),
        ({"description": "t" * (MAX_TEXT + 1)}, "description is longer than"),
        ({"price": -1}, "item 'tea': price must be 0 or more, got -1"),
        ({"price": "3.50"}, "item 'tea': Expected `float | null`, got `str`"),
        ({"price": float("nan")}, "price must be 0 or more, got nan"),
        ({"in_stock": 1}, "item 'tea': Expected `bool`, got `int`"),
        ({"removed": "yes"}, "item 'tea': Expected `bool`, got `str`"),
        ({"categories": 5}, "categories must be a path or an array of paths, got int"),
        ({"categories": [5]}, "a category is a path or an array of names, got int"),
        ({"attributes": ["green"]}, "attributes must be an object, got list"),
    ],
)
def test_a_refusal_says_what_was_got_and_wanted(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason.replace("|", r"\|")):
        parse_change(TEA | change)


@pytest.mark.parametrize("raw", [None, 5, "tea", [TEA]])
def test_what_is_no_object_is_no_item(raw: object) -> None:
    with pytest.raises(BadInput, match="an item is a JSON object, got"):
        parse_change(raw)


def test_a_change_from_far_ahead_is_refused_where_it_is_now() -> None:
    assert parse_change(TEA, now_ms=100 - 10 * MINUTE_MS).ts == 100
    with pytest.raises(BadInput, match="item 'tea': ts lies 11 minutes ahead"):
        parse_change(TEA, now_ms=100 - 11 * MINUTE_MS)
    assert parse_change({"item_id": "tea"}, received_ms=7).ts == 7


def test_a_path_lies_in_the_wider_ones() -> None:
    assert path_and_parents("Drinks") == ["Drinks"]
    assert path_and_parents("A > B > C") == ["A", "A > B", "A > B > C"]
