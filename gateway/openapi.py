"""The interface in OpenAPI 3.1, built from the structs that are read and written."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.catalogue import Item, ItemChange
from core.events import BEHAVIOUR, FEEDBACK, Event
from gateway import replies, schemas
from gateway.faults import ErrorReply
from gateway.routes_state import HealthAsked

VERSION: Final = "1.0"
REFERENCE: Final = "#/components/schemas/{name}"

Shape = type[msgspec.Struct]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. `body` names a schema; `media` is set where the reply is not JSON."""

    method: str
    path: str
    summary: str
    detail: str = ""
    query: Shape | None = None
    body: str = ""
    reply: Shape | None = None
    media: str = ""
    faults: tuple[int, ...] = (400,)


_FAULTS: Final = {
    202: "Some were accepted, some refused; the reply says which and why.",
    400: "The call cannot be used as it is.",
    403: "A page of another site that is not among gateway.cors_origins.",
    404: "There is no such item.",
    413: "The body is longer than gateway.max_body_bytes.",
    415: "The body is compressed.",
    503: "Not possible at the moment; try again.",
}
_LIST_NOTE: Final = "Filters as for recommendations."

ENDPOINTS: Final = (
    Endpoint(
        method="post", path="/v1/events", summary="Tell what shoppers did", body="Events", reply=replies.Written,
        detail="200 when all are in the log, 202 when some are, 400 when none is. Sending one again changes nothing.",
        faults=(202, 400, 403, 413, 415, 503),
    ),
    Endpoint(
        method="get", path="/v1/recommendations", summary="A list for one shopper", query=schemas.Asked,
        reply=replies.Recommendations, faults=(400, 503),
        detail="Without a shopper, or with one never heard of, it rests on what sells now and on what is on the page.",
    ),
    Endpoint(
        method="post", path="/v1/recommendations", summary="The same, asked in JSON", body="Asked",
        reply=replies.Recommendations, faults=(400, 403, 413, 415, 503),
    ),
    Endpoint(
        method="get", path="/v1/items/{item_id}/similar", summary="Items whose text lies near", query=schemas.Wanted,
        reply=replies.Listing, detail=_LIST_NOTE, faults=(400, 404),
    ),
    Endpoint(
        method="get", path="/v1/items/{item_id}/bought-together", summary="Items bought with it", query=schemas.Wanted,
        reply=replies.Listing, detail=_LIST_NOTE, faults=(400, 404),
    ),
    Endpoint(
        method="get", path="/v1/trending", summary="What sells now", query=schemas.Wanted, reply=replies.Listing,
        detail="In one category, or in all.",
    ),
    Endpoint(
        method="get", path="/v1/search", summary="Items that mean what is asked for", query=schemas.Searched,
        reply=replies.Listing, detail=_LIST_NOTE,
    ),
    Endpoint(method="get", path="/v1/categories", summary="Every category path in use", reply=replies.Categories),
    Endpoint(
        method="post", path="/v1/items", summary="Add, change or remove items", body="Items", reply=replies.Written,
        detail="Only the fields that are named change. Status as for events.", faults=(202, 400, 403, 413, 415, 503),
    ),
    Endpoint(
        method="get", path="/v1/items/{item_id}", summary="One item of the catalogue", reply=Item, faults=(400, 404)
    ),
    Endpoint(
        method="delete", path="/v1/items/{item_id}", summary="Remove an item", reply=replies.Written,
        detail="One that is not there is removed too.", faults=(400, 403, 503),
    ),
    Endpoint(method="get", path="/v1/shop", summary="Name and currency of the shop", reply=replies.Shop),
    Endpoint(
        method="get", path="/v1/demo/shoppers", summary="Shoppers to try the demonstration as", reply=replies.Shoppers
    ),
    Endpoint(
        method="get", path="/v1/demo/profiles/{shopper}", summary="What is kept of a shopper", reply=replies.Known,
        detail="Only where the demonstration runs.", faults=(400, 404),
    ),
    Endpoint(method="get", path="/healthz", summary="The process answers", query=HealthAsked, reply=replies.Health),
    Endpoint(
        method="get", path="/readyz", summary="Answers come from caught-up state", reply=replies.Readiness,
        faults=(400, 503),
    ),
    Endpoint(method="get", path="/metrics", summary="Numbers for Prometheus", media="text/plain", faults=()),
    Endpoint(method="get", path="/openapi.json", summary="This description", media="application/json", faults=()),
)  # fmt: skip


