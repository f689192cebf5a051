from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from core.catalogue import Item
from core.ids import DAY_MS, HOUR_MS
from tests.gateway.conftest import Client
from tests.gateway.fakes import NOW, Log, Shop

VIEW = {"name": "view_item", "visitor_id": "v", "item_id": "p01"}


def view(n: int, **fields: Any) -> dict[str, Any]:
    return {**VIEW, "event_id": f"e{n}", **fields}


@pytest.mark.parametrize("wrapped", [{"events": [view(1)]}, [view(1)], view(1)], ids=["envelope", "array", "one"])
def test_an_event_is_taken_in_each_of_three_wrappings(client: TestClient, log: Log, wrapped: Any) -> None:
    reply = client.post("/v1/events", json=wrapped)
    assert (reply.status_code, reply.json()) == (200, {"accepted": 1})
    assert [event.event_id for event in log.events_in] == ["e1"]


def test_the_time_of_arrival_stands_in_for_a_missing_time(client: TestClient, log: Log) -> None:
    client.post("/v1/events", json=[view(1), view(2, ts=NOW - 5)])
    assert [event.ts for event in log.events_in] == [NOW, NOW - 5]


def test_any_content_type_is_read_as_json(client: TestClient, log: Log) -> None:
    body = msgspec.json.encode(VIEW)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", ""):
        assert client.post("/v1/events", content=body, headers={"content-type": kind}).status_code == 200
    assert client.post("/v1/events", content=body).status_code == 200


def test_the_good_ones_are_accepted_beside_the_bad_ones(client: TestClient, log: Log) -> None:
    body = b'[{"name":"view_item","visitor_id":"v","item_id":"p01","event_id":"a"}, {"name":"stare","event_id":"b"}, 7]'
    reply = client.post("/v1/events", content=body)
    assert reply.status_code == 202
    assert reply.json()["accepted"] == 1
    places = [(one["index"], one.get("event_id")) for one in reply.json()["refused"]]
    assert places == [(1, "b"), (2, None)]
    assert "unknown event name 'stare'" in reply.json()["refused"][0]["reason"]
    assert [event.event_id for event in log.events_in] == ["a"]


def test_what_is_refused_reaches_the_dead_letters_with_its_bytes(client: TestClient, log: Log) -> None:
    sent = b'{"name": "stare",  "event_id":"b"}'
    client.post("/v1/events", content=b'{"events": [ %b ]}' % sent)
    assert [(one.index, one.raw, one.event_id) for one in log.refused] == [(0, sent, "b")]
    assert "unknown event name" in log.refused[0].reason


