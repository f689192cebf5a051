"""Two bundles answer the same moments of a recording, each in its own space: what their lists are worth.

One shop is played; its counters, neighbours and histories serve both sides, as they would live. Only
vectors and rankers differ. A moment is a visit; what the shopper does in the window after it is wanted.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from core.catalogue import ItemChange
from core.decision import Request
from core.events import Event
from core.ids import coin
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.gate import TOP, Measured
from jobs.lessons import GRADES, Lesson
from jobs.rehearsal import VISITS, Rehearsal
from ranker.model import Ranker
from ranker.recommend import Draft, Snapshot, draft_list
from ranker.user_vector import WEIGHTED_MEAN, UserVector
from streams.attribution import OUTCOME_OF

MOST: Final = 2_000  # moments that are asked about; evenly over the visits where there are more
EVENTS_A_VISIT: Final = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One bundle, as far as it answers. `ranker` None lets the blend rank."""

    embedder: Embedder | None
    ranker: Ranker | None
    user: UserVector = WEIGHTED_MEAN


@dataclass(slots=True)
class _Answer:
    top: tuple[str, ...]
    candidates: frozenset[str]
    popularity: float
    ms: float


@dataclass(slots=True)
class _Asked:
    """One moment, the answers of both, and what was wanted by grade."""

    ts: int
    shopper: str
    answers: tuple[_Answer, _Answer]
    wanted: dict[str, int] = field(default_factory=dict)
    cold: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Duel:
    """Both sides on the same lists, and the shop at the end, with both spaces filled."""

    challenger: Measured
    champion: Measured
    shoppers: tuple[str, ...]
    shop: Rehearsal


def fight(
    messages: Iterable[Event | ItemChange],
    settings: Settings,
    challenger: Side,
    champion: Side,
    from_ms: int,
    events: int,
    *,
    learn_from_ms: int | None = None,
    twin: Callable[[Sequence[Lesson]], Ranker | None] | None = None,
) -> Duel:
    """Let both answer the visits from a moment on.

    Args:
        messages: of a recording, in the order of time.
        settings: of the shop.
        challenger: knows nothing of what happened from `from_ms` on.
        champion: the same, or its ranker is replaced by its twin's.
        from_ms: first moment that is asked about.
        events: how many come from then on, at most: there may be too many to ask at each visit.
        learn_from_ms: the shop in the champion's space makes lessons from here on; for `twin`.
        twin: makes the champion's ranker, as it would have been at `from_ms`, of the lessons by then.
    """
    shop = Rehearsal(
        settings, champion.embedder, learn_from_ms=learn_from_ms, train_from_ms=1 << 62, beside=challenger.embedder
    )
    begun = False
    asking = _Asking(shop, challenger, champion, share=MOST * EVENTS_A_VISIT / max(events, 1))
    for message in messages:
        if not begun and message.ts >= from_ms:
            begun = True
            if twin is not None:
                asking.champion = replace(champion, ranker=twin(shop.learnt(from_ms)))
        if isinstance(message, Event):
            if begun:
                asking.see(message)
            asking.count(message)
        shop.accept(message)
    shop.finish()
    return asking.result()


class _Asking:
    """Asks both sides at visits, and watches what follows."""

    def __init__(self, shop: Rehearsal, challenger: Side, champion: Side, share: float) -> None:
        self._shop, self._challenger, self.champion, self._share = shop, challenger, champion, share
        self._window_ms = shop.settings.attribution.window_s * 1000.0
        self._open: dict[str, list[_Asked]] = defaultdict(list)
        self._asked: list[_Asked] = []
        self._used: Counter[str] = Counter()

    def see(self, event: Event) -> None:
        """Ask at a visit, before it is known what it begins with; then note what is wanted."""
        visit = event.items and event.name in VISITS and event.ts >= self._shop.now_ms
        if visit and coin(event.event_id) < self._share and self._shop.comes_back(event):
            self._ask(event)
        grade = GRADES.get(OUTCOME_OF.get(event.name, ""), 0)
        if not grade:
            return
        still = [one for one in self._open[event.shopper] if 0 <= event.ts - one.ts <= self._window_ms]
        self._open[event.shopper] = still
        for one in still:
            for line in event.items:
                one.wanted[line.item_id] = max(grade, one.wanted.get(line.item_id, 0))
                if line.item_id not in self._used:
                    one.cold.add(line.item_id)

    def count(self, event: Event) -> None:
        self._used.update(line.item_id for line in event.items if event.name != "view_item_list")

    def _ask(self, event: Event) -> None:
        request = Request(recommendation_id=event.event_id, ts=event.ts, shopper=event.shopper)
        now = self._shop.ready(event.ts)
        snapshots = (
            replace(now, space=self._shop.beside, ranker=self._challenger.ranker, user=self._challenger.user),
            replace(now, ranker=self.champion.ranker, user=self.champion.user),
        )
        turn = len(self._asked) % 2  # the first one asked finds nothing computed yet
        first = self._answer(request, snapshots[turn])
        second = self._answer(request, snapshots[1 - turn])
        answers = (second, first) if turn else (first, second)
        asked = _Asked(event.ts, event.shopper, answers)
        self._open[event.shopper].append(asked)
        self._asked.append(asked)

    def _answer(self, request: Request, snapshot: Snapshot) -> _Answer:
        begun = time.perf_counter()
        draft: Draft = draft_list(request, self._shop.profile(request.shopper), snapshot)
        ms = 1e3 * (time.perf_counter() - begun)
        ids = [snapshot.live.ids[row] for row in draft.rows[draft.places].tolist()]
        top = tuple(ids[:TOP])
        return _Answer(top, frozenset(ids), float(np.mean([self._used[one] for one in top] or [0])), ms)

    def result(self) -> Duel:
        asked = [one for one in self._asked if one.wanted]
        sides = [_measured([(one, one.answers[place]) for one in asked]) for place in (0, 1)]
        return Duel(sides[0], sides[1], tuple([one.shopper for one in asked]), self._shop)


def _measured(answered: Sequence[tuple[_Asked, _Answer]]) -> Measured:
    rows = np.full((len(answered), 4), np.nan)
    for n, (asked, answer) in enumerate(answered):
        wanted = asked.wanted.keys()
        rows[n, 0] = _ndcg(asked.wanted, answer.top)
        rows[n, 1] = len(wanted & answer.candidates) / len(wanted)
        if asked.cold:
            rows[n, 2] = len(asked.cold & set(answer.top)) / len(asked.cold)
        rows[n, 3] = answer.popularity
    covered = len({item for _, answer in answered for item in answer.top})
    ms = float(np.median([answer.ms for _, answer in answered])) if answered else float("nan")
    return Measured(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], covered, ms)


def _ndcg(wanted: dict[str, int], top: Sequence[str]) -> float:
    """With gains 2 ** grade - 1, beside the best list of all that was wanted, found or not."""
    discount = 1.0 / np.log2(np.arange(2, TOP + 2))
    got = np.array([2.0 ** wanted.get(item, 0) - 1.0 for item in top])
    best = np.sort([2.0**grade - 1.0 for grade in wanted.values()])[::-1][:TOP]
    return float((got * discount[: len(got)]).sum() / (best * discount[: len(best)]).sum())
