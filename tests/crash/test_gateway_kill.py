"""SIGKILL of the whole gateway at random moments, while events are posted and lists are asked for."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import BadInput, Unavailable
from core.events import Event
from core.settings import LogSettings, Settings
from gateway.client import Client
from streams.log import EmbeddedLog, New
from streams.messages import as_fed, messages, of_output
from streams.runner import Runner
from streams.topology import SOURCES, build

ROOT = Path(__file__).parents[2]
KILLS = 20
COMMIT_EVERY = 60  # so that a life of half a second sees several commits
SHOPPERS, ITEMS = 40, 60
NAMES = ("view_item", "view_item", "view_item", "select_item", "add_to_cart", "like", "purchase")


class Gateways:
    """One that serves and one that is ready to."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        own = {
            "HEADWATER_LOG__PATH": str(folder / "log.sqlite"),
            "HEADWATER_LOG__COMMIT_EVERY": str(COMMIT_EVERY),
            "HEADWATER_BUNDLES__PATH": str(folder / "bundles"),
            "HEADWATER_ENCODER__MODEL": "none",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        self._environment = others | own
        self._folder = folder
        self._all: list[subprocess.Popen[str]] = []
        self._next = self._load()

    def start(self) -> subprocess.Popen[str]:
        """The next one, as soon as it answers."""
        child, self._next = self._next, self._load()
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        with Client(self.url) as client:
            while not answers(client):
                assert child.poll() is None, (self._folder / "errors").read_text()
                time.sleep(0.01)
        return child

    def close(self) -> None:
        for child in self._all:
            child.kill()
            child.communicate()

    def _load(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name("gateway_child.py")), "up", "--port", str(self.port)]
        with (self._folder / "errors").open("a") as errors:
            child = subprocess.Popen(
                [*command, "--no-training"], cwd=self._folder, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        self._all.append(child)
        return child


class Shoppers(threading.Thread):
    """Posts events, each call again until it is answered, and asks for lists in between."""

    def __init__(self, url: str) -> None:
        super().__init__(name="shoppers")
        self.acknowledged: list[str] = []
        self.answered = 0
        self.failure: BaseException | None = None
        self.ended = threading.Event()
        self.given_up = threading.Event()
        self._client = Client(url, timeout_s=10.0)
        self._events = events(random.Random(5))
        self._random = random.Random(6)

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                some = [next(self._events) for _ in range(self._random.randint(1, 30))]
                if self._until_answered("events", some):
                    self.acknowledged += [event["event_id"] for event in some]
                self._until_answered("items", [change(self._random)])
                self._ask(some[-1]["user_id"])
        except BaseException as error:
            self.failure = error
        finally:
            self._client.close()

    def _until_answered(self, kind: str, some: list[dict[str, Any]]) -> bool:
        while not self.given_up.is_set():
            try:
                reply = self._client.post(f"/v1/{kind}", {kind: some})
                assert reply == {"accepted": len(some)}
                return True
            except Unavailable:
                time.sleep(0.01)
        return False

    def _ask(self, shopper: str) -> None:
        try:
            self._client.get("/v1/recommendations", user_id=shopper)
            self.answered += 1
        except Unavailable:
            time.sleep(0.01)


def events(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Shoppers who look, put into carts, buy and log in, one after another."""
    number = 0
    while True:
        number += 1
        who, name = chance.randrange(SHOPPERS), chance.choice(NAMES)
        body = {"name": name, "event_id": f"e{number}", "ts": int(time.time() * 1000), "user_id": f"u{who}"}
        if chance.random() < 0.3:
            body["visitor_id"] = f"v{who}"
            body["session_id"] = f"s{number // 200}-{who}"
        if name == "purchase":
            body |= {"transaction_id": f"t{number}", "currency": "EUR"}
        lines = chance.randint(1, 4) if name == "purchase" else 1
        yield body | {"items": [{"item_id": f"i{chance.randrange(ITEMS)}", "price": 5.0} for _ in range(lines)]}


def change(chance: random.Random) -> dict[str, Any]:
    """An item with another price, or one that is no longer sold."""
    body = {"item_id": f"i{chance.randrange(ITEMS)}", "ts": int(time.time() * 1000)}
    return body | ({"removed": True} if chance.random() < 0.1 else {"title": "Tea", "price": chance.randint(1, 9)})


def answers(client: Client) -> bool:
    try:
        return client.page("/readyz")[0] == 200
    except Unavailable:
        return False


def test_twenty_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(2)
    gateways = Gateways(tmp_path)
    shoppers = Shoppers(gateways.url)
    try:
        child = gateways.start()
        shoppers.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.0, 0.6))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            child = gateways.start()
        shoppers.ended.set()
        shoppers.join()
        child.send_signal(signal.SIGTERM)
        child.communicate()
    finally:
        shoppers.given_up.set()
        shoppers.ended.set()
        gateways.close()
    assert child.returncode == 0, (tmp_path / "errors").read_text()
    assert shoppers.failure is None, shoppers.failure
    assert len(shoppers.acknowledged) > 20 * KILLS
    assert shoppers.answered > KILLS
    check(tmp_path / "log.sqlite", shoppers.acknowledged)


def check(path: Path, acknowledged: list[str]) -> None:
    settings = Settings(log=LogSettings(path=path))
    log = EmbeddedLog.open(settings.log)
    try:
        times = Counter(event.event_id for event in logged_events(log))
        assert times.keys() >= set(acknowledged), "acknowledged and lost"
        assert set(times.values()) == {1}, "in the log twice"
        check_state(log, settings)
    finally:
        log.close()


def logged_events(log: EmbeddedLog) -> list[Event]:
    found = [message for entry in log.read_all(SOURCES, {}, 1_000_000) for message in messages(entry)]
    return [message for message in found if isinstance(message, Event)]


def check_state(log: EmbeddedLog, settings: Settings) -> None:
    """State and derived records must be those of a run over the same log that nothing interrupted."""
    emitted: list[New] = []
    runner = Runner(
        build(settings),
        lambda topic, key, value: None,
        lambda topic, key, value: emitted.append(of_output(topic, key, value)),
    )
    for entry in log.read_all(SOURCES, {}, 1_000_000):
        for message in messages(entry):
            assert not isinstance(message, BadInput)
            runner.accept(as_fed(message))
    for name, table in runner.tables.items():
        expected = {key: value for key, value in table.take_dirty().items() if value is not None}
        assert expected
        assert dict(log.table(name)) == expected, f"state of {name}"
    labels = [(entry.key, entry.value) for entry in log.read_all(["labelled"], {}, 1_000_000)]
    assert len(labels) > KILLS
    assert labels == [(one.key, one.value) for one in emitted]
