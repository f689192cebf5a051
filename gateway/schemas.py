"""What can be asked for, in a query string or in JSON: one shape, one set of errors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from core.decision import Filters, Request
from core.errors import BadInput
from core.fields import MAX_ID

MAX_IDS: Final = 2_000  # in one list of item ids
MAX_VALUES: Final = 100  # of one filter
MAX_QUERY: Final = 1_000  # characters of a search

Id = str | int
Value = str | float | bool


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that takes no parameters."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of items: how many, and which of the catalogue may stand in it."""

    n: Annotated[int | None, Meta(description="How many items, 1 to gateway.max_n (100). Default 10.")] = None
    category: Annotated[
        str | list[str], Meta(description='A path such as "Kitchen > Teapots", or several; what lies below counts too.')
    ] = ""
    brand: Annotated[str | list[str], Meta(description="A brand, or several.")] = ""
    price_min: Annotated[float | None, Meta(description="Lowest price, in the shop's currency.")] = None
    price_max: Annotated[float | None, Meta(description="Highest price.")] = None
    in_stock: Annotated[bool, Meta(description="False lets items that are out of stock stand too.")] = True
    attributes: Annotated[
        dict[str, Value | list[Value]],
        Meta(description="Attribute to the value, or any of the values, it must have."),
    ] = {}


class Searched(Wanted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search by meaning."""

    q: Annotated[str, Meta(description="What to look for, in the shopper's own words.")]


class Asked(Wanted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recommendation is to be for."""

    user_id: Annotated[Id | None, Meta(description="A shopper who is logged in.")] = None
    visitor_id: Annotated[Id | None, Meta(description="A shopper who is not; ignored beside user_id.")] = None
    session: Annotated[
        Id | None, Meta(description="visitor_id of a shop that names visitors by session; used without the other two.")
    ] = None
    placement: Annotated[str, Meta(description="Where on the page the list stands.")] = "default"
    items: Annotated[list[Id] | None, Meta(description="Rank these items instead of looking for some.")] = None
    context_items: Annotated[list[Id], Meta(description="Items on the page: the product, the basket.")] = []
    item_id: Annotated[Id | None, Meta(description="One more of context_items.")] = None
    exclude: Annotated[list[Id], Meta(description="Items that must not be in the list.")] = []
    exclude_bought: Annotated[bool, Meta(description="Leave out what this shopper has bought before.")] = False
    diversity: Annotated[float, Meta(description="0: by relevance alone … 1: as different as can be.")] = 0.0
    explain: Annotated[bool, Meta(description="Add each item's channels and features.")] = False


INTEGERS: Final = frozenset({"n"})
NUMBERS: Final = frozenset({"price_min", "price_max", "diversity"})
SWITCHES: Final = frozenset({"details", "in_stock", "exclude_bought", "explain"})
REPEATED: Final = frozenset({"category", "brand"})
ID_LISTS: Final = frozenset({"items", "context_items", "exclude"})
ATTRIBUTE: Final = "attr."
_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

T = TypeVar("T", bound=msgspec.Struct)


def parameters(shape: type[msgspec.Struct]) -> list[str]:
    """What a query string for this shape may hold."""
    return [f"{ATTRIBUTE}NAME" if name == "attributes" else name for name in shape.__struct_fields__]


def from_query(query: bytes, shape: type[T]) -> T:
    """Read a query string.

    Lists of ids are split at commas; category, brand and attr.NAME may be repeated instead.

    Raises:
        BadInput: an unknown or repeated parameter, or a value of the wrong kind.
    """
    raw: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_IDS)
    except ValueError:
        raise BadInput(f"at most {MAX_IDS} query parameters are read; POST takes longer lists") from None
    for name, text in pairs:
        if name.startswith(ATTRIBUTE) and "attributes" in shape.__struct_fields__:
            raw.setdefault("attributes", {}).setdefault(name.removeprefix(ATTRIBUTE), []).append(text)
        elif name not in shape.__struct_fields__ or name == "attributes":
            raise _unknown(name, parameters(shape), "parameter")
        elif name in REPEATED:
            raw.setdefault(name, []).append(text)
        elif name in ID_LISTS:
            raw.setdefault(name, []).extend(one for one in text.split(",") if one)
        elif name in raw:
            raise BadInput(f"{name} is given twice")
        else:
            raw[name] = _typed(name, text)
    return _shaped(raw, shape)


def _typed(name: str, text: str) -> str | int | float | bool:
    if name in SWITCHES:
        if text.lower() not in _WORDS:
            raise BadInput(f"{name} must be true or false, got {text!r:.80}")
        return _WORDS[text.lower()]
    if name in INTEGERS:
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise BadInput(f"{name} must be a whole number, got {text!r:.80}")
        return int(text)
    if name in NUMBERS:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise BadInput(f"{name} must be a number, got {text!r:.80}")
        return number
    return text


