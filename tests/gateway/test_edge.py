from __future__ import annotations

import logging

import pytest
from starlette.testclient import TestClient

from tests.gateway.conftest import Client
from tests.gateway.fakes import Log, Shop

VIEW = {"name": "view_item", "visitor_id": "v", "item_id": "p01"}


def test_a_defect_of_ours_is_logged_under_an_id_and_not_told(
    client: TestClient, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.broken = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR):
        reply = client.get("/v1/recommendations")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal")
    error_id = reply.json()["error"]["message"].rsplit(" ", 1)[1]
    assert "secret" not in reply.text
    record = next(one for one in caplog.records if error_id in one.getMessage())
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_what_is_not_there_and_what_is_not_allowed_are_told_in_json(client: TestClient) -> None:
    missing = client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = client.put("/v1/recommendations")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert client.get("/v1/trending/").status_code == 404


def test_another_sites_page_cannot_write_by_default(client: TestClient, log: Log) -> None:
    for origin in ("http://evil.test", "null", "http://shop.test:81"):
        reply = client.post("/v1/events", json=VIEW, headers={"origin": origin, "content-type": "text/plain"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
        assert origin in reply.json()["error"]["message"]
        assert client.delete("/v1/items/p01", headers={"origin": origin}).status_code == 403
    assert log.events_in == []
    assert (
        "access-control-allow-origin" not in client.get("/v1/trending", headers={"origin": "http://evil.test"}).headers
    )


def test_our_own_pages_and_programs_write(client: TestClient, log: Log) -> None:
    assert client.post("/v1/events", json=VIEW, headers={"origin": "http://shop.test"}).status_code == 200
    assert client.post("/v1/events", json=VIEW).status_code == 200


def test_a_named_site_reads_and_writes(client_with: Client, log: Log) -> None:
    client = client_with(cors_origins=["https://front.test"])
    headers = {"origin": "https://front.test"}
    reply = client.post("/v1/events", json=VIEW, headers=headers)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, "https://front.test")
    ask = {**headers, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    assert client.options("/v1/events", headers=ask).status_code == 200
    assert client.post("/v1/events", json=VIEW, headers={"origin": "https://other.test"}).status_code == 403


def test_a_star_lets_every_site_in(client_with: Client) -> None:
    reply = client_with(cors_origins=["*"]).post("/v1/events", json=VIEW, headers={"origin": "https://any.test"})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, "*")
