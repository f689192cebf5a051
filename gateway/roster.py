"""Who answers: the bundle that serves, the one before it that is kept warm, and one that answers unseen.

All read the same live arrays, under one lock, and each its own ranker, models of histories and vectors. Who
serves changes in one assignment, between two requests.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from core.catalogue import Item
from core.decision import Decision, Request
from core.ids import coin
from core.profile import Profile
from core.settings import Settings
from gateway.filling import Filling
from ranker import recommend
from ranker.live import Fitted, Live
from ranker.recommend import Snapshot

REMEMBERED: Final = 50  # requests, that a new bundle is tried on before it serves


@dataclass(frozen=True)
class Standing:
    """All that one bundle answers with. The blend without a bundle has the id ""."""

    snapshot: Snapshot
    fitted: Fitted
    filling: Filling | None  # None without text

    @property
    def bundle(self) -> str:
        return self.snapshot.bundle


@dataclass(frozen=True)
class Roles:
    """Who does what. `held_back` is the share of shoppers that `before` goes on answering."""

    serving: Standing
    before: Standing | None = None
    unseen: Standing | None = None
    held_back: float = 0.0

    def all(self) -> tuple[Standing, ...]:
        return tuple([one for one in (self.serving, self.before, self.unseen) if one is not None])

    def warm(self, bundle: str) -> Standing | None:
        """The one of that id, where it is warm."""
        return next((one for one in self.all() if one.bundle == bundle), None)

    def fillings(self) -> Iterable[Filling]:
        """The spaces that are warm."""
        return {id(one.filling): one.filling for one in self.all() if one.filling is not None}.values()

    def answering(self, shopper: str) -> Standing:
        """Who answers a shopper: the same one as long as these roles last."""
        if self.before is None or not self.held_back or not shopper:
            return self.serving
        return self.before if coin(f"{self.serving.bundle} {shopper}") < self.held_back else self.serving


class Roster:
    """The live arrays with their lock, and who answers from them."""

    def __init__(self, settings: Settings, filling: Filling | None) -> None:
        self.live = Live(settings)
        self.lock = threading.Lock()
        self._asked: deque[tuple[Request, Profile]] = deque(maxlen=REMEMBERED)
        space = filling.space if filling is not None else None
        self.roles = Roles(Standing(Snapshot(settings, self.live, space), self.live.fitted, filling))

    @contextmanager
    def reading(self, standing: Standing) -> Iterator[Snapshot]:
        """Nothing moves meanwhile, and what is read is of this bundle."""
        with self.lock:
            self.live.use(standing.fitted)
            yield standing.snapshot

    def recommend(self, request: Request, profile: Profile) -> tuple[Decision, Standing]:
        """Make a list, and say who made it."""
        with self.lock:
            self._asked.append((request, profile))
            standing = self.roles.answering(request.shopper)
            self.live.use(standing.fitted)
            return recommend.recommend(request, profile, standing.snapshot), standing

    def asked(self) -> list[tuple[Request, Profile]]:
        """What was asked of late, and by whom."""
        with self.lock:
            return list(self._asked)

    def refresh(self) -> None:
        """Take in what was offered since the last look, in every space that is warm."""
        with self.lock:
            self._refresh(self.roles)

    def change(self, roles: Roles) -> None:
        """Let others answer from the next request on."""
        with self.lock:
            self._refresh(roles)
            self.roles = roles

    def _refresh(self, roles: Roles) -> None:
        self.live.refresh()
        for filling in roles.fillings():
            filling.space.refresh(self.live.row)

    def sold(self) -> list[Item]:
        """The catalogue as it stands."""
        with self.lock:
            self.live.refresh()
            items = self.live.items.copy()
        return [item for item in items if item is not None]

    def rows(self) -> dict[str, int]:
        """The row of every item, as it stands."""
        with self.lock:
            self.live.refresh()
            return self.live.rows.copy()

    def row(self, item_id: str) -> int:
        """The row of an item, from a thread that does not hold the lock."""
        with self.lock:
            return self.live.row(item_id)