def test_a_call_without_one_good_event_is_an_error_that_names_the_first_reason(client: TestClient) -> None:
    reply = client.post("/v1/events", json=[{"name": "stare"}, {"name": "gaze"}])
    assert reply.status_code == 400
    assert reply.json()["accepted"] == 0
    assert reply.json()["error"]["code"] == "refused"
    assert reply.json()["error"]["message"].startswith("none of 2 can be used; the first: unknown event name 'stare'")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({**VIEW, "name": "stare"}, "unknown event name 'stare'"),
        ({"visitor_id": "v"}, "an event needs a name"),
        ({**VIEW, "name": ["view_item"]}, "name must be a string"),
        ({"name": "view_item", "visitor_id": "v"}, "view_item needs an item_id"),
        ({"name": "view_item", "item_id": "p01"}, "needs a user_id or a visitor_id"),
        ({**VIEW, "name": "purchase", "transaction_id": "t"}, "purchase needs a currency"),
        ({**VIEW, "name": "purchase", "currency": "EUR"}, "purchase needs a transaction_id"),
        ({**VIEW, "name": "rating"}, "needs a rating from 1 to 5"),
        ({**VIEW, "ts": NOW - 40 * DAY_MS}, "40.0 days old"),
        ({**VIEW, "ts": NOW + HOUR_MS}, "60 minutes ahead"),
        ({**VIEW, "ts": "today"}, "ts must be milliseconds"),
        ({**VIEW, "timestamp": "yesterday"}, "timestamp must be ISO 8601"),
        ({**VIEW, "timestamp_micros": "²"}, "timestamp_micros must be microseconds"),
        ({**VIEW, "attributes": [1]}, "attributes must be an object"),
        ({**VIEW, "attributes": {"a": [[[[[[[[[[1]]]]]]]]]]}}, "nested deeper"),
        ({**VIEW, "index": 1 << 40}, "index of 'p01'"),
        ({**VIEW, "v": 2}, "version 1"),
        ({"name": "search", "visitor_id": "v", "search_term": "x" * 1001}, "search_term of 1 to 1000"),
        (7, "an event is a JSON object, got int"),
    ],
)
def test_each_unusable_event_is_told_what_is_wrong(client: TestClient, log: Log, event: Any, reason: str) -> None:
    reply = client.post("/v1/events", json=[event])
    assert reply.status_code == 400
    assert reason in reply.json()["refused"][0]["reason"]
    assert reason in log.refused[0].reason
    assert log.events_in == []


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'[{"name":', "bad_json", "it ends before it is complete (byte 9)"),
        (b'[{"name" "x"}]', "bad_json", "byte 9"),
        (b"", "bad_json", "the body is empty"),
        (b'["\xff"]', "bad_json", "not UTF-8 (byte 2)"),
        (b"[" * 100_000, "bad_json", "nested too deep"),
        (b"17", "bad_request", "got int"),
        (b"[]", "bad_request", "at least one"),
        (b'{"events": 3}', "bad_request", "events must be an array, got int"),
        (b'{"events": [], "user_id": "u"}', "bad_request", "'user_id'"),
    ],
)
def test_a_body_that_cannot_be_taken_apart_is_answered_and_kept(
    client: TestClient, log: Log, body: bytes, code: str, message: str
) -> None:
    reply = client.post("/v1/events", content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert message in reply.json()["error"]["message"]
    assert [(one.index, one.raw) for one in log.refused] == [(-1, body[:4096])]


def test_more_events_than_one_call_may_hold_are_refused_as_a_whole(client_with: Client, log: Log) -> None:
    reply = client_with(max_body_bytes=20_000_000).post("/v1/events", json=[VIEW] * 100_000)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many")
    assert "at most 1000 events are accepted in one call, got 100000" in reply.json()["error"]["message"]
    assert client_with().post("/v1/events", json=[VIEW] * 100_000).status_code == 413
    assert log.events_in == []
    assert len(log.refused) == 2


def test_exactly_as_many_as_allowed_are_accepted(client_with: Client, log: Log) -> None:
    client = client_with(max_events=3)
    assert client.post("/v1/events", json=[view(n) for n in range(3)]).json() == {"accepted": 3}
    assert client.post("/v1/events", json=[view(n) for n in range(4)]).status_code == 400


def test_a_body_over_the_limit_is_not_read_to_its_end(client_with: Client, log: Log) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        for _ in range(10_000):
            sent += 1
            yield b" " * 1_000

    reply = client_with(max_body_bytes=5_000).post("/v1/events", content=endless())
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
    assert "at most 5000" in reply.json()["error"]["message"]
    assert len(log.refused[0].raw) <= 4_096


def test_a_declared_length_over_the_limit_is_refused_before_reading(client_with: Client) -> None:
    reply = client_with(max_body_bytes=100).post("/v1/events", content=b" " * 101)
    assert reply.status_code == 413
    assert "the body has 101 bytes" in reply.json()["error"]["message"]


def test_a_compressed_body_is_turned_away_by_name(client: TestClient) -> None:
    reply = client.post("/v1/events", content=b"x", headers={"content-encoding": "gzip"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported")
    assert "gzip" in reply.json()["error"]["message"]


def test_a_log_that_is_down_means_try_again(client: TestClient, log: Log) -> None:
    log.down = True
    for body in (b'[{"name":"stare"}]', msgspec.json.encode(VIEW), b"["):
        reply = client.post("/v1/events", content=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
        assert reply.headers["retry-after"] == "1"
    assert client.delete("/v1/items/p01").status_code == 503


def test_an_event_sent_twice_is_answered_the_same_and_kept_once(client: TestClient, log: Log) -> None:
    first = client.post("/v1/events", json=view(1))
    assert client.post("/v1/events", json=view(1)).json() == first.json()
    assert len(log.events_in) == 1


def test_a_long_name_is_not_echoed_in_full(client: TestClient) -> None:
    reply = client.post("/v1/events", json=[{**VIEW, "name": "x" * 100_000}])
    assert len(reply.content) < 3_000


def test_an_item_is_added_changed_and_removed(client: TestClient, shop: Shop) -> None:
    reply = client.post("/v1/items", json={"items": [{"item_id": "new", "title": "A kettle", "price": 20, "cost": 4}]})
    assert (reply.status_code, reply.json()) == (200, {"accepted": 1})
    assert client.post("/v1/items", json={"item_id": "new", "ts": NOW + 1, "price": 25}).json() == {"accepted": 1}
    kettle = client.get("/v1/items/new").json()
    assert (kettle["title"], kettle["price"], kettle["attributes"]) == ("A kettle", 25.0, {"cost": 4.0})
    assert client.delete("/v1/items/new").json() == {"accepted": 1}
    assert client.get("/v1/items/new").status_code == 404


def test_removing_an_item_counts_even_when_its_last_change_lies_ahead(client: TestClient, shop: Shop) -> None:
    shop.stock["odd"] = Item(item_id="odd", since=NOW, ts=NOW + 60_000)
    client.delete("/v1/items/odd")
    assert "odd" not in shop.stock


def test_removing_what_is_not_there_is_no_error(client: TestClient) -> None:
    assert client.delete("/v1/items/nothing").json() == {"accepted": 1}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"title": "no id"}, "an item needs an item_id"),
        ({"item_id": "a", "price": -1.0}, "price must be 0 or more"),
        ({"item_id": "a", "categories": [1]}, "a category is a path"),
        ({"item_id": "a", "ts": NOW + HOUR_MS}, "60 minutes ahead"),
        ({"item_id": "a", "in_stock": []}, "Expected `bool`"),
        (None, "an item is a JSON object"),
    ],
)
def test_each_unusable_item_is_told_what_is_wrong(client: TestClient, log: Log, item: Any, reason: str) -> None:
    reply = client.post("/v1/items", json=[item])
    assert reply.status_code == 400
    assert reason in reply.json()["refused"][0]["reason"]
    assert log.items_in == []
    assert len(log.refused) == 1


def test_an_item_id_may_hold_a_slash(client: TestClient, shop: Shop) -> None:
    client.post("/v1/items", json={"item_id": "AB/12 ü", "title": "odd", "categories": ["Desk"]})
    assert client.get("/v1/items/AB%2F12%20%C3%BC").json()["title"] == "odd"
    assert client.get("/v1/items/AB%2F12%20%C3%BC/similar?n=1").status_code == 200
    client.delete("/v1/items/AB%2F12%20%C3%BC")
    assert "AB/12 ü" not in shop.stock
