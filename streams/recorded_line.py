"""One line of a recorded stream: an item, an event or a query.

Event lines hold either our own JSON (`"name": "view_item"`) or a shorter dialect
(`"type": "view"`), in which a basket is one line an item and a shown list is known by its
`ranking_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from core.catalogue import ItemChange, parse_change
from core.errors import BadInput
from core.events import NO_CURRENCY, Event, Line, checked, encode, parse


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A request as recorded. `items`, when given, are to be ranked as they are."""

    query_id: str
    ts: int
    shopper: str
    k: int = 10
    exclude_bought: bool = False
    items: tuple[str, ...] | None = None
    placement: str = "default"


Entry = ItemChange | Event | Query

_NAME_OF: Final = {
    "impression": "view_item_list",
    "click": "select_item",
    "view": "view_item",
    "cart": "add_to_cart",
    "wish": "add_to_wishlist",
}
_PREFIX: Final = {"impression": "i", "click": "c"}  # of an event_id made of ranking and item
_ITEM_FIELDS: Final = {
    "title", "description", "categories", "category", "brand", "price", "in_stock", "url", "image",
    "primary_product_id",
}  # fmt: skip


class _ShortRow(msgspec.Struct, tag="event", tag_field="kind", forbid_unknown_fields=True, kw_only=True, gc=False):
    type: str
    ts: int
    event_id: str = ""
    user_id: str | None = None
    visitor_id: str | None = None
    session_id: str | None = None
    item_id: str | None = None
    quantity: float = 1.0
    price: float | None = None
    ranking_id: str | None = None
    items: tuple[str, ...] = ()


