from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from core.decision import Filters
from core.errors import Unavailable
from gateway.routes_lists import recommendation_id
from tests.gateway.conftest import Client
from tests.gateway.fakes import NOW, Shop


def ids(reply: Any) -> list[str]:
    return [item["item_id"] for item in reply.json()["items"]]


def test_a_list_carries_what_a_page_needs(client: TestClient) -> None:
    reply = client.get("/v1/recommendations?user_id=u&n=3")
    body = reply.json()
    assert reply.status_code == 200
    assert (body["bundle"], body["ranker"], len(body["items"])) == ("fake-1", "blend", 3)
    first = body["items"][0]
    assert first["item_id"] == "p00"
    assert (first["title"], first["price"]) == ("Sencha from Uji, first flush", 14.5)
    assert first["reasons"] == [{"code": "trending", "text": "trending in Tea & Coffee"}]
    assert 0 <= body["took_ms"] < 1_000
    assert "features" not in first


def test_an_explanation_adds_channels_and_features(client: TestClient) -> None:
    first = client.get("/v1/recommendations?user_id=u&explain=true").json()["items"][0]
    assert first["channels"] == {"taste": {"rank": 1, "score": first["features"]["taste"]}}


def test_the_next_list_follows_three_views_and_says_why(client: TestClient) -> None:
    before = client.get("/v1/recommendations?visitor_id=v&n=5")
    views = [{"name": "view_item", "visitor_id": "v", "item_id": one} for one in ("p30", "p32", "p34")]
    assert client.post("/v1/events", json=views).status_code == 200
    after = client.get("/v1/recommendations?visitor_id=v&n=5")
    assert ids(after) != ids(before)
    assert after.json()["items"][0]["reasons"][0]["code"] == "viewed"
    assert ids(client.get("/v1/recommendations?visitor_id=somebody-else&n=5")) != ids(after)


def test_a_recommendation_id_is_new_each_time_and_sorts_by_time(client: TestClient, shop: Shop) -> None:
    made = [client.get("/v1/recommendations").json()["recommendation_id"] for _ in range(2)]
    assert made[0] != made[1]
    assert [request.recommendation_id for request in shop.asked] == made
    assert recommendation_id(NOW) < recommendation_id(NOW + 1)
    assert len(made[0]) == 32


def test_query_and_body_ask_the_same(client: TestClient, shop: Shop) -> None:
    client.get(
        "/v1/recommendations?visitor_id=v&n=4&placement=home&items=p01,p02&context_items=p05&item_id=p06&exclude=p09"
        "&category=Desk&category=Garden+%3E+Tools&brand=Marlow&price_min=2&price_max=30.5&in_stock=false"
        "&attr.colour=red&attr.colour=blue&attr.size=5&exclude_bought=true&diversity=0.3&explain=1"
    )
    client.post(
        "/v1/recommendations",
        json={
            "visitor_id": "v", "n": 4, "placement": "home", "items": ["p01", "p02"], "context_items": ["p05"],
            "item_id": "p06", "exclude": ["p09"], "category": ["Desk", "Garden > Tools"], "brand": "Marlow",
            "price_min": 2, "price_max": 30.5, "in_stock": False,
            "attributes": {"colour": ["red", "blue"], "size": 5.0}, "exclude_bought": True, "diversity": 0.3,
            "explain": True,
        },
    )  # fmt: skip
    asked, posted = shop.asked
    assert asked.filters == posted.filters == Filters(
        categories=("Desk", "Garden > Tools"), brands=("Marlow",), price_min=2.0, price_max=30.5, in_stock=False,
        attributes={"colour": ("red", "blue"), "size": ("5",)},
    )  # fmt: skip
    names = [name for name in asked.__struct_fields__ if name != "recommendation_id"]
    assert [getattr(asked, name) for name in names] == [getattr(posted, name) for name in names]
    assert (asked.shopper, asked.n, asked.ts, asked.placement) == ("v", 4, NOW, "home")
    assert (asked.items, asked.context_items, asked.exclude_items) == (("p01", "p02"), ("p06", "p05"), ("p09",))


@pytest.mark.parametrize(
    ("who", "shopper"),
    [
        ({"user_id": "u", "visitor_id": "v", "session": "s"}, "u"),
        ({"visitor_id": "v", "session": "s"}, "v"),
        ({"session": "s"}, "s"),
        ({"user_id": 17}, "17"),
        ({"user_id": "", "visitor_id": "v"}, "v"),
        ({}, ""),
    ],
)
def test_the_shopper_is_the_user_where_known(client: TestClient, shop: Shop, who: dict[str, Any], shopper: str) -> None:
    assert client.post("/v1/recommendations", json=who).status_code == 200
    assert shop.asked[-1].shopper == shopper


