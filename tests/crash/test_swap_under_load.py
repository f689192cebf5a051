"""Bundles of two spaces take turns while shoppers come and new items arrive: nobody notices."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from core.bundle import Bundles
from core.decision import Decision
from core.settings import BundleSettings, GatewaySettings, LogSettings, Settings
from gateway.client import Client
from gateway.serving import Gateway
from streams.log import EmbeddedLog
from tests.gateway.running import served
from tests.gateway.words import COLOURS, THINGS, Words, WordShop, bundle_of, encoders
from tests.gateway.world import GOODS

PER_S = 30  # requests
LAST_S = 1.5  # of each bundle


class Caller(threading.Thread):
    """Does something so many times a second until it is told to end; `failures` is what went wrong."""

    def __init__(self, url: str, per_s: float, act: Callable[[Client, int], None]) -> None:
        super().__init__(daemon=True)
        self._client, self._every_s, self._act = Client(url, timeout_s=20.0), 1 / per_s, act
        self.ended, self.done, self.failures = threading.Event(), 0, list[str]()

    def run(self) -> None:
        started = time.monotonic()
        while not self.ended.is_set():
            try:
                self._act(self._client, self.done)
            except Exception as error:
                self.failures.append(repr(error))
            self.done += 1
            self.ended.wait(max(0.0, started + self.done * self._every_s - time.monotonic()))
        self._client.close()


class Replies:
    """Lists by bundle, and those in which the text features are of another space than the bundle."""

    def __init__(self, spaces: dict[str, str]) -> None:
        self.spaces, self.by_bundle, self.by_id = spaces, Counter[str](), dict[str, str]()
        self.compared, self.mixed = 0, list[str]()

    def ask(self, client: Client, number: int) -> None:
        """A list for somebody who has looked at red tea."""
        reply = client.get("/v1/recommendations", user_id=f"u{number % 40}", explain="true", n=20)
        bundle = reply["bundle"]
        self.by_bundle[bundle] += 1
        self.by_id[reply["recommendation_id"]] = bundle
        for one in reply["items"]:
            if "text_taste" in one["features"]:
                colour, thing = one["title"].split()
                alike = colour == "red" if self.spaces[bundle] == COLOURS else thing == "tea"
                self.compared += 1
                if (one["features"]["text_taste"] > 0.9) != alike:
                    self.mixed.append(f"{bundle}: {one}")

    def search(self, client: Client, number: int) -> None:
        """Words that meet an index of another space than their own find anything."""
        found = [one["title"].split() for one in client.get("/v1/search", q="red tea", n=3)["items"]]
        if {colour for colour, _ in found} != {"red"} and {thing for _, thing in found} != {"tea"}:
            self.mixed.append(f"search: {found}")


def write(client: Client, number: int) -> None:
    """Somebody looks at something, and now and then there is a new item."""
    title = GOODS[number % len(GOODS)]
    seen = {"name": "view_item", "visitor_id": f"w{number % 100}", "item_id": title, "event_id": f"e{number}"}
    client.post("/v1/events", [seen])
    if number % 3 == 0:
        client.post("/v1/items", [{"item_id": f"i{number}", "title": "late kite"}])


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass in time"
        time.sleep(0.02)


def test_bundles_of_two_spaces_take_turns_under_load_and_nobody_notices(tmp_path: Path) -> None:
    settings = Settings(
        log=LogSettings(path=tmp_path / "log.sqlite"),
        bundles=BundleSettings(path=tmp_path / "bundles"),
        gateway=GatewaySettings(port=0),
    )
    store = Bundles(settings.bundles.path, 5)
    colours, things = [shop(settings, space) for space in (COLOURS, THINGS)]
    a1, b1, a2, b2 = [
        bundle_of(settings, tmp_path, made.space, number, made)
        for number, made in enumerate((colours, things, colours, things), 1)
    ]
    replies = Replies({a1: COLOURS, a2: COLOURS, b1: THINGS, b2: THINGS})
    store.promote(a1)
    with encoders() as opened:
        gateway = Gateway(settings, Words(COLOURS).embedder(), lambda: int(time.time() * 1000))
        with served(gateway) as client:
            begin(client)
            callers = [
                Caller(gateway.url, PER_S, replies.ask),
                Caller(gateway.url, 5, replies.search),
                Caller(gateway.url, 20, write),
            ]
            for caller in callers:
                caller.start()
            turns: list[tuple[Callable[[], Any], str]] = [
                (lambda: store.promote(b1, now()), b1),
                (store.rollback, a1),
                (lambda: store.promote(a2, now()), a2),
                (lambda: store.promote(b2, now()), b2),
                (store.rollback, a2),
            ]
            for act, serves in turns:
                act()
                eventually(lambda serves=serves: state(client)["bundle"] == serves)  # type: ignore[misc]
                time.sleep(LAST_S)
            for caller in callers:
                caller.ended.set()
                caller.join(20)
            eventually(lambda: state(client)["vectors_waiting"] == 0)
            assert state(client)["vectors"] == state(client)["items"]
    assert [failure for caller in callers for failure in caller.failures] == []
    assert replies.mixed == []
    assert replies.compared > 1_000
    assert set(replies.by_bundle) == {a1, b1, a2, b2}
    assert opened.times == [b1, b2], "a rollback opens no encoder, and neither does a bundle of a space that is warm"
    assert logged(settings) == replies.by_id


def shop(settings: Settings, space: str) -> WordShop:
    made = WordShop(settings, space)
    for title in GOODS:
        made.sell(title)
    made.snapshot.refresh()
    return made


def begin(client: Client) -> None:
    """A catalogue, and forty shoppers who have looked at red tea."""
    client.post("/v1/items", [{"item_id": title, "title": title} for title in GOODS])
    seen = [{"name": "view_item", "user_id": f"u{n}", "item_id": "red tea"} for n in range(40)]
    client.post("/v1/events", seen)
    eventually(lambda: state(client)["vectors"] == len(GOODS))


def state(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/healthz", details="true")["engine"]
    return found


def now() -> int:
    return int(time.time() * 1000)


def logged(settings: Settings) -> dict[str, str]:
    """The bundle of every decision in the log."""
    log = EmbeddedLog.open(settings.log)
    try:
        values = [entry.value or b"" for entry in log.read_all(("decisions",), {}, 1_000_000)]
    finally:
        log.close()
    decisions = [msgspec.msgpack.decode(value, type=Decision) for value in values]
    return {one.recommendation_id: one.bundle for one in decisions}
