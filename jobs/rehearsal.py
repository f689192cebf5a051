"""A whole shop in memory, driven by a recorded log: the same steps, requests and jobs as live.

Used where there are no logged decisions yet: it makes decisions at past moments by running the
same `recommend` functions, learns from what followed, and so trains the first ranker; and it is
what the replay of `evaluation` answers its queries from.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item, ItemChange
from core.decision import Label, Request
from core.errors import FutureLeak
from core.events import Event
from core.ids import SECOND_MS, hash64, signed64
from core.profile import NOBODY, Profile
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.lessons import GRADES, Lesson, collect, marks_of
from jobs.moments import Moments
from ranker import ease, features
from ranker.arrays import Floats
from ranker.channels import CHANNELS
from ranker.live import Live
from ranker.model import Ranker, train
from ranker.recommend import Draft, Snapshot, draft_list
from ranker.space import Space
from streams.attribution import Served
from streams.profile import begins_session
from streams.runner import Runner
from streams.topology import build

ENOUGH_DELAYS: Final = 200
VISITS: Final = ("view_item", "add_to_cart", "purchase")  # a session that begins with one calls for a list


@dataclass(frozen=True, slots=True)
class Trained:
    """A run of the ranker job: event time, lists learnt from, newest event seen."""

    ts: int
    groups: int
    max_event_ms: int
    ranker: Ranker
    seconds: float  # that training took


@dataclass(slots=True)
class _List:
    shopper: str
    items: dict[str, int]
    features: Floats
    grades: NDArray[np.int8]
    seen: bool = False  # it was shown in this order


@dataclass(slots=True)
class _Open:
    """The lists of one moment: what follows grades them all."""

    ts: int
    lists: list[_List]


class Rehearsal:
    """Accepts messages in time order, answers requests in between, retrains on event time.

    Args:
        settings: of the shop.
        embedder: of item text, or None without a text channel.
        learn_from_ms: decisions are made and learnt from at this event time and later; None never.
        logged: recommendation ids of lists that are learnt from as they were served, and so not made again.
        train_from_ms: rankers are trained at this event time and later (what nobody asks need not be trained).
        channels: the channels that are switched on.
        on_train: told of each run of the ranker job.
        beside: of another space that is kept as well, for a snapshot of one's own making.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder | None = None,
        *,
        learn_from_ms: int | None = None,
        logged: Container[str] = (),
        train_from_ms: int = 0,
        channels: Sequence[str] = tuple(CHANNELS),
        on_train: Callable[[Trained], None] | None = None,
        beside: Embedder | None = None,
    ) -> None:
        self.settings, self._logged = settings, logged
        self._learn_from, self._train_from, self._on_train = learn_from_ms, train_from_ms, on_train
        live = Live(settings)
        space, self.beside = (
            Space(one.space_id, one.dim, settings.index) if one else None for one in (embedder, beside)
        )
        made = ((embedder, space), (beside, self.beside))
        self._spaces = [(one, kept) for one, kept in made if one is not None and kept is not None]
        self.snapshot = Snapshot(settings, live, space, None, "rehearsal", tuple(channels))
        self.runner = Runner(build(settings), self._publish, self._emit)
        self.lessons: deque[Lesson] = deque(maxlen=settings.training.max_groups)
        self.trained: list[Trained] = []
        self.now_ms = 0
        self._open: dict[str, _Open] = {}
        self._fitted_ms: int | None = None  # when the model of histories was last fitted
        self._moments = Moments(settings.training)
        self._between: dict[str, _Open] = {}  # by shopper, what was made since the last visit, oldest first
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
            self._look_ahead(message.ts)
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

    def profiles(self) -> Iterator[Profile]:
        """What is known of everybody now."""
        return (one for _, one in self.runner.tables["profile"].items())

    def draft(self, request: Request) -> Draft:
        """Answer a request as of now.

        Raises:
            FutureLeak: something the answer would rest on is newer than the request.
        """
        self.settle()
        return self.draft_with(request, self.ready(request.ts))

    def ready(self, now_ms: int) -> Snapshot:
        """What requests of this moment are answered from, after the jobs that are due.

        Raises:
            FutureLeak: the state has seen something newer.
        """
        self.settle(now_ms)
        self._refuse_past(now_ms)
        self._embed()
        self._refit(now_ms)
        self._retrain(now_ms)
        return self.snapshot

    def draft_with(self, request: Request, snapshot: Snapshot) -> Draft:
        """The same with a snapshot of one's own making, such as one with fewer channels."""
        self._refuse_past(request.ts)
        return draft_list(request, self.profile(request.shopper) if request.shopper else NOBODY, snapshot)

    def _refuse_past(self, ts: int) -> None:
        if self.now_ms > ts:
            raise FutureLeak(f"asked as of {ts}, but the state has seen {self.now_ms}")

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.snapshot.live.offer(topic, key, value)
        if topic == "catalogue" and self._spaces:
            if value is not None:
                self._texts[key] = value
                return
            for _, space in self._spaces:
                space.remove([key])

    def _embed(self) -> None:
        """Give the items that came or changed since the last request their vectors."""
        if not self._texts:
            return
        items, self._texts = list(self._texts.values()), {}
        names = [item.item_id for item in items]
        for embedder, space in self._spaces:
            space.offer(embedder.space_id, names, embedder.vectors(items))

    # ------------------------------------------------------------------ decisions at past moments
    def _rehearse(self, event: Event) -> None:
        """Make the decision that this event's moment calls for, just before it.

        A shown list is ranked as it was shown; a shopper who comes back is given a list of
        candidates. What the shopper then does grades both.
        """
        if event.name == "view_item_list" and len(event.items) > 1:
            name = event.recommendation_id or event.event_id
            if name not in self._open and name not in self._logged:
                self._decide(event, name, tuple(line.item_id for line in event.items))
        elif event.items and event.name in VISITS and self.comes_back(event):
            if self._moments.takes(event.event_id, event.shopper):
                self._decide(event, f"visit-{event.event_id}", None)
            self._between.pop(event.shopper, None)

    def _decide(self, event: Event, name: str, items: tuple[str, ...] | None) -> None:
        moment = self._moment(event)
        if moment is None:
            return
        drafts = [self._ask(event.shopper, name, items, moment)]
        if items is None and any(one.buys for one in self.profile(event.shopper).memory.values()):
            # a visit asks for items that are new to the shopper too: both kinds are to be ranked well
            drafts.append(self._ask(event.shopper, name, items, moment, exclude_bought=True))
        self.learn(name, event.shopper, drafts, moment)

    def _look_ahead(self, now_ms: int) -> None:
        """Once a day, lists for some who are not there: what they are told by mail, say, is to be right too."""
        if now_ms < self.now_ms or not self._moments.begins_day(now_ms):
            return
        wait_ms = self.settings.training.between_s * 1000.0
        self._between = {name: one for name, one in self._between.items() if now_ms - one.ts <= wait_ms}
        for one in self._moments.absent(self._between):
            draft = self._ask(one.shopper, one.name, None, now_ms, exclude_bought=one.exclude_bought)
            self._between[one.shopper] = _Open(now_ms, [self._watched(draft)])

    def _watched(self, draft: Draft) -> _List:
        ids, request = self.snapshot.live.ids, draft.ctx.request
        items = {ids[row]: place for place, row in enumerate(draft.rows.tolist())}
        seen = request.items is not None
        return _List(request.shopper, items, draft.features, np.zeros(len(items), np.int8), seen)

    def _moment(self, event: Event) -> int | None:
        """When the event calls for a list: at its time, or now if it comes a little late.

        None where the state knows what the shopper did afterwards, or the moment is long past.
        """
        if event.ts >= self.now_ms:
            return event.ts
        profile = self.profile(event.shopper)
        late = self.now_ms - event.ts > self.settings.profile.idle_s * 1000.0
        if late or profile.last > event.ts or signed64(event.event_id) in profile.seen:
            return None
        return self.now_ms

    def _ask(
        self, shopper: str, name: str, items: tuple[str, ...] | None, ts: int, *, exclude_bought: bool = False
    ) -> Draft:
        request = Request(recommendation_id=name, ts=ts, shopper=shopper, items=items, exclude_bought=exclude_bought)
        self._embed()
        self._refit(ts)
        # a lesson is what the candidates looked like; how the present ranker orders them does not matter
        return draft_list(request, self.profile(shopper), replace(self.snapshot, ranker=None))

    def comes_back(self, event: Event) -> bool:
        """Whether the event begins a new session of its shopper."""
        return begins_session(self.profile(event.shopper), event, self.settings.profile.idle_s)

    def learn(self, name: str, shopper: str, drafts: Sequence[Draft], ts: int) -> None:
        """Watch what follows the lists of one moment until their window has passed."""
        self._close(ts)
        lists = [self._watched(draft) for draft in drafts]
        before = self._between.pop(shopper, None)
        if before is not None:
            lists += before.lists
        self._open[name] = _Open(ts, lists)
        self.runner.accept(Served(name, ts, shopper, tuple(dict.fromkeys(item for one in lists for item in one.items))))

    def _emit(self, topic: str, key: str, value: Any) -> None:
        if topic != "labelled" or not isinstance(value, Label):
            return
        self._delays[min(value.delay_ms, 1 << 50).bit_length()] += 1
        watched = self._open.get(value.recommendation_id)
        grade = GRADES.get(value.outcome, 0)
        for one in watched.lists if watched else ():
            place = one.items.get(value.item)
            if place is not None:
                one.grades[place] = max(int(one.grades[place]), grade)

    def _close(self, now_ms: int) -> None:
        """Turn the lists of which nothing more is to be expected into lessons. They lie in order of their time."""
        window_ms = self._settled_ms()
        while self._open:
            name, watched = next(iter(self._open.items()))
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
        """Lessons of all that was wanted and a sample of what was not."""
        for one in watched.lists:
            wanted = np.flatnonzero(one.grades > 0)
            if not len(wanted) or len(wanted) == len(one.grades):
                continue
            rest = np.flatnonzero(one.grades == 0)
            if len(rest) > self.settings.training.negatives:
                generator = np.random.default_rng(hash64(name))
                rest = np.sort(generator.choice(rest, self.settings.training.negatives, replace=False))
            keep = np.sort(np.concatenate([wanted, rest]))  # wanted ones first would win every tie
            marks = marks_of(one.items)[keep]
            places = keep.astype(np.int16) if one.seen else None
            self.lessons.append(Lesson(watched.ts, one.features[keep], one.grades[keep], one.shopper, marks, places))
            self._learnt += 1

    def learnt(self, now_ms: int) -> list[Lesson]:
        """The lessons of all lists of which nothing more is to be expected by a moment."""
        self._close(now_ms)
        return list(self.lessons)

    def finish(self) -> None:
        """At the end of the log: every list still open has seen all that will follow."""
        self.settle()
        self._embed()
        self.snapshot.refresh()
        self.fit(self.now_ms)
        for name in list(self._open):
            self._keep(name, self._open.pop(name))

    # ------------------------------------------------------------------ the job that fits histories
    def _refit(self, now_ms: int) -> None:
        """Once every so much event time; not at the very time of the newest event, for it must be older."""
        every_ms = self.settings.ease.every_s * 1000.0
        if self.now_ms < now_ms and (self._fitted_ms is None or now_ms - self._fitted_ms >= every_ms):
            self.fit(now_ms)

    def fit(self, now_ms: int) -> None:
        """Learn what follows from what by the histories of all shoppers so far."""
        if not self.settings.channels.ease or "ease" not in self.snapshot.channels:
            return
        self._fitted_ms = now_ms
        found = ease.fit((one for _, one in self.runner.tables["profile"].items()), now_ms, self.settings.ease)
        if found is not None:
            self.snapshot.live.adopt(found)

    # ------------------------------------------------------------------ the ranker job
    def _retrain(self, now_ms: int) -> None:
        if self._learn_from is None or now_ms < self._train_from or self.now_ms >= now_ms:
            return  # at the very time of the newest event a ranker would not be older than what it answers
        self._close(now_ms)
        if not self._due(now_ms):
            return
        result = self.train(now_ms)
        if result is not None:
            self.snapshot = replace(self.snapshot, ranker=result.ranker)

    def _due(self, now_ms: int) -> bool:
        """After `every_s` of event time, or when `growth` as much again has been learnt."""
        settings = self.settings.training
        fewest = settings.min_groups
        if len(self.lessons) < fewest or now_ms - self.lessons[-fewest].ts > settings.window_s * 1000.0:
            return False
        if not self.trained:
            return True
        fresh = self._learnt - self._learnt_at_training
        grown = fresh >= settings.growth * min(self._learnt_at_training, settings.max_groups)
        return grown or (fresh > 0 and now_ms - self.trained[-1].ts >= settings.every_s * 1000.0)

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
