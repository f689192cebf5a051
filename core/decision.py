"""A recommendation that was made, and what came of it."""

from __future__ import annotations

import msgspec


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items may be answered. Empty means no limit; an item passes when it meets all that is given."""

    categories: tuple[str, ...] = ()  # any of these paths, or a path below one
    brands: tuple[str, ...] = ()
    price_min: float | None = None
    price_max: float | None = None
    in_stock: bool = True  # out-of-stock items are left out unless this is false
    attributes: dict[str, tuple[str, ...]] = {}  # name → any of these values


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of `recommend`. `ts` is now, in ms; `items`, when given, are to be ranked as they are."""

    recommendation_id: str
    ts: int
    shopper: str = ""
    n: int = 10
    placement: str = "default"
    items: tuple[str, ...] | None = None
    context_items: tuple[str, ...] = ()  # on the page the list is for: a product, a basket
    exclude_items: tuple[str, ...] = ()
    exclude_bought: bool = False
    filters: Filters = Filters()
    diversity: float = 0.0  # 0 by relevance alone … 1 as different as can be
    explain: bool = False


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an item is in the list, for a person to read, and the item or category it rests on."""

    code: str  # viewed, bought_with, seen_with, again, similar, sessions, trending, new
    text: str
    item_id: str = ""


class Ranked(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of an answer. `channels` maps a channel to (rank from 1, score)."""

    item_id: str
    score: float
    reasons: tuple[Reason, ...] = ()
    channels: dict[str, tuple[int, float]] = {}
    propensity: float = 1.0  # probability of being shown in this place, given the request
    rules: tuple[str, ...] = ()
    features: dict[str, float] = {}  # filled when the request asks for an explanation


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A served list, as logged: value of the topic `decisions`.

    `pool` names the rows of `features`: the shown items first, in order, then a sample of the
    candidates that were not shown. `features` is float32, row-major, `len(pool)` rows of the
    columns that `schema` hashes.
    """

    v: int = 1
    recommendation_id: str
    ts: int
    shopper: str
    placement: str
    bundle: str
    ranker: str  # "blend" before there is a trained one
    arm: str = ""
    items: tuple[Ranked, ...]
    pool: tuple[str, ...] = ()
    schema: str = ""
    features: bytes = b""


class Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What followed a decision within the window: a record of `labelled`, keyed by shopper.

    `shown` says whether the item stood in the list; a bought item that did not is a label too.
    """

    v: int
    recommendation_id: str
    item: str
    outcome: str  # click, view, cart, buy, like, dislike, hide
    ts: int
    delay_ms: int
    shown: bool


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision whose window has not passed: part of the attribution state."""

    recommendation_id: str
    ts: int
    items: tuple[str, ...]


class Early(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An act that names a decision which has not been heard of: the two come by ways of their own.

    `mark` is the hash of the act's event id.
    """

    recommendation_id: str
    mark: int
    ts: int
    outcome: str
    items: tuple[str, ...]


class Attribution(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State of the attribution step; one a shopper.

    `open` is oldest first; `seen` holds hashes of the ids of the latest acts that were attributed.
    """

    v: int = 1
    open: tuple[Open, ...] = ()
    seen: tuple[int, ...] = ()
    early: tuple[Early, ...] = ()
