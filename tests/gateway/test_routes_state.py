from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.gateway.conftest import Client
from tests.gateway.fakes import Log, Shop

VIEW = {"name": "view_item", "visitor_id": "v", "item_id": "p01"}


def sample(client: TestClient, sample_name: str, /, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for one in family.samples:
            if one.name == sample_name and labels.items() <= one.labels.items():
                return one.value
    raise AssertionError(f"no sample {sample_name} {labels}")


def test_alive_is_told_even_while_the_engine_is_not_ready(client: TestClient, shop: Shop) -> None:
    shop.waiting = "the log: 1200 events left"
    assert client.get("/healthz").json() == {"status": "ok"}
    reply = client.get("/readyz")
    assert (reply.status_code, reply.json()) == (503, {"status": "waiting", "reason": "the log: 1200 events left"})
    shop.waiting = None
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"status": "ready"})


def test_the_details_hold_the_engines_and_the_gateways_state(client: TestClient) -> None:
    client.post("/v1/events", json=[VIEW, {"name": "stare"}])
    client.get("/v1/recommendations")
    body = client.get("/healthz?details=true").json()
    assert (body["engine"]["items"], body["engine"]["bundle"]) == (42, "fake-1")
    assert (body["gateway"]["events"], body["gateway"]["refused"]) == (1, {"name": 1})
    assert body["gateway"]["routes"]["/v1/recommendations"]["calls"] == 1
    assert body["gateway"]["events_per_s"] > 0


def test_metrics_count_what_came_and_how_it_was_answered(client: TestClient) -> None:
    client.post("/v1/events", json=[VIEW, VIEW, {"name": "stare"}])
    client.post("/v1/events", content=b"[")
    client.post("/v1/items", json={"item_id": "a"})
    client.get("/v1/items/p01/similar")
    client.get("/v1/items/none")
    client.get("/wp-login.php")
    assert sample(client, "headwater_events_accepted_total", name="view_item") == 2
    assert sample(client, "headwater_refused_total", kind="events", reason="name") == 1
    assert sample(client, "headwater_refused_total", kind="events", reason="not_json") == 1
    assert sample(client, "headwater_items_accepted_total") == 1
    assert sample(client, "headwater_request_seconds_count", route="/v1/items/{item_id}/similar") == 1
    assert sample(client, "headwater_requests_total", route="/v1/items/{item_id}", status="404") == 1
    assert sample(client, "headwater_requests_total", route="other", status="404") == 1
    assert sample(client, "headwater_engine_lag_ms") == 3.0
    assert sample(client, "headwater_engine_info", bundle="fake-1", ranker="blend") == 1


def test_profiles_are_told_only_where_the_demonstration_runs(client_with: Client, log: Log) -> None:
    client = client_with()
    client.post("/v1/events", json=[VIEW, {**VIEW, "name": "like"}])
    known = client.get("/v1/demo/profiles/v").json()
    assert [(one["item_id"], one["views"], one["opinion"]) for one in known["items"]] == [("p01", 1, 1.0)]
    assert known["items"][0]["title"] == "Smoked Lapsang, loose leaf"
    assert client.get("/v1/demo/profiles/nobody").json()["items"] == []
    assert len(client.get("/v1/demo/shoppers").json()["shoppers"]) == 3
    plain = client_with(demo=False)
    assert plain.get("/v1/demo/profiles/v").status_code == 404
    assert plain.get("/v1/demo/shoppers").json() == {"shoppers": []}


def test_the_shop_tells_its_name_and_currency(client: TestClient) -> None:
    assert client.get("/v1/shop").json() == {"name": "shop", "currency": "EUR", "max_n": 100}
