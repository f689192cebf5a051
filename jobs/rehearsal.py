"""A whole shop in memory, driven by a recorded log: the same steps, requests and jobs as live.

Used where there are no logged decisions yet: it makes decisions at past moments by running the
same `recommend` functions, learns from what followed, and so trains the first ranker; and it is
what the replay of `evaluation` answers its queries from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from core.catalogue import ItemChange
from core.decision import Label, Request
from core.errors import FutureLeak
from core.events import Event
from core.profile import NOBODY, Profile
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.lessons import Lesson
from jobs.moments import Moments, moment_of
from jobs.refitting import Fitted, Known, Refits, refuse_newer
from jobs.retraining import Retraining, Trained
from jobs.shelf import Shelf
from jobs.watch import Waiting, Watch, watched
from ranker.channels import CHANNELS
from ranker.live import Live
from ranker.recommend import Draft, Snapshot, draft_list
from ranker.space import Space
from streams.attribution import Served
from streams.profile import begins_session
from streams.runner import Runner
from streams.topology import build

VISITS: Final = ("view_item", "add_to_cart", "purchase")  # a session that begins with one calls for a list


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
        learn_user: a user vector is learnt on event time; else the rule of the snapshot stays.
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
        learn_user: bool = False,
    ) -> None:
        self.settings, self._logged = settings, logged
        self._learn_from, self._train_from = learn_from_ms, train_from_ms
        live = Live(settings)
        space, self.beside = (
            Space(one.space_id, one.dim, settings.index) if one else None for one in (embedder, beside)
        )
        made = ((embedder, space), (beside, self.beside))
        self._shelf = Shelf([(one, kept) for one, kept in made if one is not None and kept is not None])
        self.snapshot = Snapshot(settings, live, space, None, "rehearsal", tuple(channels))
        self.runner = Runner(build(settings), self._publish, self._emit)
        self.watch = Watch(settings)
        self._rankers = Retraining(settings, self.watch, on_train)
        self.now_ms = 0
        self._events = 0  # that were accepted
        self._refits = Refits(settings, self.runner.tables["profile"].items, learn_user=learn_user)
        self._moments = Moments(settings.training)
        self._held: deque[ItemChange] = deque()

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
        self._events += 1
        self.runner.accept(message)

    @property
    def lessons(self) -> deque[Lesson]:
        """The newest `training.max_groups`, oldest first."""
        return self.watch.lessons

    @property
    def trained(self) -> list[Trained]:
        """All runs of the ranker job."""
        return self._rankers.trained

    @property
    def users(self) -> list[Fitted]:
        """All runs that could tell whether a user vector is better than the mean."""
        return self._refits.fitted

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
        self._prepare(now_ms)
        self._retrain(now_ms)
        return self.snapshot

    def draft_with(self, request: Request, snapshot: Snapshot) -> Draft:
        """The same with a snapshot of one's own making, such as one with fewer channels."""
        self._refuse_past(request.ts)
        refuse_newer(snapshot, request.ts)
        return draft_list(request, self.profile(request.shopper) if request.shopper else NOBODY, snapshot)

    def _refuse_past(self, ts: int) -> None:
        if self.now_ms > ts:
            raise FutureLeak(f"asked as of {ts}, but the state has seen {self.now_ms}")

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.snapshot.live.offer(topic, key, value)
        if topic == "catalogue":
            self._shelf.put(key, value)

    def _prepare(self, now_ms: int) -> None:
        """Vectors of what came since, and what is due of what histories teach.

        Not at the very time of the newest event: what was learnt must be older than what it answers.
        """
        self._shelf.embed()
        if self.now_ms < now_ms:
            self.snapshot = self._refits.due(self.snapshot, now_ms, Known(self.now_ms, self._events))
        refuse_newer(self.snapshot, now_ms)

    # ------------------------------------------------------------------ decisions at past moments
    def _rehearse(self, event: Event) -> None:
        """Make the decision that this event's moment calls for, just before it.

        A shown list is ranked as it was shown; a shopper who comes back is given a list of
        candidates. What the shopper then does grades both.
        """
        if event.name == "view_item_list" and len(event.items) > 1:
            name = event.recommendation_id or event.event_id
            if name not in self.watch.open and name not in self._logged:
                self._decide(event, name, tuple(line.item_id for line in event.items))
        elif event.items and event.name in VISITS and self.comes_back(event):
            if self._moments.takes(event.event_id, event.shopper):
                self._decide(event, f"visit-{event.event_id}", None)
            self.watch.ahead.pop(event.shopper, None)

    def _decide(self, event: Event, name: str, items: tuple[str, ...] | None) -> None:
        moment = moment_of(event, self.profile(event.shopper), self.now_ms, self.settings.profile.idle_s)
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
        self.watch.forget_ahead(now_ms)
        for one in self._moments.absent(self.watch.ahead):
            draft = self._ask(one.shopper, one.name, None, now_ms, exclude_bought=one.exclude_bought)
            self.watch.ahead[one.shopper] = Waiting(now_ms, [watched(draft, self.snapshot.live.ids)])

    def _ask(
        self, shopper: str, name: str, items: tuple[str, ...] | None, ts: int, *, exclude_bought: bool = False
    ) -> Draft:
        request = Request(recommendation_id=name, ts=ts, shopper=shopper, items=items, exclude_bought=exclude_bought)
        self._prepare(ts)
        # a lesson is what the candidates looked like; how the present ranker orders them does not matter
        return draft_list(request, self.profile(shopper), replace(self.snapshot, ranker=None))

    def comes_back(self, event: Event) -> bool:
        """Whether the event begins a new session of its shopper."""
        return begins_session(self.profile(event.shopper), event, self.settings.profile.idle_s)

    def learn(self, name: str, shopper: str, drafts: Sequence[Draft], ts: int) -> None:
        """Watch what follows the lists of one moment until their window has passed."""
        items = self.watch.begin(name, shopper, [watched(one, self.snapshot.live.ids) for one in drafts], ts)
        self.runner.accept(Served(name, ts, shopper, items))

    def _emit(self, topic: str, key: str, value: Any) -> None:
        if topic == "labelled" and isinstance(value, Label):
            self.watch.label(value)

    def learnt(self, now_ms: int) -> list[Lesson]:
        """The lessons of all lists of which nothing more is to be expected by a moment."""
        self.watch.close(now_ms)
        return list(self.lessons)

    def finish(self) -> None:
        """At the end of the log: every list still open has seen all that will follow."""
        self.settle()
        self._shelf.embed()
        self.snapshot.refresh()
        self._refits.fit(self.snapshot, self.now_ms, self._events)
        self.watch.finish()

    # ------------------------------------------------------------------ the ranker job
    def _retrain(self, now_ms: int) -> None:
        if self._learn_from is None or now_ms < self._train_from or self.now_ms >= now_ms:
            return  # at the very time of the newest event a ranker would not be older than what it answers
        self.watch.close(now_ms)
        if self._rankers.due(now_ms) and (result := self.train(now_ms)) is not None:
            self.snapshot = replace(self.snapshot, ranker=result.ranker)

    def train(self, now_ms: int) -> Trained | None:
        """Train a ranker from the lessons of the window; None where there are too few."""
        return self._rankers.train(now_ms, self.now_ms)
