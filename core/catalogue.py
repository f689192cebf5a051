"""What a shop sells: one `Item` a key on the topic `items`, merged upsert by upsert.

Categories are paths, "Kitchen > Teapots". Prices are in the shop's own currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from core.errors import BadInput
from core.fields import AHEAD_MS, MAX_ID, attributes_of, check_nesting, identifier, time_of
from core.ids import MINUTE_MS

PATH_SEPARATOR: Final = " > "
MAX_TEXT: Final = 20_000
Attribute = str | float | bool | list[str]


class ItemChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An upsert that touches only the fields it names, or a removal."""

    v: int = 1
    item_id: str
    ts: int
    removed: bool = False
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    categories: tuple[str, ...] | UnsetType = UNSET
    brand: str | UnsetType = UNSET
    price: float | UnsetType | None = UNSET
    in_stock: bool | UnsetType = UNSET
    url: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    primary_product_id: str | UnsetType = UNSET
    attributes: dict[str, Attribute] | UnsetType = UNSET


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item as it stands now. `since` is the time of its first upsert, `ts` of its last (ms).

    `text_ts` is the time of the last change to a field that may go into the item's text; where two
    changes have the same time, the second one's is a little later, so that it always moves.
    """

    v: int = 1
    item_id: str
    since: int
    ts: int
    text_ts: int = 0
    title: str = ""
    description: str = ""
    categories: tuple[str, ...] = ()
    brand: str = ""
    price: float | None = None
    in_stock: bool = True
    url: str = ""
    image: str = ""
    primary_product_id: str = ""
    attributes: dict[str, Attribute] = msgspec.field(default_factory=dict)


_MERGED: Final = tuple(name for name in ItemChange.__struct_fields__ if name not in ("v", "item_id", "ts", "removed"))
_TEXT: Final = ("title", "description", "categories", "brand", "attributes")
_ALIASES: Final = {"category": "categories", "availability": "in_stock", "item_category": "categories", "name": "title"}


def apply_change(item: Item | None, change: ItemChange) -> Item | None:
    """The item after a change; None after a removal. An upsert older than what stands changes nothing."""
    if change.removed:
        return None if item is None or change.ts >= item.ts else item
    if item is None:
        item = Item(item_id=change.item_id, since=change.ts, ts=change.ts)
    elif change.ts < item.ts:
        return item
    given = {name: value for name in _MERGED if (value := getattr(change, name)) is not UNSET}
    rewritten = item.text_ts == 0 or any(name in given and given[name] != getattr(item, name) for name in _TEXT)
    text_ts = max(change.ts, item.text_ts + 1) if rewritten else item.text_ts
    return msgspec.structs.replace(item, ts=change.ts, text_ts=text_ts, **given)


def parse_change(raw: object, *, now_ms: int | None = None, received_ms: int | None = None) -> ItemChange:
    """Turn a decoded JSON value into an item change; the twin of `core.events.parse`.

    `category` (a path or a list of names from wide to narrow) stands for one path of
    `categories`; keys we do not know go to `attributes`. A change may be as old as it likes
    but, where `now_ms` is given, not more than ten minutes ahead of it: it would win over
    every honest one until then.

    Raises:
        BadInput: with what was got and what was wanted.
    """
    if not isinstance(raw, Mapping):
        raise BadInput(f"an item is a JSON object, got {type(raw).__name__}")
    if raw.get("v", 1) != 1:
        raise BadInput(f"items of version 1 are known, got v {raw['v']!r}")
    fields = _fields(raw)
    fields["item_id"] = identifier(raw.get("item_id"), "item_id")
    if fields["item_id"] is None:
        raise BadInput(f"an item needs an item_id of 1 to {MAX_ID} characters")
    fields["ts"] = time_of(raw, received_ms)
    try:
        change = msgspec.convert({k: v for k, v in fields.items() if v is not None or k == "price"}, ItemChange)
    except msgspec.ValidationError as error:
        raise BadInput(f"item {fields['item_id']!r}: {error}") from None
    _check(change, now_ms)
    return change


def _fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    extra = dict(attributes_of(raw))
    for key, value in raw.items():
        name = _ALIASES.get(key, key)
        if name == "categories" and key != name and isinstance(value, list | tuple):
            value = [value] if value else []
        if (name in _MERGED and name != "attributes") or name == "removed":
            fields[name] = value
        elif name not in ("item_id", "ts", "timestamp", "timestamp_micros", "attributes", "kind", "v"):
            extra[key] = value
    if fields.get("categories") is not None:
        fields["categories"] = _paths(fields["categories"])
    if isinstance(fields.get("in_stock"), str):
        fields["in_stock"] = fields["in_stock"].upper().replace(" ", "_") == "IN_STOCK"
    check_nesting(extra)
    if extra or raw.get("attributes") is not None:
        fields["attributes"] = {key: _attribute(value) for key, value in extra.items() if value is not None}
    return fields


def _check(change: ItemChange, now_ms: int | None) -> None:
    name = f"item {change.item_id!r}"
    if now_ms is not None and change.ts > now_ms + AHEAD_MS:
        ahead = (change.ts - now_ms) / MINUTE_MS
        raise BadInput(f"{name}: ts lies {ahead:.0f} minutes ahead; at most {AHEAD_MS // MINUTE_MS} are accepted")
    if isinstance(change.price, float) and not 0 <= change.price < 1e12:
        raise BadInput(f"{name}: price must be 0 or more, got {change.price}")
    for field in ("title", "description"):
        text = getattr(change, field)
        if text is not UNSET and len(text) > MAX_TEXT:
            raise BadInput(f"{name}: {field} is longer than {MAX_TEXT} characters ({len(text)})")


def _paths(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list | tuple):
        raise BadInput(f"categories must be a path or an array of paths, got {type(value).__name__}")
    for path in value:
        if not isinstance(path, str | list | tuple):
            raise BadInput(f"a category is a path or an array of names, got {type(path).__name__}")
    return [path if isinstance(path, str) else PATH_SEPARATOR.join(map(str, path)) for path in value if path]


def _attribute(value: object) -> Attribute:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else str(value)
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return msgspec.json.encode(value).decode()


def path_and_parents(path: str) -> list[str]:
    """A category path and the wider ones it lies in, widest first.

    >>> path_and_parents("Kitchen > Teapots")
    ['Kitchen', 'Kitchen > Teapots']
    """
    names = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(names[: n + 1]) for n in range(len(names))]
