"""How good is it, on a recorded log: asked whenever a shopper comes back, beside simple baselines.

Up to a moment of the log everything is only learnt from. After it, every list that was shown is
ordered anew, and every shopper who begins a session is given a list; what they then do is the
target. All systems answer from the very same state, and go on learning as time goes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from core.decision import Request
from core.errors import BadInput
from core.events import Event
from core.ids import coin
from core.profile import Profile
from core.settings import Settings
from core.stats import CATEGORY
from evaluation.channels import channel_table
from evaluation.compare import compare
from evaluation.metrics import Answered
from evaluation.provenance import changed_settings, machine, versions
from evaluation.replay import EVERY, listed, steady_memory
from evaluation.report import Artefact, Job, Report
from jobs.embedding import Embedder
from jobs.rehearsal import Rehearsal
from ranker.arrays import best
from ranker.channels import CHANNELS
from ranker.recommend import Draft
from streams.recorded import Query, read, span

SUBJECT: Final = "headwater"
BASELINES: Final[Mapping[str, tuple[str, ...]]] = {
    "recent popularity": ("trending",),
    "own repeat purchases": ("own",),
    "co-occurrence": ("bought", "carted", "seen"),
    "text only": ("text",),
}
DEPTH: Final = 100
TEST_SHARE: Final = 0.2  # of the log's lines, the newest
STARTS: Final = ("view_item", "add_to_cart", "purchase")
TARGETS: Final = ("purchase", "add_to_cart", "view_item", "select_item")  # the first kind the log has


@dataclass(slots=True)
class _Question:
    """A query whose session is still going on."""

    query_id: str
    shopper: str
    session: str
    ts: int
    shown: tuple[str, ...] | None
    bought: frozenset[str]
    first_time: bool
    lists: dict[str, tuple[str, ...]]
    candidates: tuple[str, ...]
    channels: dict[str, tuple[str, ...]]
    latency_ms: float
    catalogue: int
    targets: set[str] = field(default_factory=set)


class Evaluation:
    """Plays one stream; `report` tells what came of it."""

    def __init__(
        self, stream: Path, settings: Settings, embedder: Embedder | None, test_from_ms: int | None, most: int
    ) -> None:
        self._stream, self._settings = stream, settings
        self._size = span(stream)
        self._from = test_from_ms if test_from_ms is not None else _split(stream, sum(self._size.counts.values()))
        if not self._size.first < self._from <= self._size.last:
            told = f"from {self._size.first} to {self._size.last}"
            if test_from_ms is None:
                raise BadInput(f"{stream} is too short to be split: {sum(self._size.counts.values())} lines {told}")
            raise BadInput(f"test-from must lie within the log, {told}, got {self._from}")
        self._wanted, moments = _look_ahead(stream, self._from, settings.profile.idle_s * 1000.0)
        self._share = most / max(moments, 1) if most else 1.0  # of the moments that call for a list
        window_ms = round(settings.training.window_s * 1000)
        self._shop = Rehearsal(settings, embedder, learn_from_ms=self._from - window_ms, train_from_ms=self._from)
        self._text = embedder is not None
        self._open: dict[str, _Question] = {}
        self._asked: list[_Question] = []
        self._known: set[str] = set()  # ids of questions: a log may hold an event twice
        self._used: dict[int, tuple[int, int, int]] = {}  # training → first and last query, how many

    def run(self, progress: Callable[[str, int, int], None]) -> Report:
        """Play the stream to its end.

        Raises:
            BadInput: nothing was asked that has an answer.
        """
        total = sum(self._size.counts.values())
        with steady_memory():
            for done, entry in enumerate(read(self._stream), 1):
                if isinstance(entry, Event):
                    if entry.ts >= self._from:
                        self._before(entry)
                    self._after(entry)
                if not isinstance(entry, Query):
                    self._shop.accept(entry)
                if done % EVERY == 0:
                    progress("replaying", min(done, total), total)
        progress("replaying", total, total)
        return self._report()

    # ------------------------------------------------------------------ asking
    def _before(self, event: Event) -> None:
        """Ask, if this event begins something that calls for a list."""
        if event.name == "view_item_list" and len(event.items) > 1:
            name = event.recommendation_id or event.event_id
            self._ask(event, f"list:{name}", tuple(sorted(line.item_id for line in event.items)))
        elif event.name in STARTS and event.items and self._shop.comes_back(event):
            self._open.pop(f"visit:{event.shopper}", None)
            self._ask(event, f"visit:{event.event_id}", None)

    def _ask(self, event: Event, query_id: str, shown: tuple[str, ...] | None) -> None:
        if query_id in self._known or coin(query_id) >= self._share:
            return
        self._known.add(query_id)
        request = Request(recommendation_id=query_id, ts=event.ts, shopper=event.shopper, n=DEPTH, items=shown)
        snapshot = self._shop.ready(event.ts)
        started = time.perf_counter()
        draft = self._shop.draft_with(request, snapshot)
        elapsed = time.perf_counter() - started
        lists = {SUBJECT: listed(draft, self._shop, DEPTH)}
        for name, channels in BASELINES.items():
            if channels == ("text",) and not self._text:
                continue
            plain = replace(snapshot, ranker=None, channels=channels, explained=False)
            lists[name] = listed(self._shop.draft_with(request, plain), self._shop, DEPTH)
        profile = self._shop.profile(event.shopper)
        question = _Question(
            query_id, event.shopper, event.session_id or "", event.ts, shown, _bought(profile), not profile.last, lists,
            _ids(self._shop, draft), _channels(self._shop, draft), elapsed * 1000, len(self._shop.snapshot.live),
        )  # fmt: skip
        key = query_id if shown else f"visit:{event.shopper}"
        self._open[key] = question
        self._asked.append(question)
        training = len(self._shop.trained) - 1
        first, _, count = self._used.get(training, (event.ts, 0, 0))
        self._used[training] = (first, event.ts, count + 1)

    def _after(self, event: Event) -> None:
        """What the event says of the questions asked before it."""
        if event.name == "select_item" and event.recommendation_id:
            question = self._open.get(f"list:{event.recommendation_id}")
            if question is not None:
                question.targets |= {line.item_id for line in event.items}
                return
        if event.name != self._wanted:
            return
        question = self._open.get(f"visit:{event.shopper}")
        if question is None:
            return
        same = question.session == event.session_id if event.session_id else True
        if same and event.ts - question.ts <= self._settings.attribution.window_s * 1000:
            question.targets |= {line.item_id for line in event.items}

    # ------------------------------------------------------------------ telling
    def _report(self) -> Report:
        systems = {name: self._answered(name) for name in self._asked[0].lists} if self._asked else {}
        if not systems:
            raise BadInput(
                f"{self._stream}: nothing after the split begins a session or shows a list, so nothing can be asked"
            )
        tables = self._shop.runner.tables["popularity"]
        popularity = {
            item: float(sum(counter.total for counter in stats.counters.values()))
            for item, stats in tables.items()
            if not item.startswith(CATEGORY)
        }
        quotas = {name: getattr(self._settings.channels, name) for name in CHANNELS}
        return Report(
            stream=self._stream.name,
            split=self._from,
            comparison=compare(systems, SUBJECT, popularity=popularity),
            channels=channel_table(systems[SUBJECT], quotas),
            jobs=tuple([Job(ts=t.ts, kind="ranker", groups=t.groups, seconds=t.seconds) for t in self._shop.trained]),
            artefacts=self._artefacts(),
            machine=machine(),
            versions=versions(),
            settings=changed_settings(self._settings),
            notes=(
                f"Targets of a visit are the items of its {self._wanted} events; of a shown list, what was clicked.",
            ),
        )

    def _answered(self, system: str) -> list[Answered]:
        stats = self._shop.runner.tables["popularity"]
        ours = system == SUBJECT
        return [
            Answered(
                query_id=q.query_id,
                shopper=q.shopper,
                ts=q.ts,
                items=q.lists[system],
                targets=frozenset(q.targets),
                candidates=q.candidates if ours else (),
                shown=q.shown,
                first_time=q.first_time,
                bought=q.bought,
                cold_targets=frozenset(item for item in q.targets if stats.get(item).first >= q.ts),
                latency_ms=q.latency_ms if ours else None,
                catalogue_size=q.catalogue,
                channels=q.channels if ours else {},
            )
            for q in self._asked
        ]

    def _artefacts(self) -> tuple[Artefact, ...]:
        found = []
        for training, (first, last, count) in self._used.items():
            if training >= 0:
                made = self._shop.trained[training]
                found.append(
                    Artefact(
                        name=f"ranker {training + 1}", max_event_time=made.max_event_ms,
                        first_query=first, last_query=last, queries=count,
                    )
                )  # fmt: skip
        return tuple(found)


def run(
    stream: Path,
    settings: Settings,
    embedder: Embedder | None,
    *,
    test_from_ms: int | None = None,
    most: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """Evaluate on a recorded stream.

    Args:
        stream: as `streams.recorded` reads it; its own queries are passed over.
        settings: of the shop.
        embedder: of item text, or None.
        test_from_ms: lists are asked from this event time on; None takes the newest fifth of the lines.
        most: about how many lists to ask, 0 for all.
        progress: told (what, done, total).

    Raises:
        BadInput: the split lies outside the log, or nothing after it can be asked.
    """
    return Evaluation(stream, settings, embedder, test_from_ms, most).run(progress)


def _split(stream: Path, lines: int) -> int:
    cut = round(lines * (1 - TEST_SHARE))
    return next((entry.ts for number, entry in enumerate(read(stream, group=False)) if number >= cut), 0)


def _look_ahead(stream: Path, since_ms: int, idle_ms: float) -> tuple[str, int]:
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


def _bought(profile: Profile) -> frozenset[str]:
    return frozenset(item for item, memory in profile.memory.items() if memory.buys > 0)


def _ids(shop: Rehearsal, draft: Draft) -> tuple[str, ...]:
    ids = shop.snapshot.live.ids
    return tuple([ids[row] for row in draft.rows.tolist()])


def _channels(shop: Rehearsal, draft: Draft) -> dict[str, tuple[str, ...]]:

    ids, quotas = shop.snapshot.live.ids, shop.settings.channels
    return {
        name: tuple([ids[row] for row in best(rows, scores, getattr(quotas, name)).tolist()])
        for name, (rows, scores) in draft.found.items()
    }
