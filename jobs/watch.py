"""Lists that wait for what follows them: it grades them, and what was wanted of them becomes a lesson."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Label
from core.ids import SECOND_MS, hash64
from core.settings import Settings
from jobs.lessons import GRADES, Lesson, marks_of
from ranker.arrays import Floats
from ranker.recommend import Draft

ENOUGH_DELAYS: Final = 200


@dataclass(slots=True)
class Watched:
    """A list, where its items stand in it, and the grades so far. `seen`: it was shown in this order."""

    shopper: str
    items: dict[str, int]
    features: Floats
    grades: NDArray[np.int8]
    seen: bool = False


@dataclass(slots=True)
class Waiting:
    """The lists of one moment: what follows grades them all."""

    ts: int
    lists: list[Watched]


def watched(draft: Draft, ids: Sequence[str]) -> Watched:
    """A list of which nothing is known yet; `ids` are those of the items by row."""
    request = draft.ctx.request
    items = {ids[row]: place for place, row in enumerate(draft.rows.tolist())}
    return Watched(request.shopper, items, draft.features, np.zeros(len(items), np.int8), request.items is not None)


class Watch:
    """Keeps lists until nothing more is to be expected, and the newest `training.max_groups` lessons."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.open: dict[str, Waiting] = {}  # in order of their time
        self.ahead: dict[str, Waiting] = {}  # by shopper, what was made since the last visit, oldest first
        self.lessons: deque[Lesson] = deque(maxlen=settings.training.max_groups)
        self.learnt = 0  # lessons ever
        self._delays = np.zeros(52, np.int64)  # labels by bit length of their delay in ms

    def begin(self, name: str, shopper: str, lists: list[Watched], ts: int) -> tuple[str, ...]:
        """Wait for what follows these lists, and what was made ahead of the shopper's visit. The items of them all."""
        self.close(ts)
        before = self.ahead.pop(shopper, None)
        if before is not None:
            lists = [*lists, *before.lists]
        self.open[name] = Waiting(ts, lists)
        return tuple(dict.fromkeys(item for one in lists for item in one.items))

    def forget_ahead(self, now_ms: int) -> None:
        """Give up on visits that did not come within `training.between_s`."""
        wait_ms = self.settings.training.between_s * 1000.0
        self.ahead = {name: one for name, one in self.ahead.items() if now_ms - one.ts <= wait_ms}

    def label(self, value: Label) -> None:
        """What followed a list."""
        self._delays[min(value.delay_ms, 1 << 50).bit_length()] += 1
        found = self.open.get(value.recommendation_id)
        grade = GRADES.get(value.outcome, 0)
        for one in found.lists if found else ():
            place = one.items.get(value.item)
            if place is not None:
                one.grades[place] = max(int(one.grades[place]), grade)

    def close(self, now_ms: int) -> None:
        """Turn the lists of which nothing more is to be expected into lessons."""
        window_ms = self.settled_ms()
        while self.open:
            name, waiting = next(iter(self.open.items()))
            if now_ms - waiting.ts <= window_ms:
                break
            del self.open[name]
            self._keep(name, waiting)

    def settled_ms(self) -> float:
        """How long to wait for what follows a list: until 99 % of all that was seen to follow came, or the window."""
        window_ms = self.settings.attribution.window_s * 1000.0
        known = np.cumsum(self._delays)
        if known[-1] < ENOUGH_DELAYS:
            return window_ms
        return min(window_ms, max(float(SECOND_MS), 2.0 ** int(np.searchsorted(known, 0.99 * known[-1]))))

    def finish(self) -> None:
        """At the end of the log: every list still open has seen all that will follow."""
        for name in list(self.open):
            self._keep(name, self.open.pop(name))

    def _keep(self, name: str, waiting: Waiting) -> None:
        """Lessons of all that was wanted and a sample of what was not."""
        for one in waiting.lists:
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
            self.lessons.append(Lesson(waiting.ts, one.features[keep], one.grades[keep], one.shopper, marks, places))
            self.learnt += 1
