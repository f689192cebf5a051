"""Events, logs and lessons for tests: only what a test is about has to be named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from core.catalogue import ItemChange, parse_change
from core.events import FEEDBACK, ONE_ITEM, Event, parse
from core.ids import DAY_MS, HOUR_MS, MINUTE_MS
from core.profile import NOBODY, Profile
from core.settings import (
    BundleSettings,
    ChannelSettings,
    EncoderSettings,
    LogSettings,
    SessionSettings,
    Settings,
    TrainingSettings,
)
from evaluation.invented import OPENED_MS, InventedShop
from jobs.lessons import Lesson
from streams.attribution import Served
from streams.log import EmbeddedLog
from streams.messages import of_imported
from streams.profile import Absorb, Limits, Link, Output, observe
from streams.recorded import Entry, Query, write
from streams.runner import Runner
from streams.topology import build

T = 1_700_000_000_000
MINUTE, HOUR, DAY = MINUTE_MS, HOUR_MS, DAY_MS
LIMITS = Limits(Settings().profile, Settings().neighbours)

_numbers = count()


# ---------------------------------------------------------------------- single messages
def event(name: str, *items: Any, ts: int = T, **fields: Any) -> Event:
    """An event of user ida, with an id of its own. Items are ids, or objects as the JSON has them."""
    raw: dict[str, Any] = {"name": name, "event_id": f"e{next(_numbers)}", "ts": ts, "items": list(items)}
    if name in ("purchase", "refund"):
        raw |= {"transaction_id": "t", "currency": "EUR"}
    if name == "rating":
        raw["rating"] = 5
    if name == "search":
        raw["search_term"] = "tea"
    if not {"user_id", "visitor_id"} & fields.keys():
        raw["user_id"] = "ida"
    return parse(raw | fields)


def item(item_id: str, *, ts: int = T - DAY, **fields: Any) -> ItemChange:
    """An upsert of an item that is named for its id."""
    return parse_change({"item_id": item_id, "ts": ts, "title": f"The {item_id}", **fields})


# ---------------------------------------------------------------------- one step at a time
def after(
    *messages: Event | Link | Absorb, profile: Profile = NOBODY, limits: Limits = LIMITS
) -> tuple[Profile, list[Output]]:
    """A shopper's profile after some messages, and all that the step said."""
    said: list[Output] = []
    for message in messages:
        profile, outputs = observe(profile, message, limits)
        said += outputs
    return profile, said


class World:
    """A runner in memory that keeps what it published and emitted."""

    def __init__(self, settings: Settings | None = None, fetch: Callable[[str, bytes], bytes | None] | None = None):
        self.published: list[tuple[str, str, Any]] = []
        self.emitted: list[tuple[str, str, Any]] = []
        self.runner = Runner(
            build(settings or Settings()),
            lambda *told: self.published.append(told),
            lambda *told: self.emitted.append(told),
            fetch,
        )

    def take(self, *messages: Entry | Served) -> World:
        for message in messages:
            if not isinstance(message, Query):
                self.runner.accept(message)
        return self

    def stored(self) -> dict[str, dict[bytes, bytes | None]]:
        """What changed since the last look, as the log would store it."""
        return {name: table.take_dirty() for name, table in self.runner.tables.items()}

    def state(self, stage: str, key: str) -> Any:
        return self.runner.tables[stage].get(key)


# ---------------------------------------------------------------------- logs
def small_settings(folder: Path | None = None, **training: Any) -> Settings:
    """Everything small enough for a test of a few seconds; no text."""
    training = {"min_groups": 40, "trees": 30, "leaves": 7, "negatives": 30, "between": 0} | training
    return Settings(
        log=LogSettings(path=(folder or Path("none")) / "log.sqlite", partitions=2),
        bundles=BundleSettings(path=(folder or Path("none")) / "bundles"),
        encoder=EncoderSettings(model="none"),
        sessions=SessionSettings(kept=500, width=20),
        channels=ChannelSettings(text=0),
        training=TrainingSettings(**training),
    )


def invented_log(seed: int = 5, *, items: int = 90, shoppers: int = 60, days: int = 25) -> list[Entry]:
    """An invented shop's catalogue and events in time order: about 2,000 entries."""
    shop, until_ms = InventedShop(seed, items=items, shoppers=shoppers), OPENED_MS + days * DAY
    entries: list[Entry] = [parse_change(body) for body in shop.catalogue(until_ms)]
    entries += [parse(body) for body in shop.events(until_ms)]
    return sorted(entries, key=lambda entry: entry.ts)


def habits_log(*, shoppers: int = 24, days: int = 24, groups: int = 8, width: int = 8, seed: int = 1) -> list[Entry]:
    """Shoppers who each stay within one group of 8 items, and buy what they bought longest ago; 64 items in all.

    All items are equally popular: only who asks, and when they last bought what, tells what comes next.
    """
    random = np.random.default_rng(seed)
    entries: list[Entry] = [item(f"g{group}-{n}", ts=T) for group in range(groups) for n in range(width)]
    for day in range(days):
        for shopper in random.permutation(shoppers).tolist():
            ts = T + day * DAY + int(random.integers(1, DAY - HOUR))
            mine = [f"g{shopper % groups}-{(3 * day + n) % width}" for n in (-1, 0, 1, 2)]
            entries += session(f"s{shopper}", f"d{day}-s{shopper}", mine, ts)
    return sorted(entries, key=lambda entry: entry.ts)


