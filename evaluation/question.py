"""A question that was asked of all systems at one moment, and when to ask one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core.events import Event
from core.profile import Profile
from evaluation.metrics import Answered
from streams.recorded import read

SUBJECT: Final = "headwater"
STARTS: Final = ("view_item", "add_to_cart", "purchase")
TARGETS: Final = ("purchase", "add_to_cart", "view_item", "select_item")  # the first kind the log has
TEST_SHARE: Final = 0.2  # of the log's lines, the newest


@dataclass(slots=True)
class Question:
    """What was asked and answered; `targets` grow for as long as the session goes on.

    `lists` are the answers by system. `without` are those of the subject with one of its parts
    switched off, by the name of the part; empty where that was not asked.
    """

    query_id: str
    shopper: str
    session: str
    ts: int
    shown: tuple[str, ...] | None
    bought: frozenset[str]
    first_time: bool
    lists: dict[str, tuple[str, ...]]
    without: dict[str, tuple[str, ...]]
    candidates: tuple[str, ...]
    channels: dict[str, tuple[str, ...]]
    latency_ms: float
    catalogue: int
    targets: set[str] = field(default_factory=set)

    def answered(self, items: tuple[str, ...], cold: frozenset[str], *, retrieved: bool = False) -> Answered:
        """The question with an answer to it.

        Args:
            items: of the answer, best first.
            cold: targets that nobody had touched before.
            retrieved: with the candidates and the time of the subject.
        """
        return Answered(
            query_id=self.query_id,
            shopper=self.shopper,
            ts=self.ts,
            items=items,
            targets=frozenset(self.targets),
            candidates=self.candidates if retrieved else (),
            shown=self.shown,
            first_time=self.first_time,
            bought=self.bought,
            cold_targets=cold,
            latency_ms=self.latency_ms if retrieved else None,
            catalogue_size=self.catalogue,
            channels=self.channels if retrieved else {},
        )


def bought(profile: Profile) -> frozenset[str]:
    """What a shopper has bought so far."""
    return frozenset(item for item, memory in profile.memory.items() if memory.buys > 0)


def split(stream: Path, lines: int) -> int:
    """The time at which the newest part of a stream's lines begins, ms."""
    cut = round(lines * (1 - TEST_SHARE))
    return next((entry.ts for number, entry in enumerate(read(stream, group=False)) if number >= cut), 0)


def look_ahead(stream: Path, since_ms: int, idle_ms: float) -> tuple[str, int]:
    """The strongest kind of act that the log has after the split, and about how many moments there call for a list."""
    names: set[str] = set()
    moments = 0
    last: dict[tuple[str, str | None], int] = {}
    for entry in read(stream, group=False):
        if not isinstance(entry, Event) or entry.ts < since_ms:
            continue
        names.add(entry.name)
        if entry.name == "view_item_list":
            moments += len(entry.items) > 1
        elif entry.name in STARTS:
            visit = (entry.shopper, entry.session_id)
            known = last.get(visit)
            moments += known is None or (entry.session_id is None and entry.ts - known > idle_ms)
            last[visit] = entry.ts
    return next((name for name in TARGETS if name in names), TARGETS[0]), moments
