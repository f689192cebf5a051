"""How the shoppers of an invented shop behave in one visit, from hidden tastes and a good deal of chance."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from core.ids import DAY_MS, MINUTE_MS, SECOND_MS
from evaluation.invented_goods import Product
from evaluation.invented_shelves import Shelves, Shopper, fit

CURRENCY: Final = "EUR"

_NOISE: Final = 0.12  # of the views have nothing to do with taste
_STAY: Final = 0.80  # after each view
_SEARCH, _LIST = 0.14, 0.30  # of the visits
_WISH, _LIKE = 0.03, 0.02  # of the views
_CART: Final = (0.03, 0.30)  # of the views: at no fit, and how much more at a perfect one
_REGRET, _CHECKOUT, _PAY = 0.08, 0.78, 0.80
_REVIEW, _REFUND, _ANSWER = 0.10, 0.03, 0.04  # of the bought items, of the purchases, of the purchases


class Visit:
    """One visit of one shopper: the events it leaves, some of them days later."""

    def __init__(self, random: Random, shelves: Shelves, shopper: Shopper, day: int, start_ms: int) -> None:
        self._random = random
        self._shelves = shelves
        self._shopper = shopper
        self._now = start_ms
        self._session = f"s-{shopper.visitor_id}-{start_ms:x}"
        self._number = 0
        self._basket: dict[str, int] = {}
        joins = shopper.joins_day is not None and day >= shopper.joins_day
        self._can_log_in = joins
        self._logged_in = joins and shopper.joined and random.random() > 0.15

    def browse(self) -> Iterator[dict[str, Any]]:
        """Look around by taste, carry some of it to the till."""
        kind = self._shelves.kind_for(self._shopper.taste)
        product = yield from self._arrive(kind)
        while product is not None:
            yield from self._look(product)
            if self._random.random() > _STAY:
                break
            product = self._next(product)
        yield from self._leave()

    def restock(self, item_id: str) -> Iterator[dict[str, Any]]:
        """Come back for what is used up: mostly the same, sometimes another of its kind."""
        used = self._shelves.products[item_id]
        same = self._shelves.on_sale(used) and self._random.random() < 0.7
        product = used if same else self._shelves.pick(used.kind.slug, self._shopper)
        if product is None:
            return
        yield self._event("view_item", [self._line(product)])
        yield from self._take(product)
        if self._random.random() < 0.5 and (other := self._next(product)) is not None:
            yield from self._look(other)
        yield from self._leave()

    def _arrive(self, kind: str) -> Generator[dict[str, Any], None, Product | None]:
        product = self._shelves.pick(kind, self._shopper)
        if product is None:
            return self._shelves.any()
        if self._random.random() < _SEARCH:
            yield self._event("search", search_term=product.kind.noun.lower())
        page = self._shelves.page(kind)
        if page and self._random.random() < _LIST:
            lines = [self._line(one) | {"index": index} for index, one in enumerate(page)]
            yield self._event("view_item_list", lines, placement="category")
            product = self._random.choices(page, [fit(one, self._shopper) for one in page])[0]
            yield self._event("select_item", [self._line(product)], placement="category")
        return product

    def _next(self, product: Product) -> Product | None:
        """More of the kind, what goes with it, something else that is liked, or anything."""
        chance = self._random.random()
        if chance < _NOISE:
            return self._shelves.any()
        if chance < 0.5:
            kind = product.kind.slug
        elif chance < 0.78:
            kind = self._random.choice(product.kind.goes_with)
        else:
            kind = self._shelves.kind_for(self._shopper.taste)
        return self._shelves.pick(kind, self._shopper) or self._shelves.any()

    def _look(self, product: Product) -> Iterator[dict[str, Any]]:
        yield self._event("view_item", [self._line(product)])
        if self._can_log_in and not self._shopper.joined and self._number >= 3:
            self._log_in()
        suits = fit(product, self._shopper)
        if self._random.random() < _LIKE * (1 + suits):
            yield self._event("like", [self._line(product)])
        if self._random.random() < _WISH:
            yield self._event("add_to_wishlist", [self._line(product)])
        if self._random.random() < _CART[0] + _CART[1] * suits:
            yield from self._take(product)

    def _take(self, product: Product) -> Iterator[dict[str, Any]]:
        pieces = self._random.choice((1, 1, 2, 3)) if product.kind.lasts_days else 1
        yield self._event("add_to_cart", [self._line(product) | {"quantity": pieces}])
        if self._random.random() < _REGRET:
            yield self._event("remove_from_cart", [self._line(product) | {"quantity": pieces}])
        else:
            self._basket[product.item_id] = self._basket.get(product.item_id, 0) + pieces

    def _leave(self) -> Iterator[dict[str, Any]]:
        if not self._basket or self._random.random() > _CHECKOUT:
            return
        yield self._event("begin_checkout", self._lines())
        if self._can_log_in:
            self._log_in()
        if self._random.random() < _PAY:
            yield from self._pay()

    def _pay(self) -> Iterator[dict[str, Any]]:
        bought = [self._shelves.products[item_id] for item_id in self._basket]
        sale = {"transaction_id": f"t-{self._session}", "currency": CURRENCY}
        value = round(sum(product.price * self._basket[product.item_id] for product in bought), 2)
        yield self._event("purchase", self._lines(), **sale, value=value)
        if self._random.random() < _ANSWER:
            yield self._event("satisfaction", rating=self._random.choice((3, 4, 4, 5, 5)))
        for product in bought:
            self._shopper.owned.add(product.item_id)
            if days := product.kind.lasts_days * self._basket[product.item_id] ** 0.5:
                self._shopper.runs_out.append(
                    (self._now + int(days * self._random.uniform(0.7, 1.4) * DAY_MS), product.item_id)
                )
        yield from self._afterwards(bought, sale)

    def _afterwards(self, bought: Sequence[Product], sale: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        self._now += self._random.randrange(3 * DAY_MS, 10 * DAY_MS)
        self._session += "-later"
        for product in bought:
            if self._random.random() < _REVIEW:
                stars = 2.6 + 2.4 * fit(product, self._shopper) ** 0.3 + self._random.gauss(0, 0.8)
                yield self._event("rating", [{"item_id": product.item_id}], rating=min(5, max(1, round(stars))))
                if stars < 2:
                    yield self._event("dislike", [{"item_id": product.item_id}])
        if self._random.random() < _REFUND:
            product = self._random.choice(bought)
            yield self._event("refund", [self._line(product)], **sale)

    def _log_in(self) -> None:
        self._logged_in = True
        self._shopper.joined = True

    def _lines(self) -> list[dict[str, Any]]:
        return [self._line(self._shelves.products[item_id]) | {"quantity": n} for item_id, n in self._basket.items()]

    def _line(self, product: Product) -> dict[str, Any]:
        return {"item_id": product.item_id, "price": product.price}

    def _event(self, name: str, items: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
        self._now += self._random.randrange(5 * SECOND_MS, 2 * MINUTE_MS)
        self._number += 1
        body: dict[str, Any] = {"name": name, "event_id": f"{self._session}-{self._number}", "ts": self._now}
        body |= {"visitor_id": self._shopper.visitor_id, "session_id": self._session}
        body |= {"user_id": self._shopper.user_id} if self._logged_in else {}
        return body | ({"items": list(items)} if items else {}) | more
