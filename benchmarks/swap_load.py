"""Bundles of two spaces take turns under load: requests that failed, lists that mixed spaces, and what a swap costs.

    python benchmarks/swap_load.py [--seconds 300] [--rate 50] [--turns 10] [--items 3000]

A gateway of its own process serves a made-up shop on the embedded log, with the real encoder. A second one, with a
layer of random weights on top, makes another space; its bundles carry it, and lack every fiftieth item. Requests come
at fixed moments and are timed from these; beside them come events and new items. Of five turns three are promotions and
two are rollbacks, which change roles alone. A promotion whose space is not warm opens an encoder and an index: the 1st,
4th and 9th of ten turns. A swap lasts from the call of promote or rollback until a second after the first list of the
bundle that was wanted. All bundles are written before the load begins. The load comes from this machine too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundles
from core.catalogue import Item
from core.errors import HeadwaterError
from core.manifest import Contents, FeatureSchema
from core.settings import Settings, load
from gateway.client import Client
from jobs.embedding import Embedder
from models.weights import locate
from ranker import bundle, features
from ranker.live import Live
from ranker.model import Examples, Ranker, train
from ranker.recommend import Snapshot
from ranker.space import Space

ROOT = Path(__file__).parents[1]
SHOPPERS, CALLERS, LACKED = 200, 6, 50
NEAR = 0.02  # a text feature is that of a space within so much
COLOURS = ["red", "green", "old", "small", "blue", "heavy", "round", "light", "plain", "loud", "warm", "quiet"]
GOODS = [
    "tea",
    "bike",
    "hose",
    "sock",
    "kite",
    "lamp",
    "chair",
    "drum",
    "jam",
    "spoon",
    "boat",
    "shelf",
    "pan",
    "rope",
    "glove",
]
MADE_OF = ["wool", "tin", "oak", "paper", "glass", "clay", "silk", "steel", "cork", "wax"]


@dataclass
class Asked:
    """One request: when it was due, how long its answer took, whose list it was."""

    due: float
    seconds: float
    bundle: str


@dataclass
class Seen:
    """What the load came to."""

    asked: list[Asked] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    compared: int = 0
    mixed: int = 0


class Shop:
    """Items, and their vectors in both spaces."""

    def __init__(self, settings: Settings, items: int) -> None:
        self.settings, self.started_ms = settings, round(time.time() * 1000) - 3_600_000
        rng = np.random.default_rng(7)
        words = [" ".join(str(rng.choice(some)) for some in (COLOURS, MADE_OF, GOODS)) for _ in range(items)]
        self.items = [
            Item(item_id=f"i{n}", since=self.started_ms, ts=self.started_ms, text_ts=self.started_ms,
                 title=f"{title} no {n}", price=5.0 + n % 40, categories=(title.split()[2],))
            for n, title in enumerate(words)
        ]  # fmt: skip
        base = Embedder.open(settings)
        assert base is not None
        self.embedders = {"base": base, "turned": Embedder.trained(settings, turned(settings))}
        self.vectors = {name: one.vectors(self.items) for name, one in self.embedders.items()}
        self.spaces: dict[str, str] = {"": "base"}  # by bundle
        self._made = count(1)

    def bundle(self, name: str) -> str:
        """Write a bundle of that space."""
        embedder, live = self.embedders[name], Live(self.settings)
        space = Space(embedder.space_id, embedder.dim, self.settings.index)
        for item in self.items:
            live.offer("catalogue", item.item_id, item)
        held = [n for n in range(len(self.items)) if n % LACKED]
        space.offer(embedder.space_id, [self.items[n].item_id for n in held], self.vectors[name][held])
        snapshot = Snapshot(self.settings, live, space)
        snapshot.refresh()
        seed = next(self._made)
        contents = Contents(
            created_ms=self.started_ms + seed, space_id=embedder.space_id, encoder=embedder.reference,
            text=msgspec.to_builtins(self.settings.text), user_vector={}, ranker="lambdarank", metrics={},
            features=FeatureSchema.of(features.names(self.settings)), max_event_time=0,
        )  # fmt: skip
        made, store = noise(self.settings, seed), Bundles(self.settings.bundles.path, 20)
        folder = embedder.folder
        written = store.write(contents, lambda into: bundle.save(into, made, snapshot, folder))
        self.spaces[written.id] = name
        return written.id


def turned(settings: Settings) -> Path:
    """The encoder of the settings with a random layer on top, as a trained one lies on the disk."""
    import torch

    from models.head import Head

    folder = settings.tuning.path / "turned"
    shutil.copytree(locate(settings.encoder.model), folder)
    dim = int(msgspec.json.decode((folder / "config.json").read_bytes())["hidden_size"])
    head = Head(dim)
    torch.manual_seed(7)
    with torch.no_grad():
        head.turn.copy_(torch.randn(dim, dim) / dim**0.5)
    head.save(folder)
    return folder


def noise(settings: Settings, seed: int) -> Ranker:
    """A ranker as large as real ones, whose order means nothing."""
    names, rng = features.names(settings), np.random.default_rng(seed)
    matrix = rng.normal(size=(20_000, len(names))).astype(np.float32)
    grades = (rng.random(len(matrix)) < 0.05).astype(np.int8)
    return train(Examples(matrix, grades, np.full(400, 50)), names, features.schema(settings), settings.training, 1)


class Load:
    """Calls a gateway at fixed moments, from a few threads."""

    def __init__(self, url: str, shop: Shop, rate: float) -> None:
        self._url, self._shop, self._rate = url, shop, rate
        self.seen, self._ended = Seen(), threading.Event()
        self._next, self._began = count(), time.perf_counter()
        acts = [self._ask] * CALLERS + [self._write, self._add]
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in acts]

    def start(self) -> None:
        """From now on requests are due."""
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No more; what is on its way is waited for."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, act: Callable[[Client], None]) -> None:
        with Client(self._url, timeout_s=30) as client:
            while not self._ended.is_set():
                try:
                    act(client)
                except HeadwaterError as error:
                    self.seen.failures.append(str(error))

    def _ask(self, client: Client) -> None:
        number = next(self._next)
        due = self._began + number / self._rate
        if self._ended.wait(max(0.0, due - time.perf_counter())):
            return
        explain = {"explain": "true"} if number % 5 == 0 else {}
        reply = client.get("/v1/recommendations", user_id=f"u{number % SHOPPERS}", n=10, **explain)
        self.seen.asked.append(Asked(due, time.perf_counter() - due, reply["bundle"]))
        if explain:
            self._compare(number % SHOPPERS, reply)
        if number % 20 == 0:
            client.get("/v1/search", q=self._shop.items[number % len(self._shop.items)].title, n=5)

    def _compare(self, shopper: int, reply: dict[str, Any]) -> None:
        """Whoever has looked at one item alone has the taste of its vector."""
        mine = self._shop.spaces[reply["bundle"]]
        for one in reply["items"]:
            if "text_taste" not in one["features"] or not one["item_id"].startswith("i"):
                continue
            got, place = one["features"]["text_taste"], int(one["item_id"][1:])
            wanted = float(self._shop.vectors[mine][shopper] @ self._shop.vectors[mine][place])
            self.seen.compared += 1
            self.seen.mixed += abs(got - wanted) > NEAR

    def _write(self, client: Client) -> None:
        """Ten calls a second with three events each, of other shoppers."""
        rng = np.random.default_rng(time.monotonic_ns())
        who = [f"v{n}" for n in rng.integers(0, 2_000, 3)]
        items = [self._shop.items[n].item_id for n in rng.integers(0, len(self._shop.items), 3)]
        seen = [{"name": "view_item", "visitor_id": v, "item_id": i} for v, i in zip(who, items, strict=True)]
        client.post("/v1/events", seen)
        self._ended.wait(0.1)

    def _add(self, client: Client) -> None:
        """Two new items a second."""
        number = time.monotonic_ns()
        client.post("/v1/items", [{"item_id": f"new{number}", "title": f"{COLOURS[number % 12]} novelty {number}"}])
        self._ended.wait(0.5)


def begin(client: Client, shop: Shop) -> None:
    """The catalogue, and shoppers who have looked at one item each."""
    changes = ({**msgspec.to_builtins(item), "ts": shop.started_ms} for item in shop.items)
    fields = ("item_id", "ts", "title", "price", "categories")
    for _ in client.post_all("items", ({name: one[name] for name in fields} for one in changes)):
        pass
    seen = [{"name": "view_item", "user_id": f"u{n}", "item_id": f"i{n}"} for n in range(SHOPPERS)]
    client.post("/v1/events", seen)
    until(lambda: state(client)["vectors"] == len(shop.items), 600)


def state(client: Client) -> dict[str, Any]:
    """What the engine says of itself."""
    found: dict[str, Any] = client.get("/healthz", details="true")["engine"]
    return found


def until(condition: Callable[[], bool], within_s: float) -> None:
    """Wait; an error where it takes longer."""
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError("it did not come to pass in time")
        time.sleep(0.05)


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """The url of a gateway that serves while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "cli.py"), "up", "--no-training", "--port", str(port)]
    with (folder / "gateway.log").open("w") as said:
        child = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        try:
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                until(lambda: answers(client), 120)
            yield url
        finally:
            child.terminate()
            child.wait(60)


