"""A shop in memory: the log is a list, the engine counts what each shopper did in each category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from core.catalogue import Item, ItemChange, apply_change, path_and_parents
from core.decision import Decision, Filters, Ranked, Reason, Request
from core.errors import Missing, Unavailable
from core.events import Event
from core.profile import Memory, Profile
from gateway.ports import KnownShopper, Refused

NOW = 1_750_000_000_000
WEIGHTS = {"view_item": 1.0, "select_item": 0.5, "add_to_cart": 2.0, "purchase": 2.0, "like": 2.0, "dislike": -2.0}

# title | category | brand | price | emoji | hue
PRODUCTS = """
Sencha from Uji, first flush|Tea & Coffee > Tea|Kitsune|14.50|🍵|140
Smoked Lapsang, loose leaf|Tea & Coffee > Tea|Kitsune|11.00|🍂|30
Chamomile and lemon balm|Tea & Coffee > Tea|Meadow|7.90|🌼|85
Cast-iron teapot, 0.8 l|Tea & Coffee > Brewing|Ember|49.00|🫖|250
Hand grinder, conical burrs|Tea & Coffee > Brewing|Pascal|64.00|⚙️|60
Moka pot for three|Tea & Coffee > Brewing|Pascal|32.00|☕|20
Ethiopia Guji, washed|Tea & Coffee > Coffee|North Roast|13.80|🫘|35
Decaf from Colombia|Tea & Coffee > Coffee|North Roast|12.40|🌙|270
Stoneware mug, speckled|Kitchen > Tableware|Lehm|18.00|🥣|70
Olive-wood spoon|Kitchen > Tools|Oliva|9.50|🥄|90
Chef's knife, 20 cm|Kitchen > Tools|Ember|89.00|🔪|230
Linen tea towels, two|Kitchen > Textiles|Lino|16.00|🧺|110
Sourdough starter kit|Kitchen > Baking|Lehm|24.00|🍞|50
Rolling pin in beech|Kitchen > Baking|Oliva|15.00|🥐|45
Salad bowl, wide|Kitchen > Tableware|Lehm|38.00|🥗|130
Chilli plant, hot|Garden > Plants|Meadow|6.50|🌶️|10
Basil in a pot|Garden > Plants|Meadow|3.20|🌿|145
Lavender, hardy|Garden > Plants|Meadow|5.90|🪻|290
Copper watering can|Garden > Tools|Brook|42.00|🪴|25
Pruning shears|Garden > Tools|Brook|27.00|✂️|170
Wildflower seeds|Garden > Seeds|Meadow|4.40|🌻|80
Tomato seeds, old sorts|Garden > Seeds|Meadow|3.90|🍅|15
Bee hotel|Garden > Wildlife|Brook|29.00|🐝|75
Fountain pen, fine|Desk > Writing|Marlow|36.00|🖋️|220
Ink, river blue|Desk > Writing|Marlow|12.00|💧|210
Notebook, dotted A5|Desk > Paper|Marlow|11.00|📓|320
Letter paper, laid|Desk > Paper|Marlow|9.00|✉️|40
Brass desk lamp|Desk > Light|Ember|119.00|💡|65
Cork board|Desk > Order|Oliva|22.00|📌|5
Wool blanket|Outdoors > Camp|Fell|75.00|🐑|30
Enamel camping mug|Outdoors > Camp|Fell|12.50|🏕️|200
Storm lantern|Outdoors > Camp|Fell|44.00|🏮|12
Trail map of the fells|Outdoors > Walk|Fell|14.00|🗺️|155
Rain shell, light|Outdoors > Walk|Fell|139.00|🧥|240
Merino socks, pair|Outdoors > Walk|Fell|19.00|🧦|330
Pocket binoculars|Outdoors > Watch|Brook|98.00|🔭|260
Wooden train, eight parts|Play > Toys|Oliva|34.00|🚂|0
Kite, delta|Play > Outside|Brook|26.00|🪁|195
Jigsaw, night sky|Play > Puzzles|Marlow|21.00|🧩|280
Dominoes in a box|Play > Puzzles|Oliva|17.00|🁫|100
Watercolours, twelve|Play > Art|Marlow|28.00|🎨|345
Harmonica in C|Play > Music|Pascal|31.00|🎶|300
"""


def catalogue() -> list[Item]:
    """Forty-two products with readable names."""
    items = []
    for n, line in enumerate(PRODUCTS.strip().splitlines()):
        title, category, brand, price, emoji, hue = line.split("|")
        items.append(
            Item(
                item_id=f"p{n:02d}",
                since=NOW - n * 1_000,
                ts=NOW,
                title=title,
                description=f"{title}: made by {brand}, chosen for those who use it every day.",
                categories=(category,),
                brand=brand,
                price=float(price),
                attributes={"emoji": emoji, "hue": float(hue)},
            )
        )
    return items


class Log:
    """A writer that keeps everything in lists and can be told to be down."""

    def __init__(self) -> None:
        self.events_in: list[Event] = []
        self.items_in: list[ItemChange] = []
        self.refused: list[Refused] = []
        self.down = False
        self.listeners: list[Callable[[Event], None]] = []
        self.item_listeners: list[Callable[[ItemChange], None]] = []

    async def events(self, accepted: Sequence[Event], refused: Sequence[Refused]) -> None:
        self._check()
        self.refused += refused
        known = {event.event_id for event in self.events_in}
        for event in accepted:
            if event.event_id not in known:
                known.add(event.event_id)
                self.events_in.append(event)
                for listener in self.listeners:
                    listener(event)

    async def items(self, accepted: Sequence[ItemChange], refused: Sequence[Refused]) -> None:
        self._check()
        self.items_in += accepted
        self.refused += refused
        for change in accepted:
            for listener in self.item_listeners:
                listener(change)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("the log is full")


class Shop:
    """An engine whose lists follow the categories a shopper touched."""

    def __init__(self, log: Log, items: list[Item]) -> None:
        self.stock = {item.item_id: item for item in items}
        self.asked: list[Request] = []
        self.waiting: str | None = None
        self.broken: Exception | None = None
        self.memories: dict[str, dict[str, Memory]] = defaultdict(dict)
        self.tastes: dict[str, dict[str, tuple[float, str]]] = defaultdict(dict)
        self.sold: dict[str, float] = defaultdict(float)
        log.listeners.append(self.learn)
        log.item_listeners.append(self.change)
        self.log = log

    def learn(self, event: Event) -> None:
        for line in event.items:
            item = self.stock.get(line.item_id)
            if item is None or event.name not in {*WEIGHTS, "hide"}:
                continue
            memory = self.memories[event.shopper].get(line.item_id, Memory())
            self.memories[event.shopper][line.item_id] = Memory(
                views=memory.views + (event.name == "view_item"),
                carts=memory.carts + (event.name == "add_to_cart"),
                buys=memory.buys + (event.name == "purchase"),
                last=event.ts,
                opinion=1.0 if event.name == "like" else memory.opinion,
                hidden=memory.hidden or event.name == "hide",
            )
            weight = WEIGHTS.get(event.name, 0.0)
            self.sold[line.item_id] += weight
            for path in path_and_parents(_path(item)):
                had, _ = self.tastes[event.shopper].get(path, (0.0, ""))
                self.tastes[event.shopper][path] = (had * 0.8 + weight, line.item_id)

    def change(self, change: ItemChange) -> None:
        item = apply_change(self.stock.get(change.item_id), change)
        if item is None:
            self.stock.pop(change.item_id, None)
        else:
            self.stock[change.item_id] = item

    def recommend(self, request: Request) -> Decision:
        if self.broken:
            raise self.broken
        self.asked.append(request)
        memories = self.memories[request.shopper]
        pool = [self.stock[one] for one in request.items if one in self.stock] if request.items is not None else None
        ranked = []
        for item in self._allowed(request.filters) if pool is None else pool:
            memory = memories.get(item.item_id, Memory())
            if memory.hidden or item.item_id in request.exclude_items or (request.exclude_bought and memory.buys):
                continue
            score, reason = self._score(request.shopper, item)
            ranked.append(
                Ranked(
                    item.item_id,
                    score - 0.6 * (memory.views > 0),
                    (reason,),
                    {"taste": (1, score)},
                    features={"taste": score} if request.explain else {},
                )
            )
        ranked.sort(key=lambda one: (-one.score, one.item_id))
        return Decision(
            recommendation_id=request.recommendation_id,
            ts=request.ts,
            shopper=request.shopper,
            placement=request.placement,
            bundle="fake-1",
            ranker="blend",
            items=tuple(ranked[: request.n]),
        )

    def _score(self, shopper: str, item: Item) -> tuple[float, Reason]:
        best, seed = max(
            (self.tastes[shopper].get(path, (0.0, "")) for path in path_and_parents(_path(item))),
            key=lambda taste: taste[0],
        )
        popular = self.sold[item.item_id] * 0.01 - int(item.item_id[1:]) * 0.001 if item.item_id[1:].isdigit() else 0.0
        if best > 0:
            seed_title = self.stock[seed].title if seed in self.stock else seed
            return best + popular, Reason("viewed", f"because you viewed {seed_title}", seed)
        top = _path(item).split(" > ")[0]
        return popular, Reason("trending", f"trending in {top}")

    def similar(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        item = self._known(item_id)
        top = _path(item).split(" > ")[0]
        found = [one for one in self._allowed(filters) if _path(one).startswith(top) and one is not item]
        return [Ranked(one.item_id, 0.9 - place / 100, (Reason("similar", f"like {item.title}", item_id),))
                for place, one in enumerate(found[:n])]  # fmt: skip

    def together(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        item = self._known(item_id)
        found = [one for one in self._allowed(filters) if one.brand == item.brand and one is not item]
        return [Ranked(one.item_id, 1.0 / (place + 1), (Reason("bought_with", f"bought with {item.title}", item_id),))
                for place, one in enumerate(found[:n])]  # fmt: skip

    def trending(self, n: int, category: str | None, now_ms: int, filters: Filters) -> list[Ranked]:
        found = [
            item
            for item in self._allowed(filters)
            if category is None or any(category in path_and_parents(path) for path in item.categories)
        ]
        found.sort(key=lambda item: (-self.sold[item.item_id], item.item_id))
        return [Ranked(one.item_id, self.sold[one.item_id]) for one in found[:n]]

    def search(self, text: str, n: int, filters: Filters) -> list[Ranked]:
        words = text.lower().split()
        found = [(sum(word in f"{i.title} {_path(i)}".lower() for word in words), i) for i in self._allowed(filters)]
        found.sort(key=lambda entry: (-entry[0], entry[1].item_id))
        return [Ranked(item.item_id, float(score)) for score, item in found[:n] if score]

    def item(self, item_id: str) -> Item | None:
        return self.stock.get(item_id)

    def categories(self) -> list[str]:
        paths = {path for item in self.stock.values() for whole in item.categories for path in path_and_parents(whole)}
        return sorted(paths)

    def ready(self) -> str | None:
        return self.waiting

    def describe(self) -> dict[str, Any]:
        return {
            "bundle": "fake-1",
            "ranker": "blend",
            "encoder": "none",
            "items": len(self.stock),
            "shoppers": len(self.memories),
            "vectors": len(self.stock),
            "events": len(self.log.events_in),
            "lag_events": 0,
            "lag_ms": 3.0,
            "dead_letters": [
                {"ts": NOW, "reason": one.reason, "raw": one.raw.decode("utf-8", "replace")[:200]}
                for one in reversed(self.log.refused[-20:])
            ],
            "jobs": {
                "running": {"what": "ranker", "begun_ms": NOW, "work": "rehearsing the log", "done": 1, "total": 4},
                "runs": [
                    {"what": "encoder", "begun_ms": NOW - 90_000, "ended_ms": NOW, "result": "refused", "why": "worse"}
                ],
            },
        }

    def _known(self, item_id: str) -> Item:
        if item_id not in self.stock:
            raise Missing(f"unknown item {item_id!r}")
        return self.stock[item_id]

    def _allowed(self, filters: Filters) -> list[Item]:
        return [item for item in self.stock.values() if _passes(item, filters)]


def _path(item: Item) -> str:
    return item.categories[0] if item.categories else "Anything"


def _passes(item: Item, filters: Filters) -> bool:
    paths = {path for whole in item.categories for path in path_and_parents(whole)}
    price = item.price or 0.0
    return (
        (item.in_stock or not filters.in_stock)
        and (not filters.categories or bool(paths & set(filters.categories)))
        and (not filters.brands or item.brand in filters.brands)
        and (filters.price_min is None or price >= filters.price_min)
        and (filters.price_max is None or price <= filters.price_max)
        and all(str(item.attributes.get(name)) in values for name, values in filters.attributes.items())
    )


class Guests:
    """Three shoppers to be, and what the engine keeps of anybody."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def shoppers(self) -> list[KnownShopper]:
        return [
            KnownShopper("ada", "Ada", "tea and letters"),
            KnownShopper("bo", "Bo", "garden, early mornings"),
            KnownShopper("chen", "Chen", "walks in any weather"),
        ]

    def profile(self, shopper: str) -> Profile:
        memory = self._shop.memories.get(shopper, {})
        return Profile(first=NOW, last=NOW, memory=memory)
