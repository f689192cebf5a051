"""The people of an invented shop and what they find on its shelves: attention of the day times hidden taste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random
from typing import Final

from core.ids import DAY_MS
from evaluation.invented_goods import Product

_LEVEL_FIT: Final = (1.0, 0.45, 0.12)  # by how many price levels an item is off
_OWNED_FIT: Final = 0.05  # of a thing that one has and that lasts
_SHOWN: Final = 8  # items of a category page


@dataclass(frozen=True, slots=True)
class Taste:
    """What a shopper likes; each mapping sums to 1."""

    categories: Mapping[str, float]
    styles: Mapping[str, float]
    level: int  # of price, 0 cheap … 2 dear


@dataclass(slots=True)
class Shopper:
    """A person. `joins_day` is when one who was anonymous logs in for the first time; None for never."""

    user_id: str
    visitor_id: str
    taste: Taste
    visits_a_day: float
    joins_day: int | None
    joined: bool = False
    owned: set[str] = field(default_factory=set)
    runs_out: list[tuple[int, str]] = field(default_factory=list)  # (ms, item id)

    @property
    def key(self) -> str:
        """The id that everything is known under in the end."""
        return self.visitor_id if self.joins_day is None else self.user_id


class Shelves:
    """The products, how much attention each draws today, and how one is chosen."""

    def __init__(self, random: Random, products: Sequence[Product], opened_ms: int) -> None:
        self._random = random
        self._opened_ms = opened_ms
        self.products: Final = {product.item_id: product for product in products}
        self._by_kind: dict[str, list[Product]] = {}
        self._kinds: dict[str, list[str]] = {}
        for product in products:
            if product.kind.slug not in self._by_kind:
                self._kinds.setdefault(product.kind.category, []).append(product.kind.slug)
            self._by_kind.setdefault(product.kind.slug, []).append(product)
        places = random.sample(range(len(products)), len(products))
        self._fame = {product.item_id: (place + 12) ** -0.7 for product, place in zip(products, places, strict=True)}
        self._heyday = {product.item_id: random.uniform(-40, 100) for product in products}
        self._weight: dict[str, float] = {}

    def wake(self, now_ms: int) -> None:
        """Set what draws attention on that day: fame, a trend that comes and goes, being new."""
        day = (now_ms - self._opened_ms) / DAY_MS
        for item_id, product in self.products.items():
            age = (now_ms - product.launched_ms) / DAY_MS
            trend = 1.0 + 2.5 * exp(-(((day - self._heyday[item_id]) / 6) ** 2))
            news = 1.0 + 2.0 * exp(-age / 7) if product.launched_ms > self._opened_ms and age >= 0 else 1.0
            self._weight[item_id] = self._fame[item_id] * trend * news if age >= 0 and product.in_stock else 0.0

    def kind_for(self, taste: Taste) -> str:
        category = self._random.choices(list(taste.categories), list(taste.categories.values()))[0]
        return self._random.choice(self._kinds.get(category) or list(self._by_kind))

    def pick(self, kind: str, shopper: Shopper) -> Product | None:
        """One of the kind, by attention and taste; None where there is nothing to be had."""
        some = self._by_kind.get(kind, [])
        weights = [self._weight[one.item_id] * fit(one, shopper) for one in some]
        return self._random.choices(some, weights)[0] if sum(weights) > 0 else None

    def any(self) -> Product | None:
        """One that is noticed, whatever the taste."""
        if sum(self._weight.values()) <= 0:
            return None
        return self.products[self._random.choices(list(self._weight), list(self._weight.values()))[0]]

    def page(self, kind: str) -> list[Product]:
        """What the page of the kind shows: the most noticed first."""
        there = [one for one in self._by_kind.get(kind, []) if self.on_sale(one)]
        return sorted(there, key=lambda one: -self._weight[one.item_id])[:_SHOWN]

    def on_sale(self, product: Product) -> bool:
        return self._weight[product.item_id] > 0


def fit(product: Product, shopper: Shopper) -> float:
    """How well a product suits, 0 to 1, whatever its category."""
    suits = shopper.taste.styles[product.style] * _LEVEL_FIT[abs(product.level - shopper.taste.level)]
    return suits * _OWNED_FIT if product.item_id in shopper.owned and not product.kind.lasts_days else suits