def document() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headwater",
            "version": VERSION,
            "description": "Events of a shop in, personal lists out. Times are milliseconds since 1970, UTC.",
        },
        "paths": paths,
        "components": {"schemas": _components()},
    }


def _components() -> dict[str, Any]:
    shapes = {shape for one in ENDPOINTS for shape in (one.reply, one.query) if shape is not None}
    ordered = sorted({*shapes, Event, ItemChange, ErrorReply}, key=str)
    _, found = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    components: dict[str, Any] = dict(found)
    components["Event"] = _event(components["Event"])
    components["ItemChange"] = _loose(components["ItemChange"], ["item_id"])
    components["Events"] = _several("events", "Event")
    components["Items"] = _several("items", "ItemChange")
    return components


def _event(schema: dict[str, Any]) -> dict[str, Any]:
    """Add what `core.events.parse` takes beside an event's own fields."""
    event = _loose(schema, ["name"])
    event["properties"] |= {
        "name": {"enum": list(BEHAVIOUR + FEEDBACK)},
        "item_id": {"type": "string", "description": "Instead of items, where there is one."},
        "quantity": {"type": "number"},
        "price": {"type": "number"},
        "index": {"type": "integer"},
        "timestamp": {"type": "string", "format": "date-time", "description": "Instead of ts."},
        "timestamp_micros": {"type": "integer", "description": "Instead of ts."},
    }
    return event


def _loose(schema: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Keys nobody knows go to attributes, so more of them may stand there."""
    properties = {name: value for name, value in schema["properties"].items() if name != "v"}
    return {**schema, "properties": properties, "required": required, "additionalProperties": True}


def _several(key: str, name: str) -> dict[str, Any]:
    one = {"$ref": REFERENCE.format(name=name)}
    many = {"type": "array", "items": one, "minItems": 1}
    return {"anyOf": [{"type": "object", "properties": {key: many}, "required": [key]}, many, one]}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": endpoint.summary}
    if endpoint.detail:
        operation["description"] = endpoint.detail
    if parameters := _path_parameters(endpoint.path) + (_query_parameters(endpoint.query) if endpoint.query else []):
        operation["parameters"] = parameters
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.body)}
    operation["responses"] = _responses(endpoint)
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(shape: Shape) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(shape)["$defs"][shape.__name__]
    found = []
    for name, of in schema["properties"].items():
        one = {"name": name, "in": "query", "description": of.pop("description", "")}
        if name == "attributes":
            one |= {"name": "attr.{NAME}", "schema": {"type": "array", "items": {"type": "string"}}, "explode": True}
        else:
            one |= {"schema": _given(of), "required": name in schema.get("required", ())}
        if name in schemas.ID_LISTS:
            one |= {"style": "form", "explode": False}
        found.append(one)
    return found


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """A query string has no null: a parameter is there or it is not."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    default = {"default": schema["default"]} if schema.get("default") not in (None, "", [], ()) else {}
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **default}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.reply.__name__ if endpoint.reply else ""
    found = {"200": {"description": "Done.", "content": _content(name) if name else {endpoint.media: {}}}}
    for status in endpoint.faults:
        told = name if status == 202 or (status == 503 and endpoint.path == "/readyz") else "ErrorReply"
        found[str(status)] = {"description": _FAULTS[status], "content": _content(told)}
    return found


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=name)}}}


class Described:
    """/openapi.json."""

    def __init__(self) -> None:
        self._document = msgspec.json.encode(document())

    def routes(self) -> list[Route]:
        """The route of this module."""
        return [Route("/openapi.json", self.openapi)]

    async def openapi(self, request: Request) -> Response:
        """Send the description."""
        return Response(self._document, media_type="application/json")
