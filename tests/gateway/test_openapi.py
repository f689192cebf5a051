from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.routing import Route
from starlette.testclient import TestClient

from core.settings import Settings
from gateway.app import build_app
from tests.gateway.fakes import NOW, Log, Shop, catalogue

PAGES = {"/", "/shop", "/admin", "/docs", "/pages/{name}"}


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


def test_every_route_is_described_and_every_described_route_exists(client: TestClient) -> None:
    log = Log()
    app = build_app(Settings(), log, Shop(log, catalogue()), lambda: NOW)
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    paths = client.get("/openapi.json").json()["paths"]
    described = {(path, method) for path, methods in paths.items() for method in methods}
    assert described == {(path, method) for path, method in served if path not in PAGES}


def test_every_reference_leads_somewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    found = set(refs(document))
    assert found
    assert {name.removeprefix("#/components/schemas/") for name in found} <= schemas.keys()


def test_every_described_parameter_is_read(client: TestClient) -> None:
    examples = {"integer": "1", "number": "1", "boolean": "true", "string": "tea", "array": "p01"}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        asked = {}
        for one in methods.get("get", {}).get("parameters", ()):
            schema = one["schema"]
            kind = schema.get("type") or schema["anyOf"][0]["type"]
            if one["in"] == "query":
                asked[one["name"].replace("{NAME}", "colour")] = examples[kind]
        real = path.replace("{item_id}", "p01").replace("{shopper}", "v")
        if "get" in methods:
            assert client.get(real, params=asked).status_code == 200, (real, asked)


def test_every_reply_has_the_fields_that_are_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/v1/recommendations", "/v1/trending", "/v1/categories", "/v1/shop", "/healthz", "/readyz"):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"][content["$ref"].rsplit("/", 1)[1]]
        reply = client.get(path).json()
        assert set(schema["required"]) <= reply.keys() <= set(schema["properties"])
