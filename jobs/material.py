"""What a ranker is made from: a recording, played through a shop in memory, and lessons of what was served."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from core.decision import Decision, Label
from core.errors import Missing
from core.settings import Settings
from jobs import served, train_tower
from jobs.chronicle import Dated, in_time
from jobs.embedding import Embedder
from jobs.lessons import Lesson, from_decisions
from jobs.queries import recent_queries
from jobs.recordings import EVENTS, Recording, told
from jobs.rehearsal import Rehearsal
from models.user_tower import UserTower
from ranker import features
from ranker.arrays import Floats
from ranker.user_vector import user_vector

log = logging.getLogger("headwater")

PLAYED: Final = (*EVENTS, "items")
Progress = Callable[[str, int, int], None]


class Played(NamedTuple):
    """The shop at the end, lessons of what was really served, and the features of the newest lists of those."""

    shop: Rehearsal
    logged: list[Lesson]
    served: list[Floats]


@dataclass(frozen=True, slots=True)
class Material:
    """A recording with the shop that it is of. `newest_ms` is the time of its newest event."""

    settings: Settings
    embedder: Embedder | None
    source: Recording
    newest_ms: int
    progress: Progress

    def messages(self, what: str) -> Iterator[Dated]:
        """Events and items in the order of time; progress is told as of `what`."""
        total, idle_ms = self.source.count(PLAYED), round(self.settings.profile.idle_s * 1000)
        for done, message in enumerate(in_time(lambda: told(self.source, PLAYED), idle_ms), 1):
            yield message
            if done % 500 == 0:
                self.progress(what, min(done, total), total)
        self.progress(what, total, total)

    def play(self) -> Played:
        """Everything that was recorded, with decisions at past moments where none were really made."""
        learn_from_ms = self.newest_ms - round(self.settings.training.window_s * 1000)
        logged, names, newest = _logged(self.source, self.settings)
        tower = self._tower()
        if tower is not None:  # a ranker learns its worth from lists that are new to it, and that it had a part in
            learn_from_ms = max(learn_from_ms, tower.shape.max_event_ms + 1)
            logged, names = [], frozenset()
        shop = Rehearsal(
            self.settings,
            self.embedder,
            learn_from_ms=learn_from_ms,
            logged=names,
            train_from_ms=self.newest_ms + 1,
        )
        shop.snapshot = replace(shop.snapshot, user=user_vector(tower, shop.snapshot.space))
        for message in self.messages("rehearsing the log"):
            shop.accept(message)
        shop.finish()
        if shop.snapshot.space is not None:
            shop.snapshot.space.queries = recent_queries(shop.profiles(), shop.snapshot)
        return Played(shop, logged, newest)

    def _tower(self) -> UserTower | None:
        """A user vector that is learnt, where the settings ask for it and it is clearly better than the mean."""
        if self.settings.tuning.user == "mean" or self.embedder is None:
            return None
        told, clock = self.progress, time.perf_counter
        try:
            found = train_tower.of_recording(self.source, self.settings, self.embedder, self.newest_ms, clock, told)
        except Missing as error:
            log.warning("job=train user vector: %s", error)
            return None
        log.info("job=train user vector: %s", found.why)
        return found.tower

    def lessons(self, played: Played) -> list[Lesson]:
        """Those of the window in time order, as many as are kept."""
        oldest_ms = played.shop.now_ms - self.settings.training.window_s * 1000.0
        lessons = [one for one in (*played.shop.lessons, *played.logged) if one.ts >= oldest_ms]
        return sorted(lessons, key=lambda one: one.ts)[-self.settings.training.max_groups :]


def material(settings: Settings, embedder: Embedder | None, source: Recording, progress: Progress) -> Material:
    """What a recording gives.

    Raises:
        Missing: it holds no events.
    """
    newest = max((entry.ts for entry in source.entries(EVENTS)), default=0)
    if not newest:
        raise Missing(f"{source.name} holds no events: import a history or post some first")
    return Material(settings, embedder, source, newest, progress)


def _logged(source: Recording, settings: Settings) -> tuple[list[Lesson], frozenset[str], list[Floats]]:
    """Lessons of what was really served, the ids of all such lists, and features of the newest.

    One decision is in memory at a time.
    """
    schema, labels, names = features.schema(settings), defaultdict[str, list[Label]](list), set[str]()
    newest = deque[Floats](maxlen=served.LISTS)
    for label in told(source, ("labelled",)):
        if isinstance(label, Label):
            labels[label.recommendation_id].append(label)

    def usable() -> Iterator[Decision]:
        for decision in told(source, ("decisions",)):
            if isinstance(decision, Decision) and decision.schema == schema and decision.pool:
                names.add(decision.recommendation_id)
                if decision.items:
                    newest.append(served.shown(decision))
                yield decision

    lessons = deque(from_decisions(usable(), labels, schema), maxlen=settings.training.max_groups)
    return list(lessons), frozenset(names), list(newest)
