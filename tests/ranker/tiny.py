"""A tiny shop in memory: the steps, the live arrays they feed, and text vectors from the words of a title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, parse_change
from core.decision import Decision, Request
from core.events import parse
from core.ids import DAY_MS, MINUTE_MS, hash64
from core.profile import Profile
from core.settings import Settings
from ranker.live import Live
from ranker.model import Ranker
from ranker.recommend import Snapshot, recommend
from ranker.space import Space
from streams.runner import Runner
from streams.topology import build

NOW = 1_750_000_000_000
DIM = 32
SPACE = "words"


def vector_of(text: str) -> NDArray[np.float32]:
    """A unit vector whose directions are the words of a text: texts with a word in common are alike."""
    vector = np.zeros(DIM, np.float32)
    for word in text.lower().split() or ["nothing"]:
        vector[hash64(word) % DIM] += 1.0
    return vector / np.linalg.norm(vector)


class TinyShop:
    """What a gateway holds, fed message by message."""

    def __init__(self, settings: Settings | None = None, *, text: bool = False) -> None:
        self.settings = settings or Settings()
        self.live = Live(self.settings)
        space = Space(SPACE, DIM, self.settings.index) if text else None
        self.snapshot = Snapshot(self.settings, self.live, space)
        self.emitted: list[tuple[str, str, Any]] = []
        self.published: list[tuple[str, str, Any]] = []
        self.runner = Runner(build(self.settings), self._publish, lambda *output: self.emitted.append(output))
        self._events = 0

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.published.append((topic, key, value))
        self.live.offer(topic, key, value)
        if topic == "catalogue" and self.snapshot.space is not None:
            if value is None:
                self.snapshot.space.remove([key])
            else:
                self.snapshot.space.offer(SPACE, [key], vector_of(value.title)[None])

    def sell(self, item_id: str, ts: int = NOW - 90 * DAY_MS, **fields: Any) -> None:
        """An upsert; by default of three months ago, so that the item is not new."""
        self.runner.accept(parse_change({"item_id": item_id, "ts": ts, "title": item_id, **fields}))

    def withdraw(self, item_id: str, ts: int = NOW) -> None:
        self.runner.accept(parse_change({"item_id": item_id, "ts": ts, "removed": True}))

    def tell(self, name: str, shopper: str, *items: str, ts: int = NOW - MINUTE_MS, **fields: Any) -> None:
        """Any event, with an event id of its own."""
        self._events += 1
        raw = {"name": name, "visitor_id": shopper, "ts": ts, "event_id": f"e{self._events}", "items": list(items)}
        if name in ("purchase", "refund"):
            raw |= {"transaction_id": f"t{self._events}", "currency": "EUR"}
        self.runner.accept(parse(raw | fields))

    def view(self, shopper: str, *items: str, ts: int = NOW - MINUTE_MS, **fields: Any) -> None:
        for item in items:
            self.tell("view_item", shopper, item, ts=ts, **fields)

    def buy(self, shopper: str, *items: str, ts: int = NOW - MINUTE_MS, **fields: Any) -> None:
        self.tell("purchase", shopper, *items, ts=ts, **fields)

    def profile(self, shopper: str) -> Profile:
        found: Profile = self.runner.tables["profile"].get(shopper)
        return found

    def use(self, ranker: Ranker) -> None:
        self.snapshot = replace(self.snapshot, ranker=ranker)

    def ask(self, shopper: str = "", *, ts: int = NOW, **fields: Any) -> Decision:
        """What `recommend` answers a shopper."""
        request = Request(recommendation_id=fields.pop("recommendation_id", "r"), ts=ts, shopper=shopper, **fields)
        return recommend(request, self.profile(shopper), self.snapshot)

    def ids(self, rows: Sequence[int] | NDArray[Any]) -> list[str]:
        return [self.live.ids[row] for row in np.asarray(rows).tolist()]

    def rows(self, *items: str) -> NDArray[np.int64]:
        return np.array([self.live.rows[item] for item in items], np.int64)


def shown(decision: Decision) -> list[str]:
    """The ids of a list, in order."""
    return [one.item_id for one in decision.items]


def item(item_id: str, since: int = NOW, **fields: Any) -> Item:
    """A catalogue entry as the topic `catalogue` holds it."""
    return Item(item_id=item_id, since=since, ts=since, **fields)