def session(shopper: str, name: str, items: Sequence[str], ts: int) -> list[Entry]:
    """A session that views its items one by one and buys all but the first."""
    told = {"user_id": shopper, "session_id": name}
    views = [
        event("view_item", one, ts=ts + n * MINUTE, event_id=f"{name}-v{n}", **told) for n, one in enumerate(items)
    ]
    sale = event("purchase", *items[1:], ts=ts + 10 * MINUTE, event_id=f"{name}-p", transaction_id=name, **told)
    return [*views, sale]


def shuffled_items(entries: Iterable[Entry], seed: int = 3) -> list[Entry]:
    """The same log with the items of all events drawn anew: nobody has a taste, and nothing can be learnt."""
    random = np.random.default_rng(seed)
    entries = list(entries)
    names = [entry.item_id for entry in entries if isinstance(entry, ItemChange)]
    return [_with_items(entry, random, names) if isinstance(entry, Event) else entry for entry in entries]


def _with_items(one: Event, random: np.random.Generator, names: Sequence[str]) -> Event:
    drawn = random.permutation(len(names))[: len(one.items)].tolist()
    lines = [{"item_id": names[place], "quantity": line.quantity} for place, line in zip(drawn, one.items, strict=True)]
    raw = {"name": one.name, "event_id": one.event_id, "ts": one.ts, "items": lines}
    kept = ("user_id", "visitor_id", "session_id", "transaction_id", "currency", "rating", "search_term")
    return parse(raw | {name: getattr(one, name) for name in kept})


def in_time_order(*entries: Entry) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.ts)


def recorded(folder: Path, entries: Iterable[Entry], name: str = "stream.jsonl") -> Path:
    """A recorded stream in a folder."""
    path = folder / name
    write(path, entries)
    return path


def fill(settings: Settings, entries: Iterable[Entry]) -> None:
    """Append messages to the embedded log of the settings."""
    log = EmbeddedLog.open(settings.log)
    try:
        log.append([of_imported(entry) for entry in entries if not isinstance(entry, Query)])
    finally:
        log.close()


# ---------------------------------------------------------------------- lessons
def lessons(number: int, *, wanted: int = 0, columns: int = 3, rows: int = 12, seed: int = 2) -> list[Lesson]:
    """Lists in which column `wanted` tells the grades, with some noise, and the other columns tell nothing."""
    random = np.random.default_rng(seed)
    made = []
    for n in range(number):
        features = random.normal(size=(rows, columns)).astype(np.float32)
        strength = features[:, wanted] + random.normal(size=rows) * 0.3
        grades = np.zeros(rows, np.int8)
        grades[np.argsort(-strength)[:3]] = (3, 2, 1)
        made.append(Lesson(T + n * MINUTE, features, grades))
    return made


# ---------------------------------------------------------------------- any log at all
_ITEMS = [f"i{n}" for n in range(6)]
_NAMES = (
    "view_item", "view_item_list", "select_item", "add_to_cart", "remove_from_cart", "purchase", "refund", "search",
    *FEEDBACK,
)  # fmt: skip
_SHOPPERS: tuple[dict[str, Any], ...] = (
    {"user_id": "u1"},
    {"user_id": "u2"},
    {"visitor_id": "v1"},
    {"visitor_id": "v2"},
    {"user_id": "u1", "visitor_id": "v1"},
    {"user_id": "u2", "visitor_id": "v1"},
)


@st.composite
def messages(draw: st.DrawFn, most: int = 30) -> list[Event | ItemChange | Served]:
    """Messages in order of arrival: some late, some twice, visitors who log in, lists that are served."""
    made: list[Event | ItemChange | Served] = []
    now = T
    for number in range(draw(st.integers(1, most))):
        now += draw(st.sampled_from((0, MINUTE, 20 * MINUTE, DAY)))
        ts = now - draw(st.sampled_from((0, 0, 0, MINUTE, 2 * HOUR)))
        kind = draw(st.sampled_from(("event", "event", "event", "event", "item", "served", "again")))
        if kind == "again" and made:
            made.append(made[draw(st.integers(0, len(made) - 1))])
        elif kind == "item":
            made.append(_change(draw, ts))
        elif kind == "served":
            shown = draw(st.lists(st.sampled_from(_ITEMS), min_size=1, max_size=4, unique=True))
            made.append(Served(f"r{number}", ts, draw(st.sampled_from(("u1", "u2", "v1"))), tuple(shown)))
        else:
            made.append(_any_event(draw, number, ts))
    return made


def _change(draw: st.DrawFn, ts: int) -> ItemChange:
    changes: list[dict[str, Any]] = [
        {"category": "Tea"},
        {"category": "Tea > Green"},
        {"price": 2.5},
        {"removed": True},
    ]
    return parse_change({"item_id": draw(st.sampled_from(_ITEMS)), "ts": ts} | draw(st.sampled_from(changes)))


def _any_event(draw: st.DrawFn, number: int, ts: int) -> Event:
    name = draw(st.sampled_from(_NAMES))
    size = 1 if name in ONE_ITEM else 0 if name in ("search", "satisfaction") else draw(st.integers(1, 4))
    lines = [{"item_id": draw(st.sampled_from(_ITEMS)), "quantity": draw(st.integers(1, 3))} for _ in range(size)]
    named = draw(st.sampled_from(_SHOPPERS)) | {"session_id": draw(st.sampled_from((None, None, "s1", "s2")))}
    if name in ("select_item", "view_item"):
        named["recommendation_id"] = draw(st.sampled_from((None, f"r{max(0, number - 1)}")))
    return event(name, *lines, ts=ts, event_id=f"m{number}", rating=4 if name == "satisfaction" else 5, **named)
