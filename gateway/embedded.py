"""The whole shop in one process: the embedded log, the runner, the encoder and the answers.

Threads beside the event loop: the runner follows the log, the scribe logs decisions, and those of the
engine give new items their vectors and follow the bundles. Arrays move only under one lock, between requests.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from core.catalogue import ItemChange
from core.decision import Decision, Request
from core.errors import BadSettings, Unavailable
from core.events import Event
from core.profile import NOBODY, Profile
from core.settings import Settings
from core.stats import ItemStats
from gateway.engine import SnapshotEngine
from gateway.ports import KnownShopper, Refused
from jobs.embedding import Embedder
from streams.follower import Follower
from streams.log import EmbeddedLog, New
from streams.messages import Letter, letters, of_change, of_decision, of_event, of_letter
from streams.records import Place
from streams.topology import build

log = logging.getLogger("headwater")

LOG_AT_ONCE: Final = 500  # decisions of one append
WAIT_S: Final = 0.5  # a POST waits at most this long for its events to take effect
LOOK_S: Final = 0.5  # between two counts of the shoppers
LETTERS_TOLD: Final = 20


class EmbeddedShop:
    """Implements the gateway's `Writer`, `Engine` and `Demo` over one SQLite file.

    Call `start` in the event loop that serves, and `stop` at its end.

    Args:
        settings: of the shop.
        embedder: of item text, or None without a text channel.
        now_ms: the wall clock, in ms since 1970.
        shoppers: whom a demonstration can be tried as.

    Raises:
        Unavailable: another process serves from the same log.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder | None,
        now_ms: Callable[[], int],
        shoppers: Sequence[KnownShopper] = (),
    ) -> None:
        self.settings = settings
        self._now_ms, self._shoppers = now_ms, shoppers
        self._log = EmbeddedLog.open(settings.log)
        try:
            self._follower = Follower(settings, self._log, self._publish)
        except Unavailable:
            self._log.close()
            raise
        self._engine = SnapshotEngine(settings, embedder, now_ms)
        self.similar, self.together = self._engine.similar, self._engine.together
        self.trending, self.search = self._engine.trending, self._engine.search
        self.item, self.categories = self._engine.item, self._engine.categories
        self._decisions: queue.SimpleQueue[Decision] = queue.SimpleQueue()
        self._waiting: list[tuple[dict[Place, int], asyncio.Future[None]]] = []
        self._waiting_lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known_shoppers = 0

    # ------------------------------------------------------------------ life
    def start(self) -> None:
        """Load state and bundle, then follow the log. Must be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._engine.load_bundle()
        self._load_tables()
        self._engine.settle()
        self._engine.start()
        for name, work in (("runner", self._follow), ("scribe", self._scribe), *self._engine.works()):
            thread = threading.Thread(target=self._engine.guarded, args=(name, work), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let the threads finish what they hold, and close the log."""
        self._stopping.set()
        self._engine.end()
        for thread in self._threads:
            thread.join(timeout=20)
        self._log.close()
        self._follower.close()
        self._engine.stop()

    async def close(self) -> None:
        """`stop`, as every shop is ended; nothing else runs in the loop meanwhile."""
        self.stop()

    def trim(self) -> int:
        """Let the log forget what retention does not keep; how many records went."""
        return self._log.trim(self._now_ms())

    def events_logged(self) -> int:
        """How many events the log has ever taken."""
        return sum(last + 1 for (topic, _), last in self._log.ends().items() if topic in ("clickstream", "feedback"))

    # ------------------------------------------------------------------ loading
    def _load_tables(self) -> None:
        for stage in build(self.settings):
            if not stage.publishes:
                continue
            table = self._follower.runner.tables[stage.name]
            with closing(self._log.table(stage.name)) as rows:
                for key, stored in rows:
                    value = stage.serve(table.decode(stored))
                    if stage.publishes == "item-stats":
                        _check_half_lives(value, self.settings)
                    self._publish(stage.publishes, key.decode(), value)

    # ------------------------------------------------------------------ Writer
    async def events(self, accepted: Sequence[Event], refused: Sequence[Refused]) -> None:
        """Append; durable on return, and taken in by the steps unless they lag by more than half a second."""
        await self._append([of_event(event) for event in accepted], refused)

    async def items(self, accepted: Sequence[ItemChange], refused: Sequence[Refused]) -> None:
        """Append catalogue changes; as for events."""
        await self._append([of_change(change) for change in accepted], refused)

    async def _append(self, records: list[New], refused: Sequence[Refused]) -> None:
        if self._engine.failure is not None:
            raise Unavailable(self._engine.failure)
        letters = [Letter(one.reason, "gateway", self._now_ms(), one.raw.decode("utf-8", "replace")) for one in refused]
        placed = await asyncio.to_thread(self._log.append, records + [of_letter(one) for one in letters])
        wanted: dict[Place, int] = {}
        for record, found in zip(records, placed, strict=False):  # nobody waits for letters
            if found is not None:
                place = record.topic, found[0]
                wanted[place] = max(found[1], wanted.get(place, -1))
        if wanted:
            await self._taken_in(wanted)

    async def _taken_in(self, wanted: dict[Place, int]) -> None:
        assert self._loop is not None
        done = self._loop.create_future()
        with self._waiting_lock:
            self._waiting.append((wanted, done))
        self._wake()
        await asyncio.wait([done], timeout=WAIT_S)
        done.cancel()  # where it was too late, nobody waits any more

    def _wake(self) -> None:
        """Tell those whose events have taken effect."""
        ready, still, reached = [], [], self._follower.done
        with self._waiting_lock:
            for wanted, future in self._waiting:
                if all(reached.get(place, -1) >= offset for place, offset in wanted.items()):
                    ready.append(future)
                elif not future.done():
                    still.append((wanted, future))
            self._waiting = still
        if ready and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, ready)

    # ------------------------------------------------------------------ the runner's thread
    def _follow(self) -> None:
        self._follower.run(self._stopping, self._wake)

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self._engine.live.offer(topic, key, value)
        if topic == "catalogue":
            self._engine.filler.note(key, value)

    # ------------------------------------------------------------------ the scribe's thread
    def _scribe(self) -> None:
        looked = 0.0
        while not self._stopping.is_set() or not self._decisions.empty():
            self._log_decisions()
            if time.monotonic() - looked > LOOK_S and not self._stopping.is_set():
                self._known_shoppers = self._log.count("profile")
                looked = time.monotonic()

    def _log_decisions(self) -> None:
        """Log what was served; in a quarter of a second's time if there is nothing."""
        records: list[New] = []
        try:
            records.append(of_decision(self._decisions.get(timeout=0.25)))
            while len(records) < LOG_AT_ONCE:
                records.append(of_decision(self._decisions.get_nowait()))
        except queue.Empty:
            pass
        try:
            self._log.append(records)
        except Unavailable as error:
            log.error("decisions=%d not logged: %s", len(records), error)

    # ------------------------------------------------------------------ Engine
    def recommend(self, request: Request) -> Decision:
        """Answer, and leave the decision to the scribe."""
        profile = self.profile(request.shopper) if request.shopper else NOBODY
        decision = self._engine.recommend(request, profile)
        if request.shopper:
            self._decisions.put(decision)
        return decision

    def shoppers(self) -> Sequence[KnownShopper]:
        """Whom the demonstration can be tried as."""
        return self._shoppers

    def profile(self, shopper: str) -> Profile:
        """What is kept of a shopper."""
        found: Profile = self._follower.runner.tables["profile"].peek(shopper)
        return found

    def ready(self) -> str | None:
        """None when caught up; else what is being waited for."""
        if self._engine.failure is not None:
            return self._engine.failure
        if not self._follower.caught_up:
            return f"taking in the log: {self._follower.lag():,} records to go"
        return None

    def describe(self) -> dict[str, Any]:
        """Figures for health, metrics and the admin page."""
        return {
            **self._engine.describe(),
            "shoppers": self._known_shoppers,
            "events": self.events_logged(),
            "lag_events": self._follower.lag(),
            "dead_letters": [msgspec.structs.asdict(one) for one in letters(self._log, LETTERS_TOLD)],
        }


def _resolve(done: Sequence[asyncio.Future[None]]) -> None:
    for future in done:
        if not future.done():
            future.set_result(None)


def _check_half_lives(stats: ItemStats, settings: Settings) -> None:
    """Counters of another number of half-lives cannot be gone on with.

    Raises:
        BadSettings: the log was counted with other settings.
    """
    wanted = settings.popularity.half_lives_s
    for counter in stats.counters.values():
        if len(counter.faded) != len(wanted):
            raise BadSettings(
                f"popularity.half_lives_s names {len(wanted)} half-lives, and {settings.log.path} was counted with "
                f"{len(counter.faded)}: set it back, or start with another log.path and import the history again"
            )
