"""The gateway's side of a shop on Kafka: events go to topics, answers come from the topics that workers write.

Beside the event loop runs a thread that follows the serving topics, and those of the engine that follow the
bundles and encode what no worker has encoded. Any number of gateways may run; they share nothing but Kafka and
the bundles.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from core.catalogue import ItemChange
from core.decision import Decision, Request
from core.events import Event
from core.profile import NOBODY, Profile
from core.settings import Settings
from gateway.engine import SnapshotEngine
from gateway.following import ServingFollower
from gateway.lanes import Keyed, Lane
from gateway.ledger import Ledger
from gateway.outlet import Outlet
from gateway.ports import KnownShopper, Refused
from gateway.producer import KafkaProducer
from gateway.spool import Spool
from gateway.views import Views
from jobs.embedding import Embedder
from streams.log import New
from streams.messages import DEAD_LETTERS, Letter, of_change, of_event, of_letter
from streams.partition import partition_of
from streams.records import Place

PATIENCE_S: Final = 2.0  # an item waits so long for a worker's vector before it is encoded here
FLUSH_S: Final = 5.0  # at the end, for what callers and the ledger still wait for
RAW_KEPT: Final = 1_000_000  # characters of what was refused that fit into a letter
LETTERS_TOLD: Final = 20


class KafkaShop:
    """Implements the gateway's `Writer`, `Engine` and `Demo` over Kafka.

    Call `start` in the event loop that serves, and `close` at its end.

    Args:
        settings: of the shop.
        embedder: of search queries and of items that the workers left without a vector, or None without a text channel.
        now_ms: the wall clock, in ms since 1970.
        shoppers: whom a demonstration can be tried as.

    Raises:
        Unavailable: another process uses the spool.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder | None,
        now_ms: Callable[[], int],
        shoppers: Sequence[KnownShopper] = (),
    ) -> None:
        self.settings, self._now_ms, self._shoppers = settings, now_ms, shoppers
        spool = Spool(settings.kafka.spool, settings.kafka.spool_bytes)
        self._outlet = Outlet(settings.kafka, spool, partial(KafkaProducer.connect, settings))
        self._ledger = Ledger(settings.log.partitions, self._outlet.offer)
        self._engine = SnapshotEngine(settings, embedder, now_ms, PATIENCE_S)
        self.similar, self.together = self._engine.similar, self._engine.together
        self.trending, self.search = self._engine.trending, self._engine.search
        self.item, self.categories = self._engine.item, self._engine.categories
        self._views = Views(settings, self._engine.live, self._engine.filler)
        self._follower = ServingFollower(settings, self._views, self._engine.refresh, self._engine.settle)
        self._lanes: dict[Place, Lane] = {}
        self._turn = itertools.count()
        self._letters: deque[Letter] = deque(maxlen=LETTERS_TOLD)
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------------ life
    def start(self) -> None:
        """Begin to send and to follow. Must be called in the event loop."""
        self._engine.load_bundle()
        self._engine.start()
        self._outlet.start()
        self._ledger.start()
        for name, work in (("follower", self._follower.run), *self._engine.works()):
            thread = threading.Thread(target=self._engine.guarded, args=(name, work), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    async def close(self) -> None:
        """Have everything kept that somebody waits for, and leave Kafka; the spool stays for the next process."""
        self._follower.stop()
        self._engine.end()
        ends = time.monotonic() + FLUSH_S
        while not all(lane.idle for lane in self._lanes.values()) and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        await self._ledger.stop(ends - time.monotonic() if self._outlet.open else 0.0)
        await self._outlet.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 20)
        self._engine.stop()

    # ------------------------------------------------------------------ Writer
    async def events(self, accepted: Sequence[Event], refused: Sequence[Refused]) -> None:
        """Send; Kafka has acknowledged it on return, or the spool has it on the disk."""
        await self._keep([of_event(event) for event in accepted], refused)

    async def items(self, accepted: Sequence[ItemChange], refused: Sequence[Refused]) -> None:
        """Send catalogue changes, each as a record of its own; as for events."""
        await self._keep([of_change(change) for change in accepted], refused)

    async def _keep(self, records: Sequence[New], refused: Sequence[Refused]) -> None:
        by_place: dict[Place, list[Keyed]] = {}
        for one in records:
            place = one.topic, partition_of(one.key, self.settings.log.partitions)
            by_place.setdefault(place, []).append(Keyed(one.key, one.value or b""))
        for letter in [_letter(one, self._now_ms()) for one in refused]:
            self._letters.appendleft(letter)
            place = DEAD_LETTERS, next(self._turn) % self.settings.log.partitions
            by_place.setdefault(place, []).append(Keyed(None, of_letter(letter).value or b""))
        self._outlet.check_room(sum(len(one.value) for values in by_place.values() for one in values))
        waiting = [self._lane(place).put(values) for place, values in by_place.items()]
        for found in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found

    def _lane(self, place: Place) -> Lane:
        lane = self._lanes.get(place)
        if lane is None:
            kafka = self.settings.kafka
            pack = kafka.pack if place[0] in ("clickstream", "feedback") else 0
            lane = self._lanes[place] = Lane(*place, self._outlet.keep, pack=pack, most_bytes=kafka.max_record_bytes)
        return lane

    # ------------------------------------------------------------------ Engine
    def recommend(self, request: Request) -> Decision:
        """Answer, and leave the decision to the ledger."""
        profile = self.profile(request.shopper) if request.shopper else NOBODY
        decision = self._engine.recommend(request, profile)
        if request.shopper:
            self._ledger.add(decision)
        return decision

    def shoppers(self) -> Sequence[KnownShopper]:
        """Whom the demonstration can be tried as."""
        return self._shoppers

    def profile(self, shopper: str) -> Profile:
        """What is kept of a shopper."""
        return self._views.profiles.get(shopper)

    def ready(self) -> str | None:
        """None when all that was there at the start has been read; else what is being waited for."""
        return self._engine.failure or self._follower.waiting

    def describe(self) -> dict[str, Any]:
        """Figures for health, metrics and the admin page."""
        packed = [lane for (topic, _), lane in self._lanes.items() if topic in ("clickstream", "feedback")]
        records, spool = sum(lane.records for lane in packed), self._outlet.spool
        return {
            **self._engine.describe(),
            "shoppers": len(self._views.profiles),
            "lag_records": self._follower.lag,
            "unusable_records": self._views.unusable,
            "kafka": "open" if self._outlet.open else "spooling",
            "events_per_record": round(sum(lane.values for lane in packed) / records, 2) if records else 0.0,
            "spool_bytes": spool.bytes,
            "spool_records": spool.records,
            "decisions_waiting": len(self._ledger),
            "decisions_dropped": self._ledger.dropped,
            "dead_letters": [msgspec.structs.asdict(one) for one in self._letters],
        }


def _letter(one: Refused, now_ms: int) -> Letter:
    return Letter(one.reason, "gateway", now_ms, one.raw.decode("utf-8", "replace")[:RAW_KEPT])
