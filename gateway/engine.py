"""What every shop answers with: live arrays under a lock, kept fresh, and the newest bundle.

Where items, profiles and vectors come from is the shop's matter. Arrays move only under the
lock, between requests.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from core.catalogue import Item
from core.decision import Decision, Filters, Ranked, Request
from core.errors import Missing
from core.profile import Profile
from core.settings import Settings
from gateway.filling import Filler, Filling
from gateway.roster import Roster
from gateway.shadow import Shadow
from gateway.swap import Swapper
from jobs.embedding import Embedder
from jobs.history import described, figures, look
from ranker import recommend
from ranker.bundle import Opened
from ranker.live import Live
from ranker.space import Space

log = logging.getLogger("headwater")

SWITCH_S: Final = 0.001  # a request waits no longer for the interpreter while another thread computes
REFRESH_S: Final = 0.2  # between two looks at what the topics brought, where no request looks before


class SnapshotEngine:
    """Answers from a snapshot. In this order: `load_bundle`, `settle` once the catalogue is there, `start`, `stop`.

    `failure` says which thread or task of the shop died, None while all are well.

    Args:
        settings: of the shop.
        embedder: the encoder of the current bundle or of the settings, or None without a text channel.
        now_ms: the wall clock, in ms since 1970.
        patience_s: an item waits so long for a vector from elsewhere before it is encoded here.
    """

    def __init__(
        self, settings: Settings, embedder: Embedder | None, now_ms: Callable[[], int], patience_s: float = 0.0
    ) -> None:
        self.failure: str | None = None
        self._settings = settings
        self.filler = Filler(patience_s)
        filling = None
        if embedder is not None:
            filling = Filling(Space(embedder.space_id, embedder.dim, settings.index), embedder)
            self.filler.add(filling)
        self._roster = Roster(settings, filling)
        self._swapper = Swapper(settings, self._roster, self.filler, embedder, now_ms)
        self._shadow = Shadow(self._roster, settings.bundles.shadow_share)
        self._first: Opened | None = None  # until its vectors are in the index
        self._refreshing: asyncio.Task[None] | None = None
        self._settled, self._stopping = threading.Event(), threading.Event()
        self._collector, self._switch_s = gc.get_threshold(), sys.getswitchinterval()

    @property
    def live(self) -> Live:
        """What the serving topics are offered to."""
        return self._roster.live

    # ------------------------------------------------------------------ life
    def load_bundle(self) -> None:
        """Take the current bundle, where there is one that can be used."""
        self._first = self._swapper.load_first()

    def settle(self) -> None:
        """Take in what was loaded, which may be much and lives as long as the process; what lacks is encoded."""
        filling, first = self._roster.roles.serving.filling, self._first
        if filling is not None:
            if first is not None and first.manifest.space_id == filling.space.space_id:
                places = self.filler.seed(filling, first)
                if places:
                    vectors = first.vectors[places].astype("f4")
                    filling.space.offer(filling.space.space_id, [first.items[place] for place in places], vectors)
            self.filler.begin(filling)
            self.filler.end(filling)
        self._first = None
        self.refresh()
        gc.collect()
        gc.freeze()  # not worth a look by the collector
        self._settled.set()

    def start(self) -> None:
        """Go on taking in; in the event loop that serves."""
        self._collector, self._switch_s = gc.get_threshold(), sys.getswitchinterval()
        gc.set_threshold(50_000, 20, 50)
        sys.setswitchinterval(SWITCH_S)
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    def works(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What threads of the shop do until `end`, by name."""
        yield "bundles", self._follow_bundles
        yield "shadow", lambda: self._shadow.run(self._stopping)
        yield "embedder", lambda: self.filler.run(self._stopping)

    def _follow_bundles(self) -> None:
        """A bundle is filled with what the catalogue holds, so that has to be there first."""
        while not self._settled.wait(REFRESH_S) and not self._stopping.is_set():
            pass
        self._swapper.run(self._stopping)

    def end(self) -> None:
        """Have the threads finish what they hold."""
        self._stopping.set()
        self.filler.wake()

    def stop(self) -> None:
        """Take in nothing more."""
        self.end()
        if self._refreshing is not None:
            self._refreshing.cancel()
        gc.unfreeze()  # packages in C complain at the end of the process of what was never collected
        gc.set_threshold(*self._collector)
        sys.setswitchinterval(self._switch_s)

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
        self._roster.refresh()

    # ------------------------------------------------------------------ answers
    def recommend(self, request: Request, profile: Profile) -> Decision:
        """Make a list for somebody with that profile."""
        decision, standing = self._roster.recommend(request, profile)
        self._shadow.note(request, profile, decision, standing)
        return decision

    def similar(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text is near that of an item."""
        with self._roster.reading(self._roster.roles.serving) as snapshot:
            return recommend.similar(item_id, n, filters, snapshot)

    def together(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items that go with an item."""
        with self._roster.reading(self._roster.roles.serving) as snapshot:
            return recommend.together(item_id, n, filters, snapshot)

    def trending(self, n: int, category: str | None, now_ms: int, filters: Filters) -> list[Ranked]:
        """What is used most of late."""
        with self._roster.reading(self._roster.roles.serving) as snapshot:
            return recommend.trending(n, category, now_ms, filters, snapshot)

    def search(self, text: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text is near the words, which the encoder of their space encodes."""
        standing = self._roster.roles.serving
        if standing.filling is None:
            raise Missing("search needs the encoder, and encoder.model is none")
        vector = standing.filling.embedder.query(text)
        with self._roster.reading(standing) as snapshot:
            return recommend.near(vector, n, filters, snapshot)

    def item(self, item_id: str) -> Item | None:
        """The catalogue's entry."""
        with self._roster.reading(self._roster.roles.serving) as snapshot:
            snapshot.refresh()
            row = snapshot.live.rows.get(item_id)
            return snapshot.live.items[row] if row is not None else None

    def categories(self) -> list[str]:
        """Every category path with an item in it."""
        with self._roster.reading(self._roster.roles.serving) as snapshot:
            snapshot.refresh()
            live = snapshot.live
            return sorted(path for path, row in live.category_rows.items() if live.members[row])

    def describe(self) -> dict[str, Any]:
        """The figures that every shop has."""
        roles, jobs = self._roster.roles, look(self._settings)
        filling = roles.serving.filling
        return {
            "shop": self._settings.shop.name,
            "bundle": roles.serving.bundle,
            "bundle_before": roles.before.bundle if roles.before is not None else "",
            "held_back": roles.held_back,
            "ranker": "lambdarank" if roles.serving.snapshot.ranker else "blend",
            "encoder": filling.embedder.name if filling is not None else "none",
            "items": self.live.sold_count,
            "vectors": len(filling.space.index) if filling is not None else 0,
            "vectors_waiting": self.filler.waiting,
            **self._shadow.describe(),
            **figures(jobs),
            "jobs": described(jobs),
        }