def answers(client: Client) -> bool:
    """Whether it is ready."""
    try:
        return client.page("/readyz")[0] == 200
    except HeadwaterError:
        return False


def take_turns(shop: Shop, load: Load, seconds: float, turns: int) -> list[tuple[str, float, float, float]]:
    """Promote and roll back now and then; of each turn what it was, its beginning and end, and when it took effect."""
    store, done = Bundles(shop.settings.bundles.path, 20), list[tuple[str, float, float, float]]()
    acts = ("turned", "", "base", "turned", "")  # of five turns; "" is a rollback
    names = {n: shop.bundle(acts[n % 5]) for n in range(turns) if acts[n % 5]}
    load.start()
    rest = seconds / (turns + 1)
    time.sleep(rest)
    for turn in range(turns):
        began = time.perf_counter()
        wanted = store.promote(names[turn], 0).id if turn in names else store.rollback()
        moved = time.perf_counter()
        until(lambda: load.seen.asked[-1].bundle == wanted, 120)  # noqa: B023
        took = time.perf_counter()
        done.append((f"promote, {acts[turn % 5]}" if turn in names else "rollback", began, took + 1.0, took - moved))
        time.sleep(max(1.0, rest - (took - began)))
    load.end()
    return done


def tell(seen: Seen, turns: list[tuple[str, float, float, float]], *, rate: float) -> None:
    """Print what came of it."""
    print(f"\n{'turn':20}{'effective after s':>20}{'requests':>10}{'p50 ms':>9}{'p99 ms':>9}")
    swapping = list[Asked]()
    for name, began, ended, after in turns:
        some = [one for one in seen.asked if began <= one.due + one.seconds and one.due <= ended]
        swapping += some
        print(f"{name:20}{after:>20.2f}{len(some):>10}{spread(some)}")
    within = set(map(id, swapping))
    others = [one for one in seen.asked if id(one) not in within]
    print(f"\n{'':20}{'':>20}{'requests':>10}{'p50 ms':>9}{'p99 ms':>9}")
    print(f"{'during a swap':40}{len(swapping):>10}{spread(swapping)}")
    print(f"{'else':40}{len(others):>10}{spread(others)}")
    during, usual = (np.quantile([one.seconds for one in some], 0.99) for some in (swapping, others))
    print(f"\np99 during a swap against else: {during / usual:.2f}")
    print(f"{len(seen.asked):,} lists at {rate:g}/s, {len(seen.failures)} failures, {len(turns)} turns")
    print(f"{seen.compared:,} text features compared, {seen.mixed} of another space than their bundle")
    for failure in seen.failures[:5]:
        print(f"    {failure}")


