"""The whole shop in one process: the embedded log, the runner, the encoder and the answers.

Three threads beside the event loop: the runner follows the log, the embedder gives new items
their vectors, the scribe logs decisions and watches for a new bundle. Arrays move only in the
event loop, between requests.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from core.bundle import Bundles
from core.catalogue import Item, ItemChange, parse_change
from core.decision import Decision, Filters, Ranked, Request
from core.errors import BadInput, HeadwaterError, Missing, Unavailable
from core.events import Event, decode, encode
from core.profile import NOBODY, Profile
from core.settings import Settings
from gateway.ports import Refused
from jobs.embedding import Embedder
from ranker import recommend
from ranker.bundle import Opened, open_bundle
from ranker.live import Live
from ranker.recommend import Snapshot
from ranker.space import Space
from streams.attribution import Served
from streams.log import EmbeddedLog, Entry, New
from streams.runner import Runner
from streams.topology import SOURCES, build

log = logging.getLogger("headwater")

GROUP: Final = "runner"
BATCH: Final = 500  # records the runner takes at a time
COMMIT_S: Final = 1.0
ENCODE_AT_ONCE: Final = 64
WAIT_S: Final = 0.5  # a POST waits at most this long for its events to take effect
TABLES_KEPT: Final = 200_000  # states of one table in memory; the others are read when needed


class EmbeddedShop:
    """Implements the gateway's `Writer`, `Engine` and `Demo` over one SQLite file.

    Call `start` in the event loop that serves, and `stop` at its end.
    """

    def __init__(self, settings: Settings, embedder: Embedder | None) -> None:
        self.settings = settings
        self._embedder = embedder
        self._log = EmbeddedLog.open(settings.log)
        self._bundles = Bundles(settings.bundles.path, settings.bundles.keep)
        live = Live(settings)
        space = Space(embedder.space_id, embedder.dim, settings.index) if embedder else None
        self._snapshot = Snapshot(settings, live, space)
        self._runner = Runner(build(settings), self._publish, self._emit, self._log.get)
        self._positions = self._log.positions(GROUP)
        self._outputs: list[New] = []
        self._to_embed: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._arrays = threading.Lock()  # over whatever reads the snapshot: some calls come from threads
        self._decisions: queue.SimpleQueue[Decision] = queue.SimpleQueue()
        self._waiting: list[tuple[dict[tuple[str, int], int], asyncio.Future[None]]] = []
        self._waiting_lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: str | None = None
        self._caught_up = False
        self._embedding = 0
        self._opened_id: str | None = None
        self._done_to = dict(self._positions)

    # ------------------------------------------------------------------ life
    def start(self) -> None:
        """Load state and bundle, then follow the log. Must be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        vectors = self._load_bundle_at_start()
        self._load_tables(vectors)
        self._snapshot.refresh()
        gc.collect()
        gc.freeze()  # what was loaded lives as long as the process: not worth a look by the collector
        gc.set_threshold(50_000, 20, 50)
        for work in (self._follow, self._embed, self._scribe):
            thread = threading.Thread(target=self._guarded, args=(work,), name=work.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let the threads finish what they hold, and close the log."""
        self._stopping.set()
        self._to_embed.put(None)
        for thread in self._threads:
            thread.join(timeout=20)
        self._log.close()

    def _guarded(self, work: Any) -> None:
        """A thread that dies must be seen: the gateway is not ready any more."""
        try:
            work()
        except Exception as error:
            self._failure = f"the {work.__name__.strip('_')} stopped: {error}"
            log.exception("thread=%s failed", work.__name__)

    def _load_bundle_at_start(self) -> Opened | None:
        bundle_id = self._bundles.current_id()
        if bundle_id is None:
            return None
        try:
            opened = self._open(bundle_id)
        except HeadwaterError as error:
            log.error("bundle=%s not loaded, the blend answers: %s", bundle_id, error)
            return None
        self._take(opened)
        return opened

    def _open(self, bundle_id: str) -> Opened:
        manifest = self._bundles.load(bundle_id)
        space = self._snapshot.space
        if space is not None and manifest.space_id and manifest.space_id != space.space_id:
            raise Missing(
                f"bundle {bundle_id} is of space {manifest.space_id}, this process encodes in {space.space_id}: "
                "start it with the encoder and text settings of the bundle"
            )
        return open_bundle(self._bundles.folder(bundle_id), manifest, self.settings)

    def _take(self, opened: Opened) -> None:
        self._opened_id = opened.manifest.id
        self._snapshot = replace(self._snapshot, ranker=opened.ranker, bundle=opened.manifest.id)

    def _load_tables(self, bundle: Opened | None) -> None:
        live, tables = self._snapshot.live, self._runner.tables
        texts: dict[str, Item] = {}
        for stage in build(self.settings):
            if not stage.publishes:
                continue
            table = tables[stage.name]
            for key, stored in self._log.table(stage.name):
                value = stage.serve(table.decode(stored))
                live.offer(stage.publishes, key.decode(), value)
                if stage.publishes == "catalogue" and value is not None:
                    texts[key.decode()] = value
        self._load_vectors(texts, bundle)

    def _load_vectors(self, items: dict[str, Item], bundle: Opened | None) -> None:
        space = self._snapshot.space
        if space is None:
            return
        if bundle is not None and bundle.manifest.space_id == space.space_id:
            made_ms = bundle.manifest.created_ms
            known = [place for place, item in enumerate(bundle.items) if item in items and items[item].text_ts <= made_ms]
            if known:
                names = [bundle.items[place] for place in known]
                space.offer(space.space_id, names, bundle.vectors[known].astype(np.float32))
                for name in names:
                    del items[name]
        self._embedding = len(items)
        for item in items.values():
            self._to_embed.put(item)

    # ------------------------------------------------------------------ Writer
    async def events(self, accepted: Sequence[Event], refused: Sequence[Refused]) -> None:
        """Append; durable on return, and taken in by the steps unless they lag by more than half a second."""
        records = [New(e.topic, e.shopper.encode(), encode(e), e.ts, e.event_id) for e in accepted]
        await self._append(records + [_dead_letter(one) for one in refused])

    async def items(self, accepted: Sequence[ItemChange], refused: Sequence[Refused]) -> None:
        """Append catalogue changes; as for events."""
        records = [New("items", c.item_id.encode(), msgspec.json.encode(c), c.ts) for c in accepted]
        await self._append(records + [_dead_letter(one) for one in refused])

    async def _append(self, records: list[New]) -> None:
        if self._failure is not None:
            raise Unavailable(self._failure)
        placed = await asyncio.to_thread(self._log.append, records)
        wanted: dict[tuple[str, int], int] = {}
        for record, place in zip(records, placed, strict=True):
            if place is not None and record.topic in SOURCES:
                wanted[record.topic, place[0]] = max(place[1], wanted.get((record.topic, place[0]), -1))
        if wanted and self._loop is not None:
            done = self._loop.create_future()
            with self._waiting_lock:
                self._waiting.append((wanted, done))
            self._wake()
            await asyncio.wait([done], timeout=WAIT_S)

    def _wake(self) -> None:
        """Tell those whose events have taken effect."""
        with self._waiting_lock:
            ready = [one for one in self._waiting if all(self._done_to.get(p, -1) >= o for p, o in one[0].items())]
            self._waiting = [one for one in self._waiting if one not in ready and not one[1].done()]
        for _, done in ready:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_resolve, done)

    # ------------------------------------------------------------------ the runner's thread
    def _follow(self) -> None:
        committed = time.monotonic()
        since = 0
        while True:
            entries = self._log.read_all(SOURCES, self._positions, BATCH)
            for entry in entries:
                self._apply(entry)
                self._positions[entry.topic, entry.partition] = entry.offset
            since += len(entries)
            self._done_to = dict(self._positions)
            self._wake()
            self._caught_up = self._caught_up or len(entries) < BATCH
            late = time.monotonic() - committed >= COMMIT_S
            if since and (late or since >= self.settings.log.commit_every or self._stopping.is_set()):
                self._commit()
                committed, since = time.monotonic(), 0
            if not entries:
                if self._stopping.is_set():
                    return
                self._log.wait(0.05 if since else 0.5)

    def _apply(self, entry: Entry) -> None:
        if entry.value is None:
            return
        try:
            for message in _messages(entry):
                if isinstance(message, BadInput):
                    self._outputs.append(_unreadable(entry, str(message)))
                else:
                    self._runner.accept(message)
        except BadInput as error:
            self._outputs.append(_unreadable(entry, str(error)))

    def _commit(self) -> None:
        tables = {name: table.take_dirty() for name, table in self._runner.tables.items()}
        outputs, self._outputs = self._outputs, []
        while True:
            try:
                self._log.commit(GROUP, positions=self._positions, tables=tables, outputs=outputs)
                break
            except Unavailable as error:
                log.error("state not stored, trying again: %s", error)
                if self._stopping.wait(1.0):
                    return  # the log still has every event; the next start takes them in again
        for table in self._runner.tables.values():
            table.shrink(TABLES_KEPT)

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self._snapshot.live.offer(topic, key, value)
        if topic == "catalogue" and self._snapshot.space is not None:
            if value is None:
                self._snapshot.space.remove([key])
            else:
                self._embedding += 1
                self._to_embed.put(value)

    def _emit(self, topic: str, key: str, value: Any) -> None:
        ts = int(getattr(value, "ts", 0))
        self._outputs.append(New(topic, key.encode(), msgspec.msgpack.encode(value), ts))

    # ------------------------------------------------------------------ the embedder's thread
    def _embed(self) -> None:
        done: dict[str, int] = {}
        while not self._stopping.is_set():
            batch = [self._to_embed.get()]
            while len(batch) < ENCODE_AT_ONCE and not self._to_embed.empty():
                batch.append(self._to_embed.get())
            items = {item.item_id: item for item in batch if item is not None}
            changed = [item for item in items.values() if done.get(item.item_id) != item.text_ts]
            if changed and self._embedder is not None and self._snapshot.space is not None:
                vectors = self._embedder.vectors(changed)
                self._snapshot.space.offer(self._embedder.space_id, [item.item_id for item in changed], vectors)
                done |= {item.item_id: item.text_ts for item in changed}
            self._embedding -= len(batch)

    # ------------------------------------------------------------------ the scribe's thread
    def _scribe(self) -> None:
        looked = 0.0
        while not self._stopping.is_set() or not self._decisions.empty():
            batch: list[Decision] = []
            try:
                batch.append(self._decisions.get(timeout=0.25))
                while len(batch) < BATCH:
                    batch.append(self._decisions.get_nowait())
            except queue.Empty:
                pass
            if batch:
                self._log_decisions(batch)
            if time.monotonic() - looked > 0.5 and not self._stopping.is_set():
                looked = time.monotonic()
                self._look_for_bundle()

    def _log_decisions(self, batch: Sequence[Decision]) -> None:
        records = [New("decisions", d.shopper.encode(), msgspec.msgpack.encode(d), d.ts) for d in batch]
        try:
            self._log.append(records)
        except Unavailable as error:
            log.error("decisions=%d not logged: %s", len(batch), error)

    def _look_for_bundle(self) -> None:
        """Load a newly promoted bundle aside and hand it over between two requests."""
        bundle_id = self._bundles.current_id()
        if bundle_id is None or bundle_id == self._opened_id:
            return
        self._opened_id = bundle_id  # a bundle that does not load is not tried again and again
        try:
            opened = self._open(bundle_id)
        except HeadwaterError as error:
            log.error("bundle=%s not loaded: %s", bundle_id, error)
            return
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._take, opened)
        log.info("bundle=%s serves", bundle_id)

    # ------------------------------------------------------------------ Engine
    def recommend(self, request: Request) -> Decision:
        """Answer, and leave the decision to the scribe."""
        profile = self.profile(request.shopper) if request.shopper else NOBODY
        with self._arrays:
            decision = recommend.recommend(request, profile, self._snapshot)
        if request.shopper:
            self._decisions.put(decision)
        return decision

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
        live = self._snapshot.live
        row = live.rows.get(item_id)
        return live.items[row] if row is not None else None

    def categories(self) -> list[str]:
        """Every category path with an item in it."""
        live = self._snapshot.live
        return sorted(path for path, row in live.category_rows.items() if live.members[row])

    def profile(self, shopper: str) -> Profile:
        """What is kept of a shopper."""
        found: Profile = self._runner.tables["profile"].peek(shopper)
        return found

    def ready(self) -> str | None:
        """None when caught up; else what is being waited for."""
        if self._failure is not None:
            return self._failure
        if not self._caught_up:
            return f"taking in the log: {self._lag()} records to go"
        return None

    def describe(self) -> dict[str, Any]:
        """Figures for health, metrics and the admin page."""
        live, space = self._snapshot.live, self._snapshot.space
        return {
            "shop": self.settings.shop.name,
            "bundle": self._snapshot.bundle,
            "ranker": "lambdarank" if self._snapshot.ranker else "blend",
            "encoder": self._embedder.name if self._embedder else "none",
            "items": live.sold_count,
            "vectors": len(space.index) if space is not None else 0,
            "vectors_waiting": max(0, self._embedding),
            "shoppers": self._log.count("profile"),
            "events": sum(last + 1 for (topic, _), last in self._log.ends().items() if topic in ("clickstream", "feedback")),
            "lag_events": self._lag(),
            "dead_letters": self._dead_letters(),
        }

    def _lag(self) -> int:
        done = self._done_to
        return sum(last - done.get(p, -1) for p, last in self._log.ends().items() if p[0] in SOURCES)

    def _dead_letters(self, most: int = 20) -> list[dict[str, Any]]:
        ends = {place: last for place, last in self._log.ends().items() if place[0] == "dead-letter"}
        found = self._log.read_all(("dead-letter",), {place: last - most for place, last in ends.items()}, most * 8)
        letters = [msgspec.json.decode(entry.value) for entry in found if entry.value is not None]
        return letters[::-1][:most]


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _messages(entry: Entry) -> Sequence[Event | ItemChange | Served | BadInput]:
    """What a record of a source topic says.

    Raises:
        BadInput: it cannot be read.
    """
    assert entry.value is not None
    if entry.topic in ("clickstream", "feedback"):
        return decode(entry.value)
    try:
        if entry.topic == "items":
            return [parse_change(msgspec.json.decode(entry.value), received_ms=entry.ts)]
        decision = msgspec.msgpack.decode(entry.value, type=Decision)
    except msgspec.DecodeError as error:
        raise BadInput(f"cannot be read: {error}") from None
    shown = tuple([one.item_id for one in decision.items])
    return [Served(decision.recommendation_id, decision.ts, decision.shopper, shown)]


def _dead_letter(refused: Refused) -> New:
    return _letter(refused.reason, refused.raw, "gateway", 0)


def _unreadable(entry: Entry, reason: str) -> New:
    return _letter(reason, entry.value or b"", f"{entry.topic}/{entry.partition}/{entry.offset}", entry.ts)


def _letter(reason: str, raw: bytes, origin: str, ts: int) -> New:
    value = {"reason": reason, "origin": origin, "ts": ts, "raw": raw.decode("utf-8", "replace")}
    return New("dead-letter", b"", msgspec.json.encode(value), ts)
