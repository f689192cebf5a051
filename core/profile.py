"""What is known of a shopper: recent acts, a memory per item, sessions and baskets.

Items and times only, never vectors: a new encoder needs no back-fill. Everything is bounded
by `ProfileSettings`. The structs are array-like to keep stored profiles small.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec


class Act(IntEnum):
    """What a shopper did with an item, weakest first; the order is the strength in a session."""

    SHOWN = 0
    VIEW = 1
    CLICK = 2  # of a recommended or listed item
    WISH = 3
    CART = 4
    BUY = 5


ACT_OF: Final = {
    "view_item_list": Act.SHOWN,
    "view_item": Act.VIEW,
    "select_item": Act.CLICK,
    "add_to_wishlist": Act.WISH,
    "add_to_cart": Act.CART,
    "purchase": Act.BUY,
}


class Touch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One recent act. `ts` in ms."""

    item: str
    act: int
    ts: int


class Memory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that one shopper ever did with one item. Times in ms, 0 for never."""

    views: int = 0
    clicks: int = 0
    carts: int = 0
    buys: int = 0  # baskets that held it, not pieces
    units: float = 0.0
    shown: int = 0  # lists shown since the last click, view or buy
    first: int = 0
    last: int = 0
    first_buy: int = 0
    last_buy: int = 0
    opinion: float = 0.0  # -1 disliked or hidden … 1 liked; a rating r gives (r - 3) / 2
    hidden: bool = False


class Session(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What happened until 30 minutes passed with nothing; `items` holds each item's strongest act."""

    id: str
    start: int
    last: int
    items: dict[str, int]


class Profile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State of the profile step and value of the topic `profiles`; one a shopper.

    `touches` and `sessions` are oldest first. `seen` holds hashes of recent event ids.
    """

    v: int = 1
    first: int = 0
    last: int = 0
    touches: tuple[Touch, ...] = ()
    memory: dict[str, Memory] = {}
    sessions: tuple[Session, ...] = ()
    baskets: int = 0  # how many, ever
    basket_items: int = 0  # lines over all baskets, for the mean size
    first_basket: int = 0
    last_basket: int = 0
    searches: tuple[str, ...] = ()
    seen: tuple[int, ...] = ()
    linked: dict[str, str] = {}  # visitor id → session in which it was merged into this user


NOBODY: Final = Profile()