def from_json(raw: object, shape: type[T]) -> T:
    """Read a decoded JSON body.

    Raises:
        BadInput: not an object, an unknown field, or a value of the wrong kind.
    """
    if not isinstance(raw, Mapping):
        raise BadInput(f"the body must be a JSON object, got {type(raw).__name__}")
    for name in raw:
        if name not in shape.__struct_fields__:
            raise _unknown(name, list(shape.__struct_fields__), "field")
    return _shaped(raw, shape)


def _unknown(name: str, known: list[str], what: str) -> BadInput:
    return BadInput(f"unknown {what} {name!r:.80}; known are {', '.join(known) or 'none'}")


def _shaped(raw: Mapping[str, Any], shape: type[T]) -> T:
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        raise BadInput(f"{path.strip('`').removeprefix('$.')}: {text}" if path else text) from None


def size(wanted: Wanted, max_n: int, default: int = 10) -> int:
    """How many items are wanted.

    Raises:
        BadInput: none, or more than are served.
    """
    n = default if wanted.n is None else wanted.n
    if not 1 <= n <= max_n:
        raise BadInput(f"n must be 1 to {max_n}, got {n}")
    return n


def filters(wanted: Wanted) -> Filters:
    """The filters that were asked for.

    Raises:
        BadInput: a price range that nothing can lie in.
    """
    low, high = wanted.price_min, wanted.price_max
    if low is not None and high is not None and low > high:
        raise BadInput(f"price_min must not be above price_max, got {low:g} and {high:g}")
    return Filters(
        categories=texts(wanted.category, "category"),
        brands=texts(wanted.brand, "brand"),
        price_min=low,
        price_max=high,
        in_stock=wanted.in_stock,
        attributes=_attributes(wanted.attributes),
    )


def texts(value: str | list[str], name: str) -> tuple[str, ...]:
    """One text or several as several; an empty one asks for nothing."""
    values = tuple([one for one in ([value] if isinstance(value, str) else value) if one])
    if len(values) > MAX_VALUES:
        raise BadInput(f"{name} takes at most {MAX_VALUES} values, got {len(values)}")
    return values


def _attributes(wanted: dict[str, Value | list[Value]]) -> dict[str, tuple[str, ...]]:
    if len(wanted) > MAX_VALUES:
        raise BadInput(f"at most {MAX_VALUES} attributes can be asked for, got {len(wanted)}")
    given = {name: values if isinstance(values, list) else [values] for name, values in wanted.items()}
    return {name: texts([_text(one) for one in values], name) for name, values in given.items()}


def _text(value: Value) -> str:
    """An attribute's value as text, so that 5, 5.0 and "5" ask for the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else value


def request_for(asked: Asked, recommendation_id: str, now_ms: int, max_n: int) -> Request:
    """What the engine is to be asked; items that are given to be ranked all come back unless `n` says fewer.

    Raises:
        BadInput: with what was got and what was wanted.
    """
    items = None if asked.items is None else _ids(asked.items, "items")
    if not 0.0 <= asked.diversity <= 1.0:
        raise BadInput(f"diversity must be 0 to 1, got {asked.diversity:g}")
    if len(asked.placement) > MAX_ID:
        raise BadInput(f"placement is longer than {MAX_ID} characters ({len(asked.placement)})")
    context = asked.context_items if asked.item_id is None else [asked.item_id, *asked.context_items]
    return Request(
        recommendation_id=recommendation_id,
        ts=now_ms,
        shopper=_shopper(asked),
        n=size(asked, max_n) if items is None else size(asked, max(max_n, len(items)), max(1, len(items))),
        placement=asked.placement or "default",
        items=items,
        context_items=_ids(context, "context_items"),
        exclude_items=_ids(asked.exclude, "exclude"),
        exclude_bought=asked.exclude_bought,
        filters=filters(asked),
        diversity=asked.diversity,
        explain=asked.explain,
    )


def _shopper(asked: Asked) -> str:
    for name in ("user_id", "visitor_id", "session"):
        value = getattr(asked, name)
        if value is not None and value != "":
            return _id(value, name)
    return ""


def _ids(values: list[Id], name: str) -> tuple[str, ...]:
    if len(values) > MAX_IDS:
        raise BadInput(f"{name} holds at most {MAX_IDS} ids, got {len(values)}")
    return tuple(dict.fromkeys([_id(value, name) for value in values]))


def _id(value: Id, name: str) -> str:
    text = value if isinstance(value, str) else str(value)
    if not 0 < len(text) <= MAX_ID:
        raise BadInput(f"{name}: an id has 1 to {MAX_ID} characters, got {len(text)}")
    return text