class _OwnRow(Event, tag="event", tag_field="kind", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Our own JSON with nothing missing and nothing to spare."""


class _QueryRow(msgspec.Struct, tag="query", tag_field="kind", forbid_unknown_fields=True, kw_only=True):
    query_id: str
    ts: int
    user_id: str = ""
    visitor_id: str = ""
    k: int | None = None
    exclude_bought: bool = False
    items: tuple[str, ...] | None = None
    placement: str = "default"


_short: Final = msgspec.json.Decoder(_ShortRow | _QueryRow)
_own: Final = msgspec.json.Decoder(_OwnRow)


def decode_line(line: bytes) -> tuple[Entry, Event | None]:
    """The entry of a line, and once more where it may be one item of a basket.

    A line with exactly the keys and types it should have is decoded at once; any other goes through
    `core.events.parse` or `core.catalogue.parse_change`, which say what is wrong with it.

    Raises:
        BadInput: with what was got and what was wanted.
    """
    try:
        if b'"name":' in line:
            own = checked(Event(**asdict(_own.decode(line))))
            return (own, None) if own.event_id else _patiently(line)
        row = _short.decode(line)
        if isinstance(row, _QueryRow):
            return _query(row), None
        if row.event_id or row.ranking_id:
            event = checked(_from_short(row))
            return event, event if event.name == "purchase" else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _patiently(line)  # says what is wrong, if anything
    return _patiently(line)


def _from_short(row: _ShortRow) -> Event:
    named = _named(row.type, row.event_id, row.session_id, row.ranking_id, row.item_id)
    if row.item_id is not None:
        items: tuple[Line, ...] = (Line(row.item_id, row.quantity, row.price),)
    else:
        items = tuple([Line(item, index=index) for index, item in enumerate(row.items)])
    return Event(
        ts=row.ts, user_id=row.user_id, visitor_id=row.visitor_id, session_id=row.session_id, items=items, **named
    )


def _named(kind: str, event_id: str, session: str | None, ranking: str | None, item: str | None) -> dict[str, Any]:
    """What our own JSON calls the things that the short dialect names otherwise or leaves out."""
    if kind in ("purchase", "refund"):
        return {"name": kind, "event_id": event_id, "transaction_id": session or event_id, "currency": NO_CURRENCY}
    if not event_id and ranking:
        event_id = f"i-{ranking}" if item is None else f"{_PREFIX.get(kind, kind)}-{ranking}-{item}"
    return {"name": _NAME_OF.get(kind, kind), "event_id": event_id, "recommendation_id": ranking}


def _patiently(line: bytes) -> tuple[Entry, Event | None]:
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"a line is a JSON object, got {type(raw).__name__}")
    kind = raw.pop("kind", None)
    if kind == "item":
        return parse_change(_item(raw)), None
    if kind == "query":
        return _query_of(raw), None
    if kind != "event":
        raise BadInput(f"kind must be item, event or query, got {kind!r}")
    if "name" in raw or "type" not in raw:
        return parse(raw), None
    event = parse(_long(raw))
    return event, event if event.name == "purchase" else None


def _long(raw: dict[str, Any]) -> dict[str, Any]:
    """An event of the short dialect in our own keys."""
    kind, ranking = str(raw.pop("type")), raw.pop("ranking_id", None)
    if isinstance(items := raw.get("items"), list):
        raw["items"] = [
            {"item_id": item, "index": index} if isinstance(item, str | int) else item
            for index, item in enumerate(items)
        ]
    event_id, session, item = raw.get("event_id") or "", raw.get("session_id"), raw.get("item_id")
    return _named(kind, event_id, session, ranking, item) | {
        key: value for key, value in raw.items() if value not in (None, "")
    }


def _item(raw: dict[str, Any]) -> dict[str, Any]:
    """An item's line with its `fields` laid out: what every catalogue has in its place, the rest as attributes."""
    fields = raw.pop("fields", None) or {}
    if not isinstance(fields, Mapping):
        raise BadInput(f"fields must be an object, got {type(fields).__name__}")
    known = {name: value for name, value in fields.items() if name in _ITEM_FIELDS}
    extra = {name: value for name, value in fields.items() if name not in _ITEM_FIELDS}
    if "genres" in extra and not {"categories", "category"} & (known.keys() | raw.keys()):
        known["categories"] = extra.pop("genres")
    given = raw.get("attributes") or {}
    if extra and isinstance(given, Mapping):
        raw["attributes"] = {**extra, **given}
    return known | raw


def _query(row: _QueryRow) -> Query:
    if row.k is not None and row.k < 1:
        raise BadInput(f"k must be 1 or more, got {row.k}")
    return Query(
        query_id=row.query_id,
        ts=row.ts,
        shopper=row.user_id or row.visitor_id,
        k=row.k or len(row.items or ()) or 10,
        exclude_bought=row.exclude_bought,
        items=row.items,
        placement=row.placement,
    )


def _query_of(raw: dict[str, Any]) -> Query:
    """A query whose line the fast way refused: ids may be numbers; anything else is an error."""
    for key in ("query_id", "user_id", "visitor_id"):
        if isinstance(raw.get(key), int):
            raw[key] = str(raw[key])
    try:
        return _query(msgspec.convert(raw | {"kind": "query"}, _QueryRow))
    except msgspec.ValidationError as error:
        raise BadInput(f"query: {error}") from None


def encode_line(entry: Entry) -> tuple[str, bytes]:
    """The kind of an entry and its line in our own JSON."""
    if isinstance(entry, Query):
        raw = {"query_id": entry.query_id, "user_id": entry.shopper, "ts": entry.ts, "k": entry.k}
        raw |= {"exclude_bought": entry.exclude_bought, "placement": entry.placement}
        raw |= {"items": entry.items} if entry.items is not None else {}
        return "query", _line("query", msgspec.json.encode(raw))
    if isinstance(entry, Event):
        return "event", _line("event", encode(entry))
    return "item", _line("item", msgspec.json.encode(entry))


def _line(kind: str, body: bytes) -> bytes:
    return b'{"kind":"%s",%s\n' % (kind.encode(), body[1:])
