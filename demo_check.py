"""Does it work? What a person would try in the demonstration, tried by itself, in a folder of its own."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from core.catalogue import PATH_SEPARATOR
from core.settings import Settings
from demo import Clock, Play, history_of, inside, played, running
from gateway.client import Client
from jobs.embedding import Embedder

VIEWS: Final = 3
LIST: Final = 10
FOUND_S: Final = 5.0  # within this a new item must be found by its text
VISITOR: Final = "a-new-visitor"


class Result(NamedTuple):
    """One thing that was tried."""

    worked: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.worked else 'FAIL'}  {self.text}"


def check(settings: Settings, play: Play, now_ms: Clock) -> int:
    """Play, train, and try everything on a port that is free; 1 where something does not work."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s")
    gateway_settings = msgspec.structs.replace(settings.gateway, port=0)
    failed = False
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        settings = inside(msgspec.structs.replace(settings, gateway=gateway_settings), Path(folder), play)
        history = history_of(play, settings, now_ms())
        embedder = Embedder.open(settings)
        with running(settings, embedder, now_ms, history.known) as gateway, Client(gateway.url) as client:
            played(gateway, settings, embedder, history, now_ms)
            for result in _tried(client, now_ms, text=embedder is not None):
                print(result, flush=True)
                failed = failed or not result.worked
    return int(failed)


def _tried(client: Client, now_ms: Clock, *, text: bool) -> Iterator[Result]:
    status, page = client.page("/shop")
    is_page = status == 200 and b"<!doctype html>" in page[:100].lower()
    yield Result(is_page, f"/shop answers {status}, {len(page):,} bytes")
    before = _list(client)
    yield Result(len(before) == LIST, f"a new visitor is shown {len(before)} items: {_titles(before)}")
    category = _elsewhere(client, before)
    viewed = client.get("/v1/trending", category=category, n=VIEWS)["items"]
    client.post("/v1/events", {"events": [_view(one["item_id"], now_ms()) for one in viewed]})
    after = _list(client)
    yield from _changed(before, after, viewed, category)
    yield from _new_item(client, viewed[0], now_ms(), text=text)


def _elsewhere(client: Client, shown: Sequence[dict[str, Any]]) -> str:
    """A category with enough items, the least of which are in the list."""
    roots = [_root(one) for one in shown]
    paths = [path for path in client.get("/v1/categories")["categories"] if PATH_SEPARATOR not in path]
    there = [path for path in paths if len(client.get("/v1/trending", category=path, n=VIEWS)["items"]) == VIEWS]
    return str(min(there, key=lambda path: (roots.count(path), path)))


def _changed(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], viewed: Sequence[dict[str, Any]], category: str
) -> Iterator[Result]:
    count = [sum(_root(one) == category for one in some) for some in (before, after)]
    differs = [one["item_id"] for one in before] != [one["item_id"] for one in after]
    yield Result(
        differs and count[1] > count[0],
        f"after {VIEWS} views in {category} ({_titles(viewed)}) the list has {count[1]} of it, before {count[0]}: "
        f"{_titles(after)}",
    )
    ids = {one["item_id"] for one in viewed}
    told = [reason["text"] for one in after for reason in one["reasons"] if reason.get("item_id") in ids]
    yield Result(bool(told), f"{len(told)} reasons name what was viewed: {'; '.join(dict.fromkeys(told))}")


def _new_item(client: Client, like: dict[str, Any], now: int, *, text: bool) -> Iterator[Result]:
    """Whether an item that is posted now is found by its text, and comes to the visitor who would like it."""
    item = {
        "item_id": "just-in", "ts": now, "title": f"Just in: {like['title']}", "categories": like["categories"],
        "brand": like.get("brand", ""), "price": like.get("price"),
    }  # fmt: skip
    began = time.monotonic()
    client.post("/v1/items", {"items": [item]})
    if text:
        found = _found(client, item, began)
        took = time.monotonic() - began
        yield Result(found, f"an item posted now is {'found' if found else 'not found'} by its text after {took:.2f} s")
    wide = {"category": item["categories"][0], "n": 100, "explain": "true"}
    shown = client.get("/v1/recommendations", visitor_id=VISITOR, **wide)["items"]
    channels: dict[str, Any] = next((one.get("channels", {}) for one in shown if one["item_id"] == item["item_id"]), {})
    wanted = {"new", "text"} if text else {"new"}
    yield Result(channels.keys() >= wanted, f"it is recommended, through the channels: {', '.join(channels) or 'none'}")


def _found(client: Client, item: dict[str, Any], began: float) -> bool:
    while time.monotonic() - began < FOUND_S:
        if any(one["item_id"] == item["item_id"] for one in client.get("/v1/search", q=item["title"])["items"]):
            return True
        time.sleep(0.05)
    return False


def _list(client: Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/v1/recommendations", visitor_id=VISITOR, n=LIST)["items"]
    return items


def _view(item_id: str, now: int) -> dict[str, Any]:
    return {"name": "view_item", "event_id": f"check-{item_id}", "ts": now, "visitor_id": VISITOR, "item_id": item_id}


def _root(item: dict[str, Any]) -> str:
    paths = item.get("categories") or [""]
    return str(paths[0]).split(PATH_SEPARATOR)[0]


def _titles(items: Sequence[dict[str, Any]]) -> str:
    return ", ".join(one.get("title") or one["item_id"] for one in items)
