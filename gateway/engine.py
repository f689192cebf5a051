"""What every shop answers with: one snapshot under a lock, kept fresh, with the newest bundle.

Where items, profiles and vectors come from is the shop's matter. Arrays move only under the
lock, between requests.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from core.bundle import Bundles
from core.catalogue import Item
from core.decision import Decision, Filters, Ranked, Request
from core.errors import HeadwaterError, Missing
from core.profile import Profile
from core.settings import Settings
from jobs.embedding import Embedder
from ranker import recommend
from ranker.bundle import Opened, open_bundle
from ranker.live import Live
from ranker.recommend import Snapshot
from ranker.space import Space

log = logging.getLogger("headwater")

REFRESH_S: Final = 0.2  # between two looks at what the topics brought, where no request looks before


class SnapshotEngine:
    """Answers from a snapshot; call `start` in the event loop that serves, and `stop` at its end.

    `failure` says which thread or task of the shop died, None while all are well.
    """

    def __init__(self, settings: Settings, embedder: Embedder | None) -> None:
        self.failure: str | None = None
        self._settings, self._embedder = settings, embedder
        self._bundles = Bundles(settings.bundles.path, settings.bundles.keep)
        space = Space(embedder.space_id, embedder.dim, settings.index) if embedder else None
        self._snapshot = Snapshot(settings, Live(settings), space)
        self._arrays = threading.Lock()  # over whatever reads the snapshot: some calls come from threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._opened_id: str | None = None
        self._collector = gc.get_threshold()

    @property
    def live(self) -> Live:
        """What the serving topics are offered to."""
        return self._snapshot.live

    @property
    def space(self) -> Space | None:
        """Where vectors are offered to; None without an encoder."""
        return self._snapshot.space

    # ------------------------------------------------------------------ life
    def start(self) -> None:
        """Take in what was offered so far, and go on taking in."""
        self._loop = asyncio.get_running_loop()
        self.settle()
        self._collector = gc.get_threshold()
        gc.set_threshold(50_000, 20, 50)
        self._refreshing = self._loop.create_task(self._refresh())

    def settle(self) -> None:
        """Take in what was loaded, which may be much and lives as long as the process."""
        self.refresh()
        gc.collect()
        gc.freeze()  # not worth a look by the collector

    def stop(self) -> None:
        """Take in nothing more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        gc.unfreeze()  # packages in C complain at the end of the process of what was never collected
        gc.set_threshold(*self._collector)

    def guarded(self, name: str, work: Callable[[], None]) -> None:
        """Run work of a thread of the shop; one that dies must be seen: the gateway is not ready any more."""
        try:
            work()
        except Exception as error:
            self.failure = f"the {name} stopped: {error}"
            log.exception("thread=%s failed", name)

    async def _refresh(self) -> None:
        """Take in what the topics bring also while nobody asks, so that the next one to ask need not wait for it."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self.guarded("refresh", self.refresh)

    def refresh(self) -> None:
        """Take in what was offered since the last look; from any thread."""
        with self._arrays:
            self._snapshot.refresh()

    # ------------------------------------------------------------------ bundles
    def load_bundle(self) -> Opened | None:
        """Take the current bundle, before `start`; None where there is none that can be used."""
        try:
            self._opened_id = self._bundles.current_id()
            if self._opened_id is None:
                return None
            opened = self._open(self._opened_id)
        except HeadwaterError as error:
            log.error("bundle=%s not loaded, the blend answers: %s", self._opened_id, error)
            return None
        self._take(opened)
        return opened

    def look_for_bundle(self) -> None:
        """From a thread: load a newly promoted bundle aside and hand it over between two requests."""
        bundle_id = self._opened_id
        try:
            bundle_id = self._bundles.current_id()
            if bundle_id is None or bundle_id == self._opened_id:
                return
            self._opened_id = bundle_id  # a bundle that does not load is not tried again and again
            opened = self._open(bundle_id)
        except HeadwaterError as error:
            log.error("bundle=%s not loaded: %s", bundle_id, error)
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, opened)
            log.info("bundle=%s serves", bundle_id)

    def _open(self, bundle_id: str) -> Opened:
        manifest = self._bundles.load(bundle_id)
        space = self._snapshot.space
        if space is not None and manifest.space_id and manifest.space_id != space.space_id:
            raise Missing(
                f"bundle {bundle_id} is of space {manifest.space_id}, this process encodes in {space.space_id}: "
                "start it with the encoder and text settings of the bundle, or train again"
            )
        return open_bundle(self._bundles.folder(bundle_id), manifest, self._settings)

    def _take(self, opened: Opened) -> None:
        if opened.ease is not None:
            with self._arrays:
                self._snapshot.live.adopt(opened.ease)
        self._snapshot = replace(self._snapshot, ranker=opened.ranker, bundle=opened.manifest.id)

    # ------------------------------------------------------------------ answers
    def recommend(self, request: Request, profile: Profile) -> Decision:
        """Make a list for somebody with that profile."""
        with self._arrays:
            return recommend.recommend(request, profile, self._snapshot)

    def similar(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text is near that of an item."""
        with self._arrays:
            return recommend.similar(item_id, n, filters, self._snapshot)

    def together(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items that go with an item."""
        with self._arrays:
            return recommend.together(item_id, n, filters, self._snapshot)

    def trending(self, n: int, category: str | None, now_ms: int, filters: Filters) -> list[Ranked]:
        """What is used most of late."""
        with self._arrays:
            return recommend.trending(n, category, now_ms, filters, self._snapshot)

    def search(self, text: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text is near the words."""
        if self._embedder is None:
            raise Missing("search needs the encoder, and encoder.model is none")
        vector = self._embedder.query(text)
        with self._arrays:
            return recommend.near(vector, n, filters, self._snapshot)

    def item(self, item_id: str) -> Item | None:
        """The catalogue's entry."""
        with self._arrays:
            self._snapshot.refresh()
            live = self._snapshot.live
            row = live.rows.get(item_id)
            return live.items[row] if row is not None else None

    def categories(self) -> list[str]:
        """Every category path with an item in it."""
        with self._arrays:
            self._snapshot.refresh()
            live = self._snapshot.live
            return sorted(path for path, row in live.category_rows.items() if live.members[row])

    def describe(self) -> dict[str, Any]:
        """The figures that every shop has."""
        live, space = self._snapshot.live, self._snapshot.space
        return {
            "shop": self._settings.shop.name,
            "bundle": self._snapshot.bundle,
            "ranker": "lambdarank" if self._snapshot.ranker else "blend",
            "encoder": self._embedder.name if self._embedder else "none",
            "items": live.sold_count,
            "vectors": len(space.index) if space is not None else 0,
        }
