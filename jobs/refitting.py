"""What a replay learns from the histories of all shoppers on event time, as live it comes with a bundle.

EASE, and where `tuning.user` asks for it a user vector, that takes the place of the mean where it is clearly better
by the same judgement as live. Histories are what the state remembers: of each item the first and the last use.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NamedTuple

import msgspec
import numpy as np

from core.errors import FutureLeak, Missing
from core.profile import Memory, Profile
from core.settings import Settings
from jobs import train_tower
from jobs.pairs import STRENGTH, Histories, Touch
from models.user_tower import UserTower
from ranker import ease
from ranker.recommend import Snapshot
from ranker.space import Space
from ranker.user_vector import Transformer, UserVector, user_vector

log = logging.getLogger("headwater")

AGAIN: Final = 2.0  # times the events, after which what came to nothing is tried once more


class Cadence:
    """When a job is due: at first, and then every so often, or when there are `growth` as many events more.

    A run that came to nothing does not count. It is made again when there are `again` times as many events, or after
    `every_s`: a look at all shoppers is too much for every request.
    """

    def __init__(self, every_s: float, growth: float = inf, again: float = AGAIN) -> None:
        self._every_ms, self._growth, self._again = every_s * 1000.0, growth, again
        self._done: tuple[int, int] | None = None  # when it last learnt something, and from how many events
        self._failed: tuple[int, int] | None = None  # the same of a try since then

    def due(self, now_ms: int, events: int) -> bool:
        if self._failed is not None:
            return self._passed(self._failed, self._again, now_ms, events)
        return self._done is None or self._passed(self._done, 1.0 + self._growth, now_ms, events)

    def ran(self, now_ms: int, events: int, *, learnt: bool) -> None:
        """Note a run."""
        self._failed = None if learnt else (now_ms, events)
        if learnt:
            self._done = now_ms, events

    def _passed(self, then: tuple[int, int], times: float, now_ms: int, events: int) -> bool:
        return now_ms - then[0] >= self._every_ms or (times < inf and events > times * then[1])


class Known(NamedTuple):
    """How far the state is: its newest event (ms), and how many it has taken in."""

    newest_ms: int
    events: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A run that could tell whether a user vector is better: event time, newest event seen, the verdict and why."""

    ts: int
    max_event_ms: int
    kept: bool
    why: str
    seconds: float  # that it took


class Refits:
    """Both jobs. `shoppers` gives what is known of everybody now; `fitted` are the runs that judged a user vector."""

    def __init__(
        self, settings: Settings, shoppers: Callable[[], Iterable[tuple[str, Profile]]], *, learn_user: bool
    ) -> None:
        self.settings, self._shoppers, self._learn_user = settings, shoppers, learn_user
        # what the first minutes of a log teach would stand for weeks, and is worse than nothing
        self._ease = Cadence(settings.ease.every_s, again=inf)
        self._user = Cadence(settings.tuning.tower_every_s, settings.tuning.tower_growth)
        self.fitted: list[Fitted] = []

    def due(self, snapshot: Snapshot, now_ms: int, known: Known) -> Snapshot:
        """The snapshot after what is due; `now_ms` is later than all that is known."""
        if self._ease.due(now_ms, known.events):
            self.fit(snapshot, now_ms, known.events)
        if not self._learn_user or snapshot.space is None or not self._user.due(now_ms, known.events):
            return snapshot
        found = self._learned(snapshot, snapshot.space, now_ms, known)
        self._user.ran(now_ms, known.events, learnt=found is not None)
        return replace(snapshot, user=found) if found is not None else snapshot

    def fit(self, snapshot: Snapshot, now_ms: int, events: int) -> None:
        """Learn what follows from what."""
        if not self.settings.channels.ease or "ease" not in snapshot.channels:
            return
        found = ease.fit((one for _, one in self._shoppers()), now_ms, self.settings.ease)
        self._ease.ran(now_ms, events, learnt=found is not None)
        if found is not None:
            snapshot.live.adopt(found)

    def _learned(self, snapshot: Snapshot, space: Space, now_ms: int, known: Known) -> UserVector | None:
        """The rule from now on; None where too little is known to tell, and the one before stays."""
        started = time.perf_counter()
        snapshot.refresh()
        every = np.arange(len(snapshot.live))
        rows = every[space.of(every)[1]]
        places = {snapshot.live.ids[row]: place for place, row in enumerate(rows.tolist())}
        histories = remembered(self._shoppers(), now_ms - round(self.settings.tuning.window_s * 1000))
        try:
            # time stands still: by a limit of seconds, two replays would learn different things
            outcome = train_tower.fit(histories, places, space.of(rows)[0], space.space_id, self.settings, lambda: 0.0)
        except Missing as error:
            log.info("job=replay user vector: %s", error)
            return None
        tower = _as_of(outcome.tower, known.newest_ms)
        seconds = time.perf_counter() - started
        self.fitted.append(Fitted(now_ms, known.newest_ms, tower is not None, outcome.why, seconds))
        return user_vector(tower, space)


def refuse_newer(snapshot: Snapshot, ts: int) -> None:
    """Raise FutureLeak where the user vector is not older than a moment."""
    user = snapshot.user
    if isinstance(user, Transformer) and user.tower.shape.max_event_ms >= ts:
        raise FutureLeak(f"asked as of {ts}, but the user vector has seen {user.tower.shape.max_event_ms}")


def _as_of(tower: UserTower | None, newest_ms: int) -> UserTower | None:
    """It learnt from what is older, but was chosen and judged by all."""
    if tower is None:
        return None
    shape = msgspec.structs.replace(tower.shape, max_event_ms=newest_ms)
    return UserTower(shape, tower.items, tower.weights)


def remembered(shoppers: Iterable[tuple[str, Profile]], since_ms: int) -> Histories:
    """Histories as far as profiles tell: of each item the first and the last use, where they are not too old."""
    found = Histories()
    for who, profile in sorted(shoppers, key=lambda one: one[0]):
        touches = list[Touch]()
        for item, memory in profile.memory.items():
            if memory.opinion < 0 or memory.hidden:
                found.against.setdefault(who, {})[item] = memory.last
            elif strength := _strength(memory):
                touches += [Touch(ts, item, strength) for ts in sorted({memory.first, memory.last}) if ts >= since_ms]
        if touches:
            found.touches[who] = sorted(touches, key=lambda one: one.ts)
            found.newest_ms = max(found.newest_ms, found.touches[who][-1].ts)
    return found


def _strength(memory: Memory) -> float:
    """Of the strongest that was done; 0 where the item was only shown."""
    if memory.buys:
        return STRENGTH["purchase"]
    if memory.carts or memory.opinion > 0:
        return STRENGTH["add_to_cart"]
    return STRENGTH["view_item"] if memory.views or memory.clicks else 0.0
