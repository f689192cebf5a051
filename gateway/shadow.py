"""A bundle answers a share of real requests unseen, and what it would have changed is counted.

After the reply, in a thread of its own. What it does not manage is left out, and counted too.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from core.decision import Decision, Request
from core.ids import coin
from core.profile import Profile
from gateway.roster import Roster, Standing
from ranker import recommend

log = logging.getLogger("headwater")

QUEUED: Final = 100
FIRST: Final = 10  # places that are compared
LOOK_S: Final = 0.25


@dataclass(slots=True)
class Differences:
    """Sums over the lists that both answered."""

    bundle: str
    against: str
    lists: int = 0
    overlap: float = 0.0
    same_first: int = 0
    seconds: float = 0.0
    failures: int = 0
    left_out: int = 0

    def count(self, real: Decision, unseen: Decision, seconds: float) -> None:
        """One more list; of two empty ones all is the same."""
        ours, theirs = ([item.item_id for item in one.items[:FIRST]] for one in (real, unseen))
        longer = max(len(ours), len(theirs))
        self.lists += 1
        self.overlap += len(set(ours) & set(theirs)) / longer if longer else 1.0
        self.same_first += ours[:1] == theirs[:1]
        self.seconds += seconds

    def told(self) -> dict[str, Any]:
        """Means and counts, by the names under which the gateway tells them."""
        lists = max(self.lists, 1)
        return {
            "shadow": self.bundle,
            "shadow_lists": self.lists,
            "shadow_overlap": round(self.overlap / lists, 4),
            "shadow_same_first": round(self.same_first / lists, 4),
            "shadow_ms": round(1e3 * self.seconds / lists, 2),
            "shadow_failures": self.failures,
            "shadow_left_out": self.left_out,
        }


class Shadow:
    """Asks who answers unseen, where there is somebody.

    Args:
        roster: who answers.
        share: of the requests.
    """

    def __init__(self, roster: Roster, share: float) -> None:
        self._roster, self._share = roster, share
        self._queue: queue.Queue[tuple[Request, Profile, Decision]] = queue.Queue(QUEUED)
        self._found: Differences | None = None

    def note(self, request: Request, profile: Profile, decision: Decision, by: Standing) -> None:
        """A list that was made; those of who is on the way out say nothing of who serves."""
        roles = self._roster.roles
        if roles.unseen is None or by is not roles.serving:
            return
        if coin(f"unseen {request.recommendation_id}") >= self._share:
            return
        try:
            self._queue.put_nowait((request, profile, decision))
        except queue.Full:
            if self._found is not None:
                self._found.left_out += 1

    def run(self, stopping: threading.Event) -> None:
        """Answer what was noted, until `stopping`."""
        while not stopping.is_set():
            try:
                asked = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            standing = self._roster.roles.unseen
            if standing is not None:
                self._answer(standing, *asked)

    def _answer(self, standing: Standing, request: Request, profile: Profile, real: Decision) -> None:
        found = self._found
        if found is None or (found.bundle, found.against) != (standing.bundle, real.bundle):
            found = self._found = Differences(standing.bundle, real.bundle)
        try:
            with self._roster.reading(standing) as snapshot:
                started = time.perf_counter()
                unseen = recommend.recommend(request, profile, snapshot)
                seconds = time.perf_counter() - started
        except Exception:  # whatever it is, nobody waits for this list
            found.failures += 1
            if found.failures == 1:
                log.exception("bundle=%s failed to answer unseen", standing.bundle)
            return
        found.count(real, unseen, seconds)

    def describe(self) -> dict[str, Any]:
        """What was counted of who answers unseen now; nothing without anybody."""
        unseen, found = self._roster.roles.unseen, self._found
        if unseen is None:
            return {}
        return (found if found is not None and found.bundle == unseen.bundle else Differences(unseen.bundle, "")).told()
