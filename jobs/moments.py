"""Which moments of a recorded log are learnt from: a sample of visits, and moments between them.

A visit's list is what a page asks for. A list made between visits is what a mail asks for, or a page
that is prepared ahead: the shopper comes later, and by then other things sell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Final, NamedTuple

import numpy as np

from core.events import Event
from core.ids import DAY_MS, coin, signed64
from core.profile import Profile
from core.settings import TrainingSettings

VISITORS: Final = 5_000  # newest visits, of whose shoppers some are given lists between visits
LISTS: Final = 2  # of a visit: of everything, and of what is new to the shopper


class Absent(NamedTuple):
    """Somebody to be given a list though they are not there."""

    shopper: str
    name: str
    exclude_bought: bool


class Moments:
    """Goes through the days of a log; the same log gives the same moments."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._visitors: deque[str] = deque(maxlen=VISITORS)
        self._day = self._first_day = 0
        self._visits = 0  # of this day
        self._share = 1.0  # of this day's visits that are learnt from

    def begins_day(self, now_ms: int) -> bool:
        """Whether this is the first moment of a day."""
        day = now_ms // DAY_MS
        if day <= self._day:
            return False
        self._day, self._first_day = day, self._first_day or day
        days = min(day - self._first_day, self._settings.window_s * 1000.0 / DAY_MS) + 1.0
        self._share = self._settings.max_groups / (days * max(LISTS * self._visits, 1))
        self._visits = 0
        return True

    def takes(self, event_id: str, shopper: str) -> bool:
        """Whether to learn from a visit: from every one, or a sample where there are many more than are kept."""
        self._visits += 1
        self._visitors.append(shopper)
        return self._share >= 1.0 or coin(event_id) < self._share

    def absent(self, waiting: Container[str]) -> list[Absent]:
        """Who is given a list today; none of those whose list still waits for their next visit."""
        free = [shopper for shopper in dict.fromkeys(self._visitors) if shopper not in waiting]
        count = min(self._settings.between, len(free))
        if not count:
            return []
        drawn = np.sort(np.random.default_rng(self._day).choice(len(free), count, replace=False))
        names = [(free[place], f"between-{self._day}-{free[place]}") for place in drawn.tolist()]
        return [Absent(shopper, name, coin(name) < 1.0 / LISTS) for shopper, name in names]


def moment_of(event: Event, profile: Profile, now_ms: int, idle_s: float) -> int | None:
    """When an event calls for a list: at its time, or now if it comes a little late.

    None where the state knows what the shopper did afterwards, or the moment is long past.
    """
    if event.ts >= now_ms:
        return event.ts
    late = now_ms - event.ts > idle_s * 1000.0
    if late or profile.last > event.ts or signed64(event.event_id) in profile.seen:
        return None
    return now_ms
