"""What is answered, as structs: msgspec writes them and the OpenAPI page describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from core.catalogue import Attribute, Item
from core.decision import Decision, Ranked, Reason
from core.profile import Profile
from gateway.faults import Fault
from gateway.ports import Engine, KnownShopper


class Found(msgspec.Struct, frozen=True):
    """Where a channel had an item: `rank` from 1, and the channel's own score."""

    rank: int
    score: float


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a list: the item, why it stands there, and what a page needs to show it.

    `channels` and `features` are filled where an explanation was asked for.
    """

    item_id: str
    score: float
    reasons: tuple[Reason, ...] = ()
    title: str = ""
    price: float | None = None
    url: str = ""
    image: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()
    in_stock: bool = True
    attributes: dict[str, Attribute] = {}
    channels: dict[str, Found] = {}
    rules: tuple[str, ...] = ()
    features: dict[str, float] = {}


class Recommendations(msgspec.Struct, frozen=True):
    """A personal list. Send `recommendation_id` back with the events that follow from it."""

    recommendation_id: str
    bundle: str
    ranker: str
    items: list[Listed]
    took_ms: float


class Listing(msgspec.Struct, frozen=True):
    """A list that is the same for everybody."""

    items: list[Listed]
    took_ms: float


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event or item that cannot be used: its place in the call, counted from 0, and why."""

    index: int
    reason: str
    event_id: str = ""


class Written(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a call: how many are in the log for good, and what is not. `error` where none is."""

    accepted: int
    refused: list[Refusal] = []
    error: Fault | None = None


class Categories(msgspec.Struct, frozen=True):
    """Every category path in use."""

    categories: list[str]


class Shop(msgspec.Struct, frozen=True):
    """What a page needs to know of the shop. `max_n` is the longest list served."""

    name: str
    currency: str
    max_n: int


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process answers; with `details=true` also what it and the engine are doing."""

    status: str
    engine: dict[str, Any] = {}
    gateway: dict[str, Any] = {}


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """`status` is ready or waiting; `reason` says for what."""

    status: str
    reason: str = ""


class Shoppers(msgspec.Struct, frozen=True):
    """Shoppers of the demonstration; none where it does not run as one."""

    shoppers: list[KnownShopper]


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one shopper did with one item."""

    item_id: str
    last: int
    title: str = ""
    views: int = 0
    clicks: int = 0
    carts: int = 0
    buys: int = 0
    opinion: float = 0.0
    hidden: bool = False
    attributes: dict[str, Attribute] = {}


class Known(msgspec.Struct, frozen=True):
    """What is kept of a shopper: most recent items first, times in ms."""

    shopper: str
    first: int
    last: int
    sessions: int
    baskets: int
    searches: tuple[str, ...]
    items: list[Remembered]


_NOTHING = Item(item_id="", since=0, ts=0)


def listed(engine: Engine, ranked: Sequence[Ranked], *, explain: bool = False) -> list[Listed]:
    """The places of a list with what the catalogue says of them."""
    return [_place(one, engine.item(one.item_id) or _NOTHING, explain=explain) for one in ranked]


def _place(one: Ranked, item: Item, *, explain: bool) -> Listed:
    return Listed(
        one.item_id,
        one.score,
        one.reasons,
        item.title,
        item.price,
        item.url,
        item.image,
        item.brand,
        item.categories,
        item.in_stock,
        item.attributes,
        {name: Found(rank, score) for name, (rank, score) in one.channels.items()} if explain else {},
        one.rules if explain else (),
        one.features if explain else {},
    )


def recommendations(engine: Engine, decision: Decision, took_ms: float, *, explain: bool) -> Recommendations:
    """A decision as the caller sees it."""
    return Recommendations(
        decision.recommendation_id,
        decision.bundle,
        decision.ranker,
        listed(engine, decision.items, explain=explain),
        took_ms,
    )


def known(engine: Engine, shopper: str, profile: Profile, most: int) -> Known:
    """The `most` items a shopper touched last, and what else is kept."""
    recent = sorted(profile.memory.items(), key=lambda entry: (-entry[1].last, entry[0]))[:most]
    items = []
    for item_id, memory in recent:
        item = engine.item(item_id) or _NOTHING
        acts = (memory.views, memory.clicks, memory.carts, memory.buys, memory.opinion, memory.hidden)
        items.append(Remembered(item_id, memory.last, item.title, *acts, item.attributes))
    return Known(shopper, profile.first, profile.last, len(profile.sessions), profile.baskets, profile.searches, items)
