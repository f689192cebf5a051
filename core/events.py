"""What a shop tells us: behaviour and feedback events, in GA4's names.

On the topics an event is JSON, and one record may hold one event or an array of them.
`parse` is the only way in, for the gateway, the importer and the worker alike, so an event
that one of them accepts is accepted by all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

import msgspec

from core.errors import BadInput
from core.fields import AHEAD_MS, MAX_ID, MAX_TS, RESERVED, attributes_of, check_nesting, identifier, time_of
from core.ids import DAY_MS, MINUTE_MS, ShopperId, digest

BEHAVIOUR: Final = (
    "view_item_list", "select_item", "view_item", "add_to_cart", "remove_from_cart",
    "add_to_wishlist", "begin_checkout", "purchase", "refund", "search",
)  # fmt: skip
FEEDBACK: Final = ("rating", "like", "dislike", "hide", "satisfaction")
NAMES: Final = frozenset(BEHAVIOUR + FEEDBACK)
WITHOUT_ITEMS: Final = frozenset({"search", "satisfaction", "begin_checkout"})  # items are optional here
ONE_ITEM: Final = frozenset({"view_item", "select_item", "rating", "like", "dislike", "hide"})

DERIVED: Final = "h"  # begins an event_id that was made from the content
NO_CURRENCY: Final = "XXX"  # ISO 4217: a transaction without a currency, as recorded logs have them
MAX_TERM: Final = 1_000
MAX_ITEMS: Final = 2_000
OLDEST_MS: Final = 30 * DAY_MS


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One item of an event: a viewed product, a line of a basket, a place in a shown list."""

    item_id: str
    quantity: float = 1.0
    price: float | None = None
    index: int | None = None  # place in a shown list, counted from 0


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One accepted event. `ts` is the moment it happened, in ms since 1970, UTC."""

    v: int = 1
    name: str
    event_id: str
    ts: int
    user_id: str | None = None
    visitor_id: str | None = None
    session_id: str | None = None
    items: tuple[Line, ...] = ()
    currency: str | None = None
    value: float | None = None
    transaction_id: str | None = None
    search_term: str | None = None
    recommendation_id: str | None = None
    placement: str | None = None
    rating: float | None = None  # rating: 1 to 5; satisfaction: 1 to 5
    attributes: dict[str, Any] | None = None

    @property
    def shopper(self) -> ShopperId:
        """Who this is about: the user where known, else the visitor."""
        return ShopperId(self.user_id or self.visitor_id or "")

    @property
    def topic(self) -> str:
        return "feedback" if self.name in FEEDBACK else "clickstream"


_KNOWN: Final = frozenset(f.name for f in msgspec.structs.fields(Event))
_IDENTIFIERS: Final = ("event_id", "user_id", "visitor_id", "session_id", "transaction_id", "recommendation_id")
_identifiers = attrgetter(*_IDENTIFIERS)
_CURRENCY: Final = re.compile("[A-Za-z]{3}")
_LINE_FIELDS: Final = ("item_id", "quantity", "price", "index")


def parse(raw: object, *, now_ms: int | None = None, received_ms: int | None = None) -> Event:
    """Turn a decoded JSON value into an event.

    A single item may be given as `item_id` beside the other fields. The time is `ts`
    (ms), `timestamp_micros`, or `timestamp` (ISO 8601 with an offset); `received_ms` stands
    in where none is given. A missing `event_id` is derived from the content, so that the same
    event sent twice is recognised. Keys we do not know go to `attributes`.

    Args:
        raw: a mapping, as JSON decodes it.
        now_ms: refuse events older than 30 days or more than ten minutes ahead of this;
            None for recorded logs, whose events are as old as they are.
        received_ms: the time of an event that carries none.

    Raises:
        BadInput: with what was got and what was wanted.
    """
    if not isinstance(raw, Mapping):
        raise BadInput(f"an event is a JSON object, got {type(raw).__name__}")
    fields, extra = {}, dict(attributes_of(raw))
    for key, value in raw.items():
        if key in _KNOWN:
            fields[key] = value
        elif key not in ("item_id", "quantity", "price", "index", "timestamp", "timestamp_micros"):
            extra[key] = value
    name = raw.get("name")
    _check_name(name)
    fields["ts"] = time_of(raw, received_ms)
    check_nesting(extra)
    fields["attributes"] = extra or None
    for key in _IDENTIFIERS:
        fields[key] = identifier(fields.get(key), key)
    fields["items"] = _lines(raw)
    try:
        event = msgspec.convert(fields | {"event_id": fields["event_id"] or DERIVED}, Event)
    except msgspec.ValidationError as error:
        raise BadInput(f"{name}: {error}") from None
    _check(event)
    if fields["event_id"] is None:
        content = digest(msgspec.json.encode(event, order="deterministic"))
        event = msgspec.structs.replace(event, event_id=f"{DERIVED}-{content}")
    if now_ms is not None:
        _check_age(event, now_ms)
    return event


def checked(event: Event) -> Event:
    """An event that was built in code, held to the rules of `parse`.

    Raises:
        BadInput: with what was got and what was wanted.
    """
    _check_name(event.name)
    _check(event)
    return event


def _lines(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = raw.get("items")
    if items is None:
        items = [{key: raw[key] for key in _LINE_FIELDS if raw.get(key) is not None}]
        items = items if raw.get("item_id") not in (None, "") else []
    if not isinstance(items, list | tuple):
        raise BadInput(f"items must be an array, got {type(items).__name__}")
    if len(items) > MAX_ITEMS:
        raise BadInput(f"an event holds at most {MAX_ITEMS} items, got {len(items)}")
    lines = []
    for place, item in enumerate(items):
        if not isinstance(item, Mapping):
            item = {"item_id": item}
        item_id = identifier(item.get("item_id"), "item_id")
        if item_id is None:
            raise BadInput(f"items[{place}] has no item_id")
        lines.append({k: item[k] for k in _LINE_FIELDS if item.get(k) is not None} | {"item_id": item_id})
    return lines


def _check_name(name: object) -> None:
    if name is None:
        raise BadInput("an event needs a name such as view_item")
    if not isinstance(name, str):
        raise BadInput(f"name must be a string such as view_item, got {type(name).__name__}")
    if name not in NAMES:
        raise BadInput(f"unknown event name {name!r:.80}; known names are {', '.join(BEHAVIOUR + FEEDBACK)}")


def _check(event: Event) -> None:
    name = event.name
    if not event.shopper:
        raise BadInput(f"{name} needs a user_id or a visitor_id")
    if not event.items and name not in WITHOUT_ITEMS:
        raise BadInput(f"{name} needs an item_id")
    if name in ONE_ITEM and len(event.items) != 1:
        raise BadInput(f"{name} is about one item, got {len(event.items)}")
    if name in ("purchase", "refund") and not event.transaction_id:
        raise BadInput(f"{name} needs a transaction_id")
    if name == "purchase" and not _CURRENCY.fullmatch(event.currency or ""):
        raise BadInput(f"purchase needs a currency of three letters (ISO 4217), got {event.currency!r}")
    if name in ("rating", "satisfaction") and (event.rating is None or not 1 <= event.rating <= 5):
        raise BadInput(f"{name} needs a rating from 1 to 5, got {event.rating!r}")
    if name == "search" and not 0 < len(event.search_term or "") <= MAX_TERM:
        raise BadInput(f"search needs a search_term of 1 to {MAX_TERM} characters, got {len(event.search_term or '')}")
    _check_bounds(event)
    for line in event.items:
        _check_line(line)


def _check_bounds(event: Event) -> None:
    """What `parse` sees to while it converts; an event that was decoded as it stands meets it here."""
    if event.v != 1:
        raise BadInput(f"events of version 1 are known, got v {event.v}")
    if not 0 <= event.ts < MAX_TS:
        raise BadInput(f"ts must be milliseconds since 1970 as a whole number, got {event.ts}")
    if len(event.items) > MAX_ITEMS:
        raise BadInput(f"an event holds at most {MAX_ITEMS} items, got {len(event.items)}")
    if event.value is not None and not math.isfinite(event.value):
        raise BadInput(f"value must be a number, got {event.value}")
    for place, text in enumerate(_identifiers(event)):
        if text is not None and not 0 < len(text) <= MAX_ID:
            raise BadInput(f"{_IDENTIFIERS[place]} must have 1 to {MAX_ID} characters, got {len(text)}")
    if event.attributes is not None:
        check_nesting(event.attributes)


def _check_line(line: Line) -> None:
    if not 0 < len(line.item_id) <= MAX_ID:
        raise BadInput(f"item_id must have 1 to {MAX_ID} characters, got {len(line.item_id)}")
    if line.item_id.startswith(RESERVED):
        raise BadInput(f"item_id must not begin with a control character, got {line.item_id!r:.80}")
    if line.index is not None and not 0 <= line.index < 1 << 31:
        raise BadInput(f"index of {line.item_id!r} must be a place counted from 0, got {line.index}")
    if not 0 < line.quantity < 1e9:
        raise BadInput(f"quantity of {line.item_id!r} must be above 0, got {line.quantity}")
    if line.price is not None and not 0 <= line.price < 1e12:
        raise BadInput(f"price of {line.item_id!r} must be 0 or more, got {line.price}")


def _check_age(event: Event, now_ms: int) -> None:
    age = now_ms - event.ts
    if age > OLDEST_MS:
        raise BadInput(f"{event.name} is {age / DAY_MS:.1f} days old; at most {OLDEST_MS // DAY_MS} days are accepted")
    if age < -AHEAD_MS:
        raise BadInput(f"{event.name} lies {-age / MINUTE_MS:.0f} minutes ahead; {AHEAD_MS // MINUTE_MS} are accepted")


_decoder = msgspec.json.Decoder(Event | list[Event])


def encode(event: Event) -> bytes:
    """An event as the topics hold it."""
    return msgspec.json.encode(event)


def decode(value: bytes) -> list[Event | BadInput]:
    """The events of one record, and in place of each bad one the reason.

    Our own gateway's JSON takes the fast way; a shop back end may write anything `parse` accepts.

    Raises:
        BadInput: the record as a whole is not JSON.
    """
    try:
        try:
            return _decode_as_written(value)
        except (msgspec.ValidationError, BadInput):
            raw = msgspec.json.decode(value)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError) as error:
        raise BadInput(f"not JSON: {error}") from None
    except RecursionError:
        raise BadInput("not JSON that can be read: nested too deep") from None
    return [_parse_or_reason(one) for one in (raw if isinstance(raw, list) else [raw])]


def _decode_as_written(value: bytes) -> list[Event | BadInput]:
    found = _decoder.decode(value)
    return [checked(event) for event in (found if isinstance(found, list) else [found])]


def _parse_or_reason(raw: object) -> Event | BadInput:
    try:
        return parse(raw)
    except BadInput as reason:
        return reason
