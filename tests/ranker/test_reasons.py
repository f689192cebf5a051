"""A reason is a statement about what happened; here each one is held against the events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from core.decision import Reason
from core.ids import DAY_MS, HOUR_MS, MINUTE_MS, coin
from tests.ranker.tiny import NOW, TinyShop

ITEMS = [f"{colour} {thing}" for colour in ("green", "red", "blue", "old") for thing in ("tea", "bike", "hose", "cup")]


class Witnessed:
    """A shop, and a record of its own of who did what."""

    def __init__(self, seed: int) -> None:
        self.shop = TinyShop(text=True)
        self.did: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # shopper → event → items
        self.since: dict[str, int] = {}
        for n, name in enumerate(ITEMS):
            self.since[name] = NOW - (3 if n % 5 == 0 else 200) * DAY_MS
            self.shop.sell(name, ts=self.since[name], categories=[f"Root > Leaf {n % 3}"])
        names = ("view_item", "view_item", "select_item", "add_to_cart", "purchase")
        for n in range(150):
            shopper, item = f"u{int(coin(f'{seed}-w{n}') * 6)}", ITEMS[int(coin(f"{seed}-i{n}") * (len(ITEMS) - 1))]
            name = names[int(coin(f"{seed}-n{n}") * len(names))]
            self.shop.tell(name, shopper, item, ts=NOW - 10 * HOUR_MS + n * MINUTE_MS)
            self.did[name][shopper].add(item)

    def touched(self, shopper: str) -> set[str]:
        return set.union(*[of[shopper] for of in self.did.values()])

    def met(self, one: str, other: str, shoppers: Callable[[str], set[str]]) -> bool:
        """Whether some shopper had to do with both."""
        return any({one, other} <= shoppers(f"u{n}") for n in range(6))

    def true(self, shopper: str, item: str, reason: Reason, context: tuple[str, ...]) -> bool:
        viewed = self.did["view_item"][shopper] | self.did["select_item"][shopper]
        carted, bought = self.did["add_to_cart"][shopper], self.did["purchase"][shopper]
        source = reason.item_id
        known = source in self.touched(shopper) | set(context)
        checks: dict[str, Callable[[], bool]] = {
            "again": lambda: item in bought,
            "carted": lambda: item in carted,
            "looked": lambda: item in viewed,
            "viewed": lambda: source in viewed | set(context) and self.met(item, source, self.touched),
            "seen_with": lambda: known and source not in viewed and self.met(item, source, self.touched),
            "bought_with": lambda: known and self.met(item, source, lambda u: self.did["purchase"][u]),
            "carted_with": lambda: (
                known and self.met(item, source, lambda u: self.did["add_to_cart"][u] | self.did["purchase"][u])
            ),
            "similar": lambda: known and source != item,
            "sessions": lambda: any(item in self.touched(f"u{n}") for n in range(6) if f"u{n}" != shopper),
            "trending": lambda: any(item in self.touched(f"u{n}") for n in range(6)),
            "new": lambda: NOW - self.since[item] <= 14 * DAY_MS,
        }
        return checks[reason.code]()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("context", [(), ("red tea",)])
def test_every_reason_is_true(seed: int, context: tuple[str, ...]) -> None:
    seen = Witnessed(seed)
    codes = set()
    for shopper in [f"u{n}" for n in range(6)] + ["nobody"]:
        for one in seen.shop.ask(shopper, n=16, context_items=context).items:
            for reason in one.reasons:
                assert seen.true(shopper, one.item_id, reason, context), (shopper, one.item_id, reason)
                assert not reason.item_id or reason.item_id in reason.text, "the text names the item it rests on"
                assert reason.item_id != one.item_id
                codes.add(reason.code)
    assert len(codes) >= 5


def reasons(shop: TinyShop, item: str, shopper: str = "u", **fields: Any) -> dict[str, Reason]:
    (found,) = [one for one in shop.ask(shopper, n=50, **fields).items if one.item_id == item]
    return {reason.code: reason for reason in found.reasons}


def test_because_you_viewed_names_the_item_the_shopper_viewed() -> None:
    shop = TinyShop()
    shop.sell("a", title="Green tea")
    shop.sell("b")
    shop.view("w", "a", "b")
    shop.view("u", "a")
    assert reasons(shop, "b")["viewed"] == Reason("viewed", "because you viewed Green tea", "a")


def test_somebody_who_never_viewed_an_item_is_not_told_so() -> None:
    shop = TinyShop()
    shop.view("w", "a", "b")
    shop.buy("u", "a")
    found = reasons(shop, "b")
    assert "viewed" not in found
    assert found["seen_with"].item_id == "a"


def test_what_was_bought_before_is_said_to_be() -> None:
    shop = TinyShop()
    shop.buy("u", "a")
    shop.view("u", "b")
    shop.tell("add_to_cart", "u", "c")
    assert reasons(shop, "a")["again"].text == "you bought this before"
    assert "looked" in reasons(shop, "b")
    assert "carted" in reasons(shop, "c")


def test_often_bought_with_names_the_item_of_the_page() -> None:
    shop = TinyShop()
    shop.buy("w", "a", "b")
    assert reasons(shop, "b", "nobody", context_items=("a",))["bought_with"].item_id == "a"


def test_a_stranger_is_told_what_is_new_and_what_trends() -> None:
    shop = TinyShop()
    shop.sell("fresh", ts=NOW - DAY_MS)
    shop.sell("liked", categories=["Kitchen > Cups"])
    shop.view("w", "liked")
    assert set(reasons(shop, "fresh", "nobody")) == {"new"}
    assert reasons(shop, "liked", "nobody")["trending"].text == "trending in Cups"


def test_an_item_no_channel_brought_has_no_reason() -> None:
    shop = TinyShop()
    shop.sell("a")
    assert reasons(shop, "a") == {}


def test_there_are_at_most_two_reasons_and_each_of_its_own_kind() -> None:
    seen = Witnessed(9)
    for one in seen.shop.ask("u0", n=16).items:
        codes = [reason.code for reason in one.reasons]
        assert len(codes) <= 2
        assert len(codes) == len(set(codes))