def test_items_given_to_be_ranked_all_come_back(client: TestClient, shop: Shop) -> None:
    given = [f"p{n:02d}" for n in range(24)]
    assert sorted(ids(client.post("/v1/recommendations", json={"items": given}))) == given
    assert client.post("/v1/recommendations", json={"items": []}).json()["items"] == []
    many = [f"x{n}" for n in range(300)]
    client.post("/v1/recommendations", json={"items": many})
    assert shop.asked[-1].n == 300


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("bogus=1", "unknown parameter 'bogus'; known are n, category, brand, price_min, price_max, in_stock, attr."),
        ("n=0", "n must be 1 to 100, got 0"),
        ("n=101", "n must be 1 to 100, got 101"),
        ("n=ten", "n must be a whole number, got 'ten'"),
        ("n=1&n=2", "n is given twice"),
        ("diversity=2", "diversity must be 0 to 1, got 2"),
        ("diversity=nan", "diversity must be a number, got 'nan'"),
        ("price_min=5&price_max=4", "price_min must not be above price_max, got 5 and 4"),
        ("explain=perhaps", "explain must be true or false, got 'perhaps'"),
        ("user_id=" + "u" * 257, "user_id: an id has 1 to 256 characters, got 257"),
        ("attributes=red", "unknown parameter 'attributes'"),
        ("&".join(["brand=b"] * 101), "brand takes at most 100 values, got 101"),
    ],
)
def test_a_query_that_makes_no_sense_is_told_why(client: TestClient, query: str, message: str) -> None:
    reply = client.get(f"/v1/recommendations?{query}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_request")
    assert message in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"bogus": 1}, "unknown field 'bogus'; known are n,"),
        ({"n": "5"}, "n: Expected `int | null`, got `str`"),
        ({"attributes": {"a": {}}}, "attributes[...]"),
        ({"exclude": ["x"] * 2_001}, "exclude holds at most 2000 ids, got 2001"),
        ([], "the body must be a JSON object, got list"),
    ],
)
def test_a_body_that_makes_no_sense_is_told_why(client: TestClient, body: Any, message: str) -> None:
    reply = client.post("/v1/recommendations", json=body)
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]


def test_a_posted_question_takes_no_query(client: TestClient) -> None:
    reply = client.post("/v1/recommendations?n=3", json={})
    assert "unknown parameter 'n'; known are none" in reply.json()["error"]["message"]


def test_an_engine_that_is_not_there_yet_means_try_again(client: TestClient, shop: Shop) -> None:
    shop.broken = Unavailable("the log is being replayed")
    reply = client.get("/v1/recommendations")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("route", ["similar", "bought-together"])
def test_lists_about_an_item_leave_it_out_and_keep_the_filters(client: TestClient, route: str) -> None:
    reply = client.get(f"/v1/items/p23/{route}?n=4&price_max=25")
    assert reply.status_code == 200
    assert 0 < len(ids(reply)) <= 4
    assert "p23" not in ids(reply)
    assert all(item["price"] <= 25 for item in reply.json()["items"])
    assert reply.json()["items"][0]["reasons"][0]["item_id"] == "p23"


@pytest.mark.parametrize("path", ["/v1/items/none", "/v1/items/none/similar", "/v1/items/none/bought-together"])
def test_an_unknown_item_is_not_found(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.json()["error"]) == (404, {"code": "not_found", "message": "unknown item 'none'"})


def test_trending_takes_a_category(client: TestClient) -> None:
    client.post("/v1/events", json={"name": "view_item", "user_id": "u", "item_id": "p40"})
    assert ids(client.get("/v1/trending?n=1")) == ["p40"]
    garden = client.get("/v1/trending", params={"category": "Garden > Tools"})
    assert ids(garden) == ["p18", "p19"]
    assert client.get("/v1/trending?category=Nowhere").json()["items"] == []
    assert client.get("/v1/trending?category=Desk&category=Play").status_code == 400


def test_search_needs_something_to_look_for(client: TestClient) -> None:
    assert ids(client.get("/v1/search", params={"q": "teapot"})) == ["p03"]
    wanted = "q must be 1 to 1000 characters, got"
    for query, message in (("", "`q`"), ("q=+", f"{wanted} 0"), ("q=" + "x" * 1001, f"{wanted} 1001")):
        reply = client.get(f"/v1/search?{query}")
        assert reply.status_code == 400
        assert message in reply.json()["error"]["message"]


def test_an_empty_catalogue_and_one_of_a_single_item_are_answered(client: TestClient, shop: Shop) -> None:
    only = shop.stock.pop("p00")
    shop.stock.clear()
    paths = ["/v1/recommendations?user_id=u", "/v1/trending", "/v1/search?q=tea"]
    assert [ids(client.get(path)) for path in paths] == [[], [], []]
    assert client.get("/v1/categories").json() == {"categories": []}
    shop.stock["p00"] = only
    assert [ids(client.get(path)) for path in paths[:2]] == [["p00"], ["p00"]]
    assert ids(client.get("/v1/items/p00/similar")) == []


def test_an_item_without_a_catalogue_entry_still_stands_in_a_list(client_with: Client, shop: Shop) -> None:
    client = client_with()
    before = client.get("/v1/recommendations?n=1").json()["items"][0]
    shop.item = lambda item_id: None  # type: ignore[method-assign]
    after = client.get("/v1/recommendations?n=1").json()["items"][0]
    assert after == {key: before[key] for key in ("item_id", "score", "reasons")}


def test_categories_and_items_are_told(client: TestClient) -> None:
    categories = client.get("/v1/categories").json()["categories"]
    assert {"Desk", "Desk > Paper"} <= set(categories)
    assert client.get("/v1/items/p25").json()["description"].startswith("Notebook")
    assert client.get("/v1/items/p25?fields=all").status_code == 400
