"""The one way in for events: what is accepted, as what, and every refusal with its reason."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.events import BEHAVIOUR, FEEDBACK, MAX_ITEMS, NAMES, WITHOUT_ITEMS, Event, Line, decode, encode, parse
from core.fields import MAX_ID, MAX_NESTING
from core.ids import DAY_MS, MINUTE_MS

NOW = 1_700_000_000_000
VIEW = {"name": "view_item", "user_id": "ann", "item_id": "tea", "ts": NOW}
PURCHASE = {
    "name": "purchase",
    "user_id": "ann",
    "ts": NOW,
    "transaction_id": "t1",
    "currency": "EUR",
    "items": [{"item_id": "tea", "quantity": 2, "price": 3.5}, {"item_id": "pot"}],
}

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), min_size=1, max_size=20)
plain = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | ids
)
free = st.dictionaries(ids.map(lambda key: "x_" + key), plain | st.lists(plain, max_size=3), min_size=1, max_size=3)
lines = st.fixed_dictionaries(
    {"item_id": ids},
    optional={
        "quantity": st.floats(0.001, 1e6),
        "price": st.floats(0, 1e6),
        "index": st.integers(0, 2_000),
    },
)


@st.composite
def raw_events(draw: st.DrawFn) -> dict[str, Any]:
    """Events that have to be accepted, of every name, with and without what is optional."""
    name = draw(st.sampled_from(sorted(NAMES)))
    most = 1 if name in ("view_item", "select_item", "rating", "like", "dislike", "hide") else 3
    least = 0 if name in WITHOUT_ITEMS else 1
    raw = {
        "name": name,
        "ts": draw(st.integers(0, (1 << 53) - 1)),
        "items": draw(st.lists(lines, min_size=least, max_size=most)),
        "rating": draw(st.floats(1, 5)),
        "search_term": draw(ids),
        "transaction_id": draw(ids),
        "currency": draw(st.sampled_from(["EUR", "usd", "XXX"])),
        draw(st.sampled_from(["user_id", "visitor_id"])): draw(ids),
    }
    optional = {"session_id": ids, "event_id": ids, "value": st.floats(-1e9, 1e9), "placement": ids, "attributes": free}
    return raw | draw(st.fixed_dictionaries({}, optional=optional)) | draw(st.just({}) | free)


def parsed_or_reason(raw: object) -> Event | str:
    try:
        return parse(raw)
    except BadInput as reason:
        return str(reason)


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


@given(raw_events())
def test_what_is_accepted_comes_back_from_a_topic_as_it_was(raw: dict[str, Any]) -> None:
    event = parse(raw)
    assert decode(encode(event)) == [event]
    assert parse(msgspec.json.decode(encode(event))) == event


@given(raw_events())
def test_a_record_of_a_shop_is_read_as_its_request_would_be(raw: dict[str, Any]) -> None:
    record = msgspec.json.encode(raw)
    assert decode(record) == [parse(msgspec.json.decode(record))]


@given(st.lists(raw_events(), max_size=5))
def test_a_packed_record_holds_the_events_in_order(raws: list[dict[str, Any]]) -> None:
    events = [parse(raw) for raw in raws]
    assert decode(b"[" + b",".join(encode(event) for event in events) + b"]") == events


@given(raw_events(), st.randoms(use_true_random=False))
def test_a_derived_id_depends_on_the_content_and_not_on_its_order(raw: dict[str, Any], random: Any) -> None:
    keys = list(raw)
    random.shuffle(keys)
    event = parse(without(raw, "event_id"))
    assert parse({key: raw[key] for key in keys if key != "event_id"}).event_id == event.event_id
    assert parse(raw | {"event_id": None, "ts": (raw["ts"] + 1) % (1 << 53)}).event_id != event.event_id


@given(st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ids, inner, max_size=4)))
def test_any_json_is_an_event_or_a_reason(value: Any) -> None:
    for candidate in (value, VIEW | {"attributes": value}, VIEW | {"items": value}, VIEW | {"ts": value}):
        outcome = parsed_or_reason(candidate)
        assert isinstance(outcome, str) or decode(encode(outcome)) == [outcome]


@given(st.dictionaries(st.sampled_from(Event.__struct_fields__), plain, min_size=1))
def test_any_value_in_a_known_field_is_taken_or_refused(wrong: dict[str, Any]) -> None:
    outcome = parsed_or_reason(PURCHASE | wrong)
    assert isinstance(outcome, str) or decode(encode(outcome)) == [outcome]


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_reasons_or_not_json(value: bytes) -> None:
    try:
        found = decode(value)
    except BadInput:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            msgspec.json.decode(value)
    else:
        assert all(isinstance(one, Event | BadInput) for one in found)


def test_a_derived_id_never_changes() -> None:
    assert parse(VIEW).event_id == "h-62bd63946301e3a419e2"
    assert parse(PURCHASE | {"colour": "green"}).event_id == "h-27cd3d133d69ef648e0e"


@pytest.mark.parametrize(
    "same",
    [
        without(VIEW, "item_id") | {"items": ["tea"]},
        without(VIEW, "item_id") | {"items": [{"item_id": "tea", "name": "Tea"}]},
        without(VIEW, "ts") | {"timestamp_micros": NOW * 1_000},
        without(VIEW, "ts") | {"timestamp_micros": str(NOW * 1_000 + 999)},
        without(VIEW, "ts") | {"timestamp": "2023-11-14T22:13:20Z"},
        without(VIEW, "ts") | {"timestamp": "2023-11-14T23:13:20.000+01:00"},
        VIEW | {"visitor_id": None, "event_id": "", "attributes": {}, "session_id": ""},
    ],
)
def test_ways_of_saying_the_same_have_one_id(same: dict[str, Any]) -> None:
    assert parse(same) == parse(VIEW)


def test_what_is_left_out_has_its_default() -> None:
    event = parse(VIEW)
    assert event == Event(name="view_item", event_id=event.event_id, ts=NOW, user_id="ann", items=(Line("tea"),))
    assert (event.v, event.items[0].quantity, event.items[0].price, event.attributes) == (1, 1.0, None, None)


def test_numbers_are_taken_as_ids() -> None:
    event = parse(VIEW | {"user_id": 7, "item_id": 12, "session_id": 3})
    assert (event.user_id, event.items[0].item_id, event.session_id) == ("7", "12", "3")


def test_what_we_do_not_know_is_kept_as_attributes() -> None:
    event = parse(VIEW | {"colour": "green", "attributes": {"size": 3}})
    assert event.attributes == {"size": 3, "colour": "green"}
    stored = msgspec.json.encode(msgspec.to_builtins(event) | {"page": "/tea"})
    assert [one.attributes for one in decode(stored) if isinstance(one, Event)] == [
        {"size": 3, "colour": "green", "page": "/tea"}
    ]


def test_the_user_goes_before_the_visitor() -> None:
    assert parse(VIEW | {"visitor_id": "v"}).shopper == "ann"
    assert parse(without(VIEW, "user_id") | {"visitor_id": "v"}).shopper == "v"


def test_every_name_has_its_topic() -> None:
    assert {parse(complete(name)).topic for name in BEHAVIOUR} == {"clickstream"}
    assert {parse(complete(name)).topic for name in FEEDBACK} == {"feedback"}


def complete(name: str) -> dict[str, Any]:
    return VIEW | {"name": name, "transaction_id": "t", "currency": "EUR", "rating": 4, "search_term": "green tea"}


def test_an_event_without_a_time_happened_when_it_was_received() -> None:
    assert parse(without(VIEW, "ts"), received_ms=5).ts == 5
    assert parse(VIEW, received_ms=5).ts == NOW


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "view"}, "unknown event name 'view'; known names are view_item_list, .*satisfaction"),
        ({"name": None}, "needs a name"),
        ({"name": ["view_item"]}, "name must be a string .*got list"),
        ({"user_id": None}, "view_item needs a user_id or a visitor_id"),
        ({"user_id": ""}, "view_item needs a user_id or a visitor_id"),
        ({"user_id": "u" * (MAX_ID + 1)}, rf"user_id is longer than {MAX_ID} characters \({MAX_ID + 1}\)"),
        ({"user_id": 1.5}, "user_id must be a string, got float"),
        ({"user_id": True}, "user_id must be a string, got bool"),
        ({"item_id": None}, "view_item needs an item_id"),
        ({"item_id": ""}, "view_item needs an item_id"),
        ({"item_id": ["tea"]}, "item_id must be a string, got list"),
        ({"item_id": "\x1fcategory:Tea"}, r"item_id must not begin with a control character, got '.x1fcategory:Tea'"),
        ({"items": []}, "view_item needs an item_id"),
        ({"items": ["tea", "pot"]}, "view_item is about one item, got 2"),
        ({"items": "tea"}, "items must be an array, got str"),
        ({"items": [{"quantity": 1}]}, r"items\[0\] has no item_id"),
        ({"name": "add_to_cart", "items": ["tea", None]}, r"items\[1\] has no item_id"),
        (
            {"name": "add_to_cart", "items": ["tea"] * (MAX_ITEMS + 1)},
            f"at most {MAX_ITEMS} items, got {MAX_ITEMS + 1}",
        ),
        ({"quantity": 0}, "quantity of 'tea' must be above 0, got 0"),
        ({"quantity": -1}, "quantity of 'tea' must be above 0, got -1"),
        ({"quantity": float("nan")}, "quantity of 'tea' must be above 0, got nan"),
        ({"quantity": "1"}, "view_item: Expected `float`, got `str`"),
        ({"price": -0.5}, "price of 'tea' must be 0 or more, got -0.5"),
        ({"price": 10**400}, "view_item: Number out of range"),
        ({"index": -1}, "index of 'tea' must be a place counted from 0, got -1"),
        ({"value": float("inf")}, "value must be a number, got inf"),
        ({"ts": None}, "ts must be milliseconds since 1970 as a whole number, got None"),
        ({"ts": -1}, "ts must be milliseconds .*got -1"),
        ({"ts": 1 << 53}, "ts must be milliseconds .*got 9007199254740992"),
        ({"ts": 1.5}, "ts must be milliseconds .*got 1.5"),
        ({"ts": True}, "ts must be milliseconds .*got True"),
        ({"ts": str(NOW)}, "ts must be milliseconds .*got '1700000000000'"),
        ({"ts": None, "timestamp_micros": -1}, "timestamp_micros must be microseconds .*got -1"),
        ({"ts": None, "timestamp_micros": "²"}, "timestamp_micros must be microseconds .*got '²'"),
        ({"ts": None, "timestamp_micros": "9" * 5_000}, "timestamp_micros must be microseconds .*got '9999"),
        ({"ts": None, "timestamp": "yesterday"}, "timestamp must be ISO 8601, got 'yesterday'"),
        ({"ts": None, "timestamp": NOW}, "timestamp must be ISO 8601, got 1700000000000"),
        ({"ts": None, "timestamp": "2023-11-14T22:13:20"}, "timestamp needs an offset"),
        ({"attributes": ["green"]}, "attributes must be an object, got list"),
        ({"attributes": {"x": json.loads("[" * 20 + "]" * 20)}}, f"nested deeper than {MAX_NESTING} levels"),
        ({"v": 2}, "events of version 1 are known, got v 2"),
        ({"name": "rating"}, "rating needs a rating from 1 to 5, got None"),
        ({"name": "rating", "rating": 6}, "rating needs a rating from 1 to 5, got 6"),
        ({"name": "satisfaction", "rating": 0.5}, "satisfaction needs a rating from 1 to 5, got 0.5"),
        ({"name": "search"}, "search needs a search_term of 1 to 1000 characters, got 0"),
        ({"name": "search", "search_term": "t" * 1_001}, "characters, got 1001"),
        ({"name": "refund"}, "refund needs a transaction_id"),
        ({"name": "purchase", "currency": "EUR"}, "purchase needs a transaction_id"),
        ({"name": "purchase", "transaction_id": "t"}, "needs a currency of three letters .*got None"),
        ({"name": "purchase", "transaction_id": "t", "currency": "euro"}, "needs a currency .*got 'euro'"),
        ({"name": "purchase", "transaction_id": "t", "currency": "12€"}, "needs a currency .*got '12€'"),
    ],
)
def test_a_refusal_says_what_was_got_and_wanted(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        parse(VIEW | change)


@pytest.mark.parametrize("raw", [None, 5, "view_item", [VIEW]])
def test_what_is_no_object_is_no_event(raw: object) -> None:
    with pytest.raises(BadInput, match="an event is a JSON object, got"):
        parse(raw)


@pytest.mark.parametrize("name", sorted(WITHOUT_ITEMS))
def test_some_events_need_no_item(name: str) -> None:
    assert parse(without(complete(name), "item_id")).items == ()
    assert parse(complete(name) | {"item_id": None}).items == ()
    assert parse(complete(name)).items == (Line("tea"),)


def test_events_of_the_last_thirty_days_are_accepted() -> None:
    assert parse(VIEW, now_ms=NOW + 30 * DAY_MS).ts == NOW
    with pytest.raises(BadInput, match=r"view_item is 40\.0 days old; at most 30 days"):
        parse(VIEW, now_ms=NOW + 40 * DAY_MS)


def test_a_clock_may_be_ten_minutes_ahead() -> None:
    assert parse(VIEW, now_ms=NOW - 10 * MINUTE_MS).ts == NOW
    with pytest.raises(BadInput, match="view_item lies 11 minutes ahead"):
        parse(VIEW, now_ms=NOW - 11 * MINUTE_MS)


def test_recorded_events_are_as_old_as_they_are() -> None:
    assert parse(VIEW | {"ts": 1}).ts == 1


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"\xff",
        b'{"name": "\xff"}',
        b'{"name": 1',
        b'{"name": "view_item", "ts": 1e999}',
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"attributes": ' + b"[" * 100_000,
        b'{"user_id": 1' + b"0" * 5_000 + b"}",
        None,
    ],
)
def test_a_record_that_is_not_json_is_refused_whole(record: Any) -> None:
    with pytest.raises(BadInput, match="not JSON"):
        decode(record)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"null", "JSON object, got NoneType"),
        (b"5", "JSON object, got int"),
        (b'"view_item"', "JSON object, got str"),
        (b"[[]]", "JSON object, got list"),
        (b"{}", "needs a name"),
    ],
)
def test_json_that_is_no_event_is_refused_with_a_reason(record: bytes, reason: str) -> None:
    (got,) = decode(record)
    assert isinstance(got, BadInput)
    assert reason in str(got)


def test_one_bad_event_of_a_packed_record_is_refused_alone() -> None:
    packed = [VIEW, VIEW | {"name": "view"}, VIEW | {"item_id": "pot"}, 5]
    first, second, third, fourth = decode(json.dumps(packed).encode())
    assert (first, third) == (parse(VIEW), parse(VIEW | {"item_id": "pot"}))
    assert isinstance(second, BadInput)
    assert isinstance(fourth, BadInput)


@pytest.mark.parametrize(
    "change",
    [
        {"ts": -1},
        {"ts": 1 << 53},
        {"user_id": "u" * (MAX_ID + 1)},
        {"items": [{"item_id": "i" * (MAX_ID + 1)}]},
        {"items": [{"item_id": ""}]},
        {"items": [{"item_id": "\x1fcategory:Tea"}]},
        {"items": [{"item_id": "tea"}] * (MAX_ITEMS + 1), "name": "add_to_cart"},
        {"attributes": {"x": json.loads("[" * 20 + "]" * 20)}},
        {"v": 2},
    ],
)
def test_a_record_in_our_own_form_is_held_to_the_same_rules(change: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(parse(VIEW)) | change
    (got,) = decode(json.dumps(raw).encode())
    assert isinstance(got, BadInput)


def test_an_empty_id_in_our_own_form_is_derived_like_any_other() -> None:
    raw = msgspec.to_builtins(parse(VIEW)) | {"event_id": "", "session_id": ""}
    assert decode(json.dumps(raw).encode()) == [parse(VIEW)]
