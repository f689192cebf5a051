"""Sees to it that every item that is sold has a vector in every space that is warm.

Vectors come from three sides: a bundle holds those of its time, on Kafka the topic `item-vectors` brings those of
the workers, and what is still missing is encoded here, in one thread.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from core.errors import HeadwaterError
from jobs.embedding import Embedder
from ranker.bundle import Opened
from ranker.space import Space

log = logging.getLogger("headwater")

AT_ONCE: Final = 256  # texts: a second or two of work, and a new item waits no longer than that
FEW: Final = 16  # texts at a time while a space is made ready: what serves computes in between
LOOKED_UP_AT_ONCE: Final = 1_000  # items between two chances for the other threads
FRESH_S: Final = 1.0
LOOK_S: Final = 0.25
REST_S: Final = 1.0  # after a failure


class Waiting(NamedTuple):
    """An item whose text has no vector, and since when."""

    item: Item
    since: float


class Brought(NamedTuple):
    """A vector that was made elsewhere, of an item's text of `text_ts` (ms)."""

    item_id: str
    text_ts: int
    vector: NDArray[np.float32]


class Filling:
    """A space with its encoder, which texts it holds (by their `text_ts`) and which it lacks.

    Made ready by `Filler.begin`. `failure` is why its encoder gave nothing before it was ready.
    """

    def __init__(self, space: Space, embedder: Embedder) -> None:
        self.space, self.embedder = space, embedder
        self.has: dict[str, int] = {}
        self.waiting: dict[str, Waiting] = {}
        self.gone: set[str] = set()  # sold no more since it was added, and before it was ready
        self.begun = False  # what waits is being encoded
        self.ready = False
        self.heard = -math.inf  # when a vector of it came from elsewhere
        self.failure: Exception | None = None


