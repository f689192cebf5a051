"""The ranker job on event time: when a ranker is due, and what it is trained from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from core.settings import Settings
from jobs.lessons import collect
from jobs.watch import Watch
from ranker import features
from ranker.model import Ranker, train


@dataclass(frozen=True, slots=True)
class Trained:
    """A run of the ranker job: event time, lists learnt from, newest event seen."""

    ts: int
    groups: int
    max_event_ms: int
    ranker: Ranker
    seconds: float  # that training took


class Retraining:
    """Trains rankers from the lessons of a watch; `on_train` is told of each."""

    def __init__(self, settings: Settings, watch: Watch, on_train: Callable[[Trained], None] | None) -> None:
        self.trained: list[Trained] = []
        self.settings, self._watch, self._on_train = settings, watch, on_train
        self._learnt = 0  # lessons ever, when the last one was trained
        self._schema, self._names = features.schema(settings), features.names(settings)

    def due(self, now_ms: int) -> bool:
        """After `every_s` of event time, or when `growth` as much again has been learnt."""
        settings, lessons = self.settings.training, self._watch.lessons
        fewest = settings.min_groups
        if len(lessons) < fewest or now_ms - lessons[-fewest].ts > settings.window_s * 1000.0:
            return False
        if not self.trained:
            return True
        fresh = self._watch.learnt - self._learnt
        grown = fresh >= settings.growth * min(self._learnt, settings.max_groups)
        return grown or (fresh > 0 and now_ms - self.trained[-1].ts >= settings.every_s * 1000.0)

    def train(self, now_ms: int, newest_ms: int) -> Trained | None:
        """Train a ranker from the lessons of the window; None where there are too few.

        Args:
            now_ms: of the moment that it is for.
            newest_ms: the newest event that the lessons may have seen.
        """
        window_ms = self.settings.training.window_s * 1000.0
        lessons = [one for one in self._watch.lessons if now_ms - one.ts <= window_ms]
        if len(lessons) < self.settings.training.min_groups:
            return None
        started = time.perf_counter()
        ranker = train(collect(lessons), self._names, self._schema, self.settings.training)
        self._learnt = self._watch.learnt
        result = Trained(now_ms, len(lessons), newest_ms, ranker, time.perf_counter() - started)
        self.trained.append(result)
        if self._on_train is not None:
            self._on_train(result)
        return result