def spread(some: list[Asked]) -> str:
    """Two columns: the middle and the slowest hundredth, in ms."""
    times: NDArray[np.float64] = 1e3 * np.array([one.seconds for one in some] or [np.nan])
    return "".join(f"{np.quantile(times, share):>9.1f}" for share in (0.5, 0.99))


def main() -> None:
    """Build the shop, serve it, load it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--turns", type=int, default=10, help="promotions and rollbacks")
    parser.add_argument("--items", type=int, default=3_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, field_, value in (
            ("LOG", "PATH", "log.sqlite"), ("BUNDLES", "PATH", "bundles"), ("ENCODER", "CACHE", "vectors.sqlite"),
            ("TUNING", "PATH", "encoders"), ("BUNDLES", "KEEP", "20"),
        ):  # fmt: skip
            os.environ[f"HEADWATER_{part}__{field_}"] = str(folder / value) if field_ != "KEEP" else value
        os.environ.setdefault("PYTHONPATH", str(ROOT))
        shop = Shop(load(), args.items)
        first = shop.bundle("base")
        Bundles(shop.settings.bundles.path, 20).promote(first)
        with gateway(folder) as url:
            with Client(url) as client:
                begin(client, shop)
            requests = Load(url, shop, args.rate)
            turns = take_turns(shop, requests, args.seconds, args.turns)
            tell(requests.seen, turns, rate=args.rate)
            print((folder / "gateway.log").read_text()[-3_000:])


if __name__ == "__main__":
    main()