class Filler:
    """All spaces that are warm. Told of items and vectors by any thread; `run` is the work of one.

    Args:
        patience_s: an item waits so long for its vector to come from elsewhere, and all of a space while vectors
            of it keep coming, before it is encoded here.
        clock: in seconds.
    """

    def __init__(self, patience_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._fillings: tuple[Filling, ...] = ()
        self._lock = threading.Lock()
        self._news = threading.Event()

    @property
    def waiting(self) -> int:
        """Vectors that are missing, in all spaces together."""
        return sum(len(one.waiting) for one in self._fillings)

    # ------------------------------------------------------------------ which spaces
    def add(self, filling: Filling) -> None:
        """Note for this space too what happens from now on."""
        with self._lock:
            self._fillings = (*self._fillings, filling)

    def keep(self, fillings: Iterable[Filling]) -> None:
        """Let go of all spaces but these."""
        kept = set(map(id, fillings))
        with self._lock:
            self._fillings = tuple([one for one in self._fillings if id(one) in kept])

    def of(self, space_id: str) -> Filling | None:
        """The warm space of that id."""
        return next((one for one in self._fillings if one.space.space_id == space_id), None)

    # ------------------------------------------------------------------ what happens
    def note(self, item_id: str, item: Item | None) -> None:
        """An item as it stands now; None for one that is sold no more."""
        if not self._fillings:
            return
        now = self._clock()
        with self._lock:
            for one in self._fillings:
                self._note(one, item_id, item, now)
        if item is not None:
            self._news.set()

    def take(self, space_id: str, brought: Sequence[Brought]) -> None:
        """Vectors of items that are sold, from elsewhere; those of a space that is not warm are passed over."""
        filling = self.of(space_id)
        if filling is None:
            return
        with self._lock:
            filling.heard = self._clock()
            newer = [one for one in brought if filling.has.get(one.item_id, one.text_ts) <= one.text_ts]
            if newer:
                filling.space.offer(space_id, [one.item_id for one in newer], np.stack([one.vector for one in newer]))
            for one in newer:
                filling.has[one.item_id] = one.text_ts
                waiting = filling.waiting.get(one.item_id)
                if waiting is not None and waiting.item.text_ts <= one.text_ts:
                    del filling.waiting[one.item_id]

    def lose(self, item_id: str) -> None:
        """The vectors of an item hold no more; if it is sold, it will be noted anew."""
        with self._lock:
            for one in self._fillings:
                one.has.pop(item_id, None)
                one.space.remove([item_id])

    @staticmethod
    def _note(filling: Filling, item_id: str, item: Item | None, now: float) -> None:
        if item is None:
            filling.has.pop(item_id, None)
            filling.waiting.pop(item_id, None)
            filling.space.remove([item_id])
            if not filling.ready:
                filling.gone.add(item_id)
            return
        filling.gone.discard(item_id)
        if filling.has.get(item_id) != item.text_ts:
            filling.waiting[item_id] = Waiting(item, now)
        else:
            filling.waiting.pop(item_id, None)

    # ------------------------------------------------------------------ making a space ready
    def stock(self, filling: Filling, items: Iterable[Item]) -> None:
        """The catalogue as it stood at a moment after `add`; what was noted since is newer."""
        source = iter(items)
        while some := list(islice(source, LOOKED_UP_AT_ONCE)):
            with self._lock:
                for item in some:
                    if not any(item.item_id in known for known in (filling.has, filling.waiting, filling.gone)):
                        filling.waiting[item.item_id] = Waiting(item, -math.inf)
            time.sleep(0)

    def seed(self, filling: Filling, bundle: Opened) -> list[int]:
        """The places in a bundle of the vectors that its space lacks; the caller puts them into it."""
        found, source = list[int](), zip(bundle.items, bundle.texts.tolist(), strict=True)
        place = 0
        while some := list(islice(source, LOOKED_UP_AT_ONCE)):
            with self._lock:
                for item_id, text_ts in some:
                    waiting = filling.waiting.get(item_id)
                    if waiting is not None and waiting.item.text_ts == text_ts:
                        del filling.waiting[item_id]
                        filling.has[item_id] = text_ts
                        found.append(place)
                    place += 1
            time.sleep(0)
        return found

    def begin(self, filling: Filling) -> None:
        """Encode what this space lacks."""
        filling.begun = True
        self._news.set()

    def behind(self, filling: Filling) -> bool:
        """Whether the space lacks more than what came within the last second."""
        since = self._clock() - FRESH_S
        with self._lock:
            return any(one.since < since for one in filling.waiting.values())

    def end(self, filling: Filling) -> None:
        """The space is ready: it holds what it was filled with, but for items that went meanwhile."""
        with self._lock:
            filling.space.remove(list(filling.gone))
            filling.gone.clear()
            filling.ready = True

    # ------------------------------------------------------------------ the thread
    def run(self, stopping: threading.Event) -> None:
        """Encode what is missing until `stopping`."""
        while not stopping.is_set():
            self._news.clear()
            worked = [self._some(one) for one in self._fillings]
            if not any(worked):
                self._news.wait(LOOK_S)

    def wake(self) -> None:
        """Have `run` look at whether it is to stop."""
        self._news.set()

    def _some(self, filling: Filling) -> bool:
        """Encode a few of what a space lacks; whether there was anything."""
        items = self._ripe(filling)
        if not items:
            return False
        started = time.perf_counter()
        try:
            encode = filling.embedder.vectors if self._calm else filling.embedder.aside
            vectors = encode(items)
        except Exception as error:
            if filling.ready and not isinstance(error, HeadwaterError):
                raise
            self._failed(filling, error)
            return False
        with self._lock:
            rows = [n for n, item in enumerate(items) if self._still(filling, item)]
            if rows:
                filling.space.offer(filling.embedder.space_id, [items[n].item_id for n in rows], vectors[rows])
            for n in rows:
                filling.has[items[n].item_id] = items[n].text_ts
                del filling.waiting[items[n].item_id]
        if not filling.ready:  # nobody waits for it, and requests want the processor too
            time.sleep(time.perf_counter() - started)
        return True

    @property
    def _calm(self) -> bool:
        """Whether no space is being made ready beside those that answer."""
        return all(one.ready for one in self._fillings)

    def _ripe(self, filling: Filling) -> list[Item]:
        if not (filling.begun and filling.waiting) or filling.failure is not None:
            return []
        now = self._clock()
        patience_s = self._patience_s if filling.ready else 0.0
        most = AT_ONCE if self._calm else FEW
        if now - filling.heard < patience_s:
            return []
        with self._lock:
            some = islice(filling.waiting.values(), most)
            return [one.item for one in some if now - one.since >= patience_s]

    @staticmethod
    def _still(filling: Filling, item: Item) -> bool:
        """Whether that is the text that is missing."""
        waiting = filling.waiting.get(item.item_id)
        return waiting is not None and waiting.item.text_ts == item.text_ts

    @staticmethod
    def _failed(filling: Filling, error: Exception) -> None:
        if not filling.ready:
            filling.failure = error
            return
        log.error(
            "space=%s items=%d not encoded, trying again: %s", filling.space.space_id, len(filling.waiting), error
        )
        time.sleep(REST_S)
