"""A whole shop in memory, driven by a recorded log: the same steps, requests and jobs as live.

Used where there are no logged decisions yet: it makes decisions at past moments by running the
same `recommend` functions, learns from what followed, and so trains the first ranker; and it is
what the replay of `evaluation` answers its queries from.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, ItemChange
from core.decision import Label, Request
from core.errors import FutureLeak
from core.events import Event
from core.ids import SECOND_MS, coin, hash64
from core.profile import NOBODY, Profile
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.lessons import GRADES, Lesson, collect
from ranker import features
from ranker.arrays import Floats
from ranker.channels import CHANNELS
from ranker.live import Live
from ranker.model import Ranker, train
from ranker.recommend import Draft, Snapshot, draft_list
from ranker.space import Space
from streams.attribution import Served
from streams.runner import Runner
from streams.topology import build

ENOUGH_DELAYS: Final = 200


@dataclass(frozen=True, slots=True)
class Trained:
    """A run of the ranker job: event time, lists learnt from, newest event seen."""

    ts: int
    groups: int
    max_event_ms: int
    ranker: Ranker
    seconds: float  # that training took


@dataclass(slots=True)
class _Open:
    ts: int
    items: dict[str, int]
    features: Floats
    grades: NDArray[np.int8]


class Rehearsal:
    """Accepts messages in time order, answers requests in between, retrains on event time.

    Args:
        settings: of the shop.
        embedder: of item text, or None without a text channel.
        learn_from_ms: decisions are made and learnt from at this event time and later; None never.
        train_from_ms: rankers are trained at this event time and later (what nobody asks need not be trained).
        channels: the channels that are switched on.
        on_train: told of each run of the ranker job.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder | None = None,
        *,
        learn_from_ms: int | None = None,
        train_from_ms: int = 0,
        channels: Sequence[str] = tuple(CHANNELS),
        on_train: Callable[[Trained], None] | None = None,
    ) -> None:
        self.settings, self._embedder = settings, embedder
        self._learn_from, self._train_from, self._on_train = learn_from_ms, train_from_ms, on_train
        live = Live(settings)
        space = Space(embedder.space_id, embedder.dim, settings.index) if embedder else None
        self.snapshot = Snapshot(settings, live, space, None, "rehearsal", tuple(channels))
        self.runner = Runner(build(settings), self._publish, self._emit)
        self.lessons: deque[Lesson] = deque(maxlen=settings.training.max_groups)
        self.trained: list[Trained] = []
        self.now_ms = 0
        self._open: dict[str, _Open] = {}
        self._texts: dict[str, Item] = {}
        self._held: deque[ItemChange] = deque()
        self._delays = np.zeros(52, np.int64)  # labels by bit length of their delay in ms
        self._learnt = 0  # lessons ever
        self._learnt_at_training = 0
        self._schema, self._names = features.schema(settings), features.names(settings)

    # ------------------------------------------------------------------ events in
    def accept(self, message: Event | ItemChange) -> None:
        """Apply an item change or event; before it, decide as if somebody had asked, where that teaches.

        In a recorded log an item may appear at the very moment of its first sale. Changes of the
        catalogue therefore wait until what is decided at their time has been decided: else an
        item's arrival would tell that it is about to be bought.
        """
        self.settle(message.ts)
        if isinstance(message, ItemChange):
            self._held.append(message)
            return
        if self._learn_from is not None and message.ts >= self._learn_from:
            self._rehearse(message)
        self.settle()
        self.now_ms = max(self.now_ms, message.ts)
        self.runner.accept(message)

    def settle(self, before_ms: int | None = None) -> None:
        """Apply the changes of the catalogue that wait: those older than a moment, or all."""
        while self._held and (before_ms is None or self._held[0].ts < before_ms):
            change = self._held.popleft()
            self.now_ms = max(self.now_ms, change.ts)
            self.runner.accept(change)

    def profile(self, shopper: str) -> Profile:
        """What is known of a shopper now."""
        found: Profile = self.runner.tables["profile"].get(shopper)
        return found

    def draft(self, request: Request) -> Draft:
        """Answer a request as of now.

        Raises:
            FutureLeak: something the answer would rest on is newer than the request.
        """
        self.settle()
        return self.draft_with(request, self.ready(request.ts))

    def ready(self, now_ms: int) -> Snapshot:
        """What requests of this moment are answered from, after the jobs that are due."""
        self.settle(now_ms)
        self._embed()
        self._retrain(now_ms)
        return self.snapshot

    def draft_with(self, request: Request, snapshot: Snapshot) -> Draft:
        """The same with a snapshot of one's own making, such as one with fewer channels."""
        newest = max(self.snapshot.live.max_event_ms, self.trained[-1].max_event_ms if self.trained else 0)
        if newest > request.ts:
            raise FutureLeak(f"asked as of {request.ts}, but the state has seen {newest}")
        return draft_list(request, self.profile(request.shopper) if request.shopper else NOBODY, snapshot)

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.snapshot.live.offer(topic, key, value)
        if topic == "catalogue" and self._embedder is not None:
            if value is not None:
                self._texts[key] = value
            elif self.snapshot.space is not None:
                self.snapshot.space.remove([key])

    def _embed(self) -> None:
        """Give the items that came or changed since the last request their vectors."""
        if not self._texts or self._embedder is None or self.snapshot.space is None:
            return
        items, self._texts = list(self._texts.values()), {}
        names = [item.item_id for item in items]
        self.snapshot.space.offer(self._embedder.space_id, names, self._embedder.vectors(items))

    # ------------------------------------------------------------------ decisions at past moments
    def _rehearse(self, event: Event) -> None:
        """Make the decision that this event's moment calls for, just before it.

        A shown list is ranked as it was shown; a shopper who comes back is given a list of
        candidates. What the shopper then does grades both.
        """
        if event.name == "view_item_list" and len(event.items) > 1:
            name = event.recommendation_id or event.event_id
            if name not in self._open:
                items = tuple(line.item_id for line in event.items)
                self.learn(name, event.shopper, self._ask(event, name, items), event.ts)
        elif event.items and event.name in ("view_item", "add_to_cart", "purchase") and self.comes_back(event):
            name = f"visit-{event.event_id}"
            self.learn(name, event.shopper, self._ask(event, name, None), event.ts)

    def _ask(self, event: Event, name: str, items: tuple[str, ...] | None) -> Draft:
        # every other visit asks for items that are new to the shopper: both kinds are to be ranked well
        only_new = items is None and coin(name) < 0.5
        request = Request(
            recommendation_id=name, ts=event.ts, shopper=event.shopper, items=items, exclude_bought=only_new
        )
        self._embed()
        # a lesson is what the candidates looked like; how the present ranker orders them does not matter
        return draft_list(request, self.profile(event.shopper), replace(self.snapshot, ranker=None))

    def comes_back(self, event: Event) -> bool:
        """Whether the event begins a new session of its shopper."""
        sessions = self.profile(event.shopper).sessions
        if not sessions:
            return True
        if event.session_id:
            return all(event.session_id != one.id for one in sessions)
        return event.ts - sessions[-1].last > self.settings.profile.idle_s * 1000.0

    def learn(self, name: str, shopper: str, draft: Draft, ts: int) -> None:
        """Watch what follows a list until its window has passed."""
        self._close(ts)
        ids = self.snapshot.live.ids
        items = {ids[row]: place for place, row in enumerate(draft.rows.tolist())}
        self._open[name] = _Open(ts, items, draft.features, np.zeros(len(items), np.int8))
        self.runner.accept(Served(name, ts, shopper, tuple(items)))

    def _emit(self, topic: str, key: str, value: Any) -> None:
        if topic != "labelled" or not isinstance(value, Label):
            return
        self._delays[min(value.delay_ms, 1 << 50).bit_length()] += 1
        watched = self._open.get(value.recommendation_id)
        grade = GRADES.get(value.outcome, 0)
        place = watched.items.get(value.item) if watched else None
        if watched is not None and place is not None and grade > watched.grades[place]:
            watched.grades[place] = grade

    def _close(self, now_ms: int) -> None:
        """Turn the lists of which nothing more is to be expected into lessons. They lie in order of their time."""
        window_ms = self._settled_ms()
        for name in list(self._open):
            watched = self._open[name]
            if now_ms - watched.ts <= window_ms:
                break
            del self._open[name]
            self._keep(name, watched)

    def _settled_ms(self) -> float:
        """How long to wait for what follows a list: until 99 % of all that was seen to follow came, or the window."""
        window_ms = self.settings.attribution.window_s * 1000.0
        known = np.cumsum(self._delays)
        if known[-1] < ENOUGH_DELAYS:
            return window_ms
        return min(window_ms, max(float(SECOND_MS), 2.0 ** int(np.searchsorted(known, 0.99 * known[-1]))))

    def _keep(self, name: str, watched: _Open) -> None:
        """A lesson of all that was wanted and a sample of what was not."""
        wanted = np.flatnonzero(watched.grades > 0)
        if not len(wanted) or len(wanted) == len(watched.grades):
            return
        rest = np.flatnonzero(watched.grades == 0)
        if len(rest) > self.settings.training.negatives:
            generator = np.random.default_rng(hash64(name))
            rest = np.sort(generator.choice(rest, self.settings.training.negatives, replace=False))
        keep = np.concatenate([wanted, rest])
        self.lessons.append(Lesson(watched.ts, watched.features[keep], watched.grades[keep]))
        self._learnt += 1

    def finish(self) -> None:
        """At the end of the log: every list still open has seen all that will follow."""
        self.settle()
        self._embed()
        self.snapshot.refresh()
        for name in list(self._open):
            self._keep(name, self._open.pop(name))

    # ------------------------------------------------------------------ the ranker job
    def _retrain(self, now_ms: int) -> None:
        if self._learn_from is None or now_ms < self._train_from or not self._due(now_ms):
            return
        self._close(now_ms)
        result = self.train(now_ms)
        if result is not None:
            self.snapshot = replace(self.snapshot, ranker=result.ranker)

    def _due(self, now_ms: int) -> bool:
        """After `every_s` of event time, or when half as much again has been learnt."""
        self._close(now_ms)
        if not self.trained:
            return self._learnt >= self.settings.training.min_groups
        fresh = self._learnt - self._learnt_at_training
        grown = fresh >= self.settings.training.growth * min(self._learnt_at_training, self.settings.training.max_groups)
        return grown or (fresh > 0 and now_ms - self.trained[-1].ts >= self.settings.training.every_s * 1000.0)

    def train(self, now_ms: int) -> Trained | None:
        """Train a ranker from the lessons of the window; None where there are too few."""
        window_ms = self.settings.training.window_s * 1000.0
        lessons = [one for one in self.lessons if now_ms - one.ts <= window_ms]
        if len(lessons) < self.settings.training.min_groups:
            return None
        started = time.perf_counter()
        ranker = train(collect(lessons), self._names, self._schema, self.settings.training)
        self._learnt_at_training = self._learnt
        result = Trained(now_ms, len(lessons), self.now_ms, ranker, time.perf_counter() - started)
        self.trained.append(result)
        if self._on_train is not None:
            self._on_train(result)
        return result
