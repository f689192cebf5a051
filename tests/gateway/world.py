"""A shop whose bundles are looked at step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.bundle import Bundles
from core.decision import Decision, Filters, Request
from core.settings import BundleSettings, LogSettings, Settings
from gateway.engine import SnapshotEngine
from gateway.roster import Roles
from gateway.swap import Swapper
from tests.gateway.words import COLOURS, Words, WordShop, bundle_of
from tests.ranker.tiny import NOW, TinyShop

GOODS = tuple([f"{colour} {thing}" for colour in ("red", "green", "old") for thing in ("tea", "bike", "hose", "sock")])


class World(TinyShop):
    """A shop whose engine is looked at step by step: only the thread that encodes runs by itself."""

    def __init__(self, folder: Path, **bundles: Any) -> None:
        settings = Settings(
            log=LogSettings(path=folder / "log.sqlite"), bundles=BundleSettings(path=folder / "bundles", **bundles)
        )
        super().__init__(settings)
        self.folder, self.now, self.base = folder, NOW, Words(COLOURS)
        self.store = Bundles(settings.bundles.path, 5)
        self.engine = SnapshotEngine(settings, self.base.embedder(), lambda: self.now)
        self.live = self.engine.live
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.engine.filler.run, args=(self._stopping,))

    def open(self, *items: str) -> None:
        """Begin with what these items' tables hold."""
        self.engine.load_bundle()
        for item in items:
            self.sell(item)
        self.engine.settle()
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self.engine.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.engine.live.offer(topic, key, value)
        if topic == "catalogue":
            self.engine.filler.note(key, value)

    @property
    def swapper(self) -> Swapper:
        return self.engine._swapper

    @property
    def roles(self) -> Roles:
        return self.engine._roster.roles

    def made(self, space: str, created_ms: int, *, items: tuple[str, ...] = GOODS, **contents: Any) -> str:
        shop = WordShop(self.settings, space)
        for item in items:
            shop.sell(item)
        shop.snapshot.refresh()
        return bundle_of(self.settings, self.folder, space, created_ms, shop, **contents)

    def promoted(self, space: str, created_ms: int, **contents: Any) -> str:
        made = self.made(space, created_ms, **contents)
        self.store.promote(made, self.now)
        self.swapper.look()
        return made

    def ask(self, shopper: str = "v", *, ts: int = NOW, **fields: Any) -> Decision:
        request = Request(recommendation_id=fields.pop("recommendation_id", "r"), ts=ts, shopper=shopper, **fields)
        return self.engine.recommend(request, self.profile(shopper))

    def near(self, words: str, n: int = 3) -> list[str]:
        return [one.item_id for one in self.engine.search(words, n, Filters())]

    def settled(self) -> None:
        """Wait until nothing is left to encode."""
        limit = threading.Event()
        for _ in range(500):
            if not self.engine.filler.waiting:
                break
            limit.wait(0.01)
        self.engine.refresh()
        assert not self.engine.filler.waiting


@contextmanager
def open_world(folder: Path, **bundles: Any) -> Iterator[World]:
    """A world with some goods, of which somebody has looked at red tea."""
    found = World(folder, probation_s=0, **bundles)
    try:
        found.open(*GOODS)
        found.view("v", "red tea")
        found.settled()
        yield found
    finally:
        found.close()
