"""What an invented shop sells: products with names, words, prices and a hidden group of taste."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations
from random import Random
from typing import Any, Final

from core.errors import BadInput
from evaluation.invented_words import ADJECTIVES, BRANDS, CHARACTER, COLOURS, KINDS, STYLES, Kind

_ADJECTIVES_A_STYLE: Final = 4
_OTHER_BRAND: Final = 0.2  # of the products, so that a brand hints at a style and no more
_OUT_OF_STOCK: Final = 0.02


@dataclass(frozen=True, slots=True)
class Product:
    """A product. `style` and `level` (0 cheap … 2 dear) are what tastes are about; the catalogue does not tell them."""

    item_id: str
    kind: Kind
    style: str
    level: int
    title: str
    description: str
    brand: str
    price: float
    in_stock: bool
    material: str
    colour: str
    hue: int  # degrees, to draw the product's tile
    launched_ms: int

    @property
    def group(self) -> str:
        """Category and style: what a shopper who likes one of them also likes."""
        return f"{self.kind.category}/{self.style}"

    def body(self) -> dict[str, Any]:
        """As POST /v1/items takes it."""
        attributes = {"emoji": self.kind.emoji, "hue": self.hue, "material": self.material}
        return {
            "item_id": self.item_id,
            "ts": self.launched_ms,
            "title": self.title,
            "description": self.description,
            "categories": [self.kind.path],
            "brand": self.brand,
            "price": self.price,
            "in_stock": self.in_stock,
            "attributes": attributes | ({"colour": self.colour} if self.kind.coloured else {}),
        }


def products(random: Random, count: int, launches_ms: Sequence[int]) -> list[Product]:
    """So many products, spread evenly over kinds, styles and price levels; no two have the same title.

    Args:
        random: the only source of chance.
        count: how many.
        launches_ms: one moment a product, in no order.

    Raises:
        BadInput: more products than names can be made for.
    """
    names = {kind.slug: _names(random, kind) for kind in KINDS}
    most = sum(map(len, names.values()))
    if not 0 < count <= most:
        raise BadInput(f"an invented shop has 1 to {most} items, got {count}")
    found: list[Product] = []
    while len(found) < count:
        for kind in KINDS:
            if names[kind.slug] and len(found) < count:
                number = len(found) // len(KINDS)
                found.append(_product(random, kind, number, names[kind.slug].pop(), launches_ms[len(found)]))
    return found


def _names(random: Random, kind: Kind) -> list[tuple[int, int, str, int]]:
    """Every (style, adjective, material, size) of a kind in an order that goes round the styles."""
    by_style = []
    for style in range(len(STYLES)):
        names = list(combinations([style], range(_ADJECTIVES_A_STYLE), kind.materials, range(len(kind.sizes))))
        random.shuffle(names)
        by_style.append(names)
    random.shuffle(by_style)
    return [name for around in zip(*by_style, strict=True) for name in around]


def _product(random: Random, kind: Kind, number: int, name: tuple[int, int, str, int], launched_ms: int) -> Product:
    style, adjective, material, size = name
    level = random.randrange(3)
    colour, hue = random.choice(COLOURS[style])
    words = f"{ADJECTIVES[kind.family][style][adjective]} {material} {kind.noun}"
    brands = BRANDS[style if random.random() >= _OTHER_BRAND else random.randrange(len(STYLES))]
    return Product(
        item_id=f"{kind.slug}-{number + 1:02d}",
        kind=kind,
        style=STYLES[style],
        level=level,
        title=f"{words}{f' in {colour}' if kind.coloured else ''}, {kind.sizes[size]}",
        description=f"{kind.use} {random.choice(CHARACTER[style])}",
        brand=random.choice(brands),
        price=_price(kind, (level + random.random()) / 3 * (1.0 if size else 0.85)),
        in_stock=random.random() >= _OUT_OF_STOCK,
        material=material,
        colour=colour,
        hue=(hue + random.randrange(-8, 9)) % 360,
        launched_ms=launched_ms,
    )


def _price(kind: Kind, place: float) -> float:
    """A price as shops write it, `place` of the way from the kind's lowest to its highest."""
    low, high = kind.price
    price: float = low * (high / low) ** place
    return math.floor(price) + 0.9 if price >= 15 else round(price * 2) / 2
