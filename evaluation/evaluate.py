"""How good is it, on a recorded log: asked whenever a shopper comes back, beside simple baselines.

Up to a moment of the log everything is only learnt from. After it, every list that was shown is
ordered anew, and every shopper who begins a session is given a list; what they then do is the
target. All systems answer from the very same state, and go on learning as time goes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from core.decision import Request
from core.errors import BadInput
from core.events import Event
from core.ids import coin
from core.settings import Settings
from core.stats import CATEGORY
from evaluation.ablation import ABLATED, RANKER, Ablation, ablations, variants
from evaluation.channels import Channel, channel_table
from evaluation.compare import compare
from evaluation.learnt import Uses
from evaluation.metrics import Answered
from evaluation.provenance import changed_settings, machine, versions
from evaluation.question import STARTS, SUBJECT, Question, bought, look_ahead, split
from evaluation.replay import EVERY, listed, steady_memory
from evaluation.report import Job, Report
from evaluation.slices import COLD_START
from jobs.embedding import Embedder
from jobs.rehearsal import Rehearsal
from ranker.arrays import best
from ranker.channels import CHANNELS
from ranker.recommend import Draft, Snapshot
from streams.recorded import Query, read, span

BASELINES: Final[Mapping[str, tuple[str, ...]]] = {
    "recent popularity": ("trending",),
    "own repeat purchases": ("own",),
    "co-occurrence": ("bought", "carted", "seen"),
    "text only": ("text",),
}
DEPTH: Final = 100


class Evaluation:
    """Plays one stream; `report` tells what came of it."""

    def __init__(
        self,
        stream: Path,
        settings: Settings,
        embedder: Embedder | None,
        test_from_ms: int | None,
        most: int,
        ablate: int = ABLATED,
    ) -> None:
        self._stream, self._settings = stream, settings
        self._size = span(stream)
        self._from = test_from_ms if test_from_ms is not None else split(stream, sum(self._size.counts.values()))
        if not self._size.first < self._from <= self._size.last:
            told = f"from {self._size.first} to {self._size.last}"
            if test_from_ms is None:
                raise BadInput(f"{stream} is too short to be split: {sum(self._size.counts.values())} lines {told}")
            raise BadInput(f"test-from must lie within the log, {told}, got {self._from}")
        self._wanted, moments = look_ahead(stream, self._from, settings.profile.idle_s * 1000.0)
        self._share = most / max(moments, 1) if most else 1.0  # of the moments that call for a list
        self._less = ablate / max(min(most or moments, moments), 1)  # of those asked, asked without each part too
        window_ms = round(settings.training.window_s * 1000)
        self._shop = Rehearsal(
            settings,
            embedder,
            learn_from_ms=self._from - window_ms,
            train_from_ms=self._from,
            learn_user=settings.tuning.user == "transformer",
        )
        self._text = embedder is not None
        self._open: dict[str, Question] = {}
        self._asked: list[Question] = []
        self._known: set[str] = set()  # ids of questions: a log may hold an event twice
        self._uses = Uses()

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
        profile, key = self._shop.profile(event.shopper), query_id if shown else f"visit:{event.shopper}"
        question = Question(
            query_id=query_id,
            shopper=event.shopper,
            session=event.session_id or "",
            ts=event.ts,
            shown=shown,
            bought=bought(profile),
            first_time=not profile.last,
            lists={SUBJECT: listed(draft, self._shop, DEPTH), **self._baselines(request, snapshot)},
            without=self._without(request, snapshot, draft),
            candidates=_ids(self._shop, draft),
            channels=_channels(self._shop, draft),
            latency_ms=elapsed * 1000,
            catalogue=len(self._shop.snapshot.live),
        )
        self._open[key] = question
        self._asked.append(question)
        self._uses.asked(self._shop, event.ts)

    def _baselines(self, request: Request, snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
        """What each baseline answers from the same state."""
        return {
            name: self._list(request, replace(snapshot, ranker=None, channels=channels, explained=False))
            for name, channels in BASELINES.items()
            if self._text or channels != ("text",)
        }

    def _without(self, request: Request, snapshot: Snapshot, draft: Draft) -> dict[str, tuple[str, ...]]:
        """The same with each part switched off, for some of the questions."""
        if coin(f"{request.recommendation_id} without") >= self._less:
            return {}
        return {name: self._list(request, less) for name, less in variants(snapshot, draft)}

    def _list(self, request: Request, snapshot: Snapshot) -> tuple[str, ...]:
        return listed(self._shop.draft_with(request, snapshot), self._shop, DEPTH)

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
        if not self._asked:
            raise BadInput(
                f"{self._stream}: nothing after the split begins a session or shows a list, so nothing can be asked"
            )
        cold = [self._cold(question) for question in self._asked]
        systems = {name: self._answers(name, cold) for name in self._asked[0].lists}
        ours = systems[SUBJECT]
        return Report(
            stream=self._stream.name,
            split=self._from,
            comparison=compare(systems, SUBJECT, popularity=self._popularity()),
            channels=self._channels(ours),
            cold_start={name: self._channels(choose(ours)) for name, choose in COLD_START.items()},
            ablations=self._ablations(ours, cold),
            jobs=self._jobs(),
            artefacts=self._uses.artefacts(),
            machine=machine(),
            versions=versions(),
            settings=changed_settings(self._settings),
            notes=(
                f"Targets of a visit are the items of its {self._wanted} events; of a shown list, what was clicked.",
            ),
        )

    def _jobs(self) -> tuple[Job, ...]:
        rankers = [Job(ts=t.ts, kind="ranker", groups=t.groups, seconds=t.seconds) for t in self._shop.trained]
        users = [Job(ts=t.ts, kind="user vector", seconds=t.seconds, note=t.why) for t in self._shop.users]
        return tuple(sorted([*rankers, *users], key=lambda job: job.ts))

    def _answers(self, system: str, cold: Sequence[frozenset[str]]) -> list[Answered]:
        asked = zip(self._asked, cold, strict=True)
        return [one.answered(one.lists[system], items, retrieved=system == SUBJECT) for one, items in asked]

    def _ablations(self, whole: Sequence[Answered], cold: Sequence[frozenset[str]]) -> tuple[Ablation, ...]:
        without: dict[str, list[Answered]] = {}
        for question, items in zip(self._asked, cold, strict=True):
            for name, answer in question.without.items():
                without.setdefault(name, []).append(question.answered(answer, items))
        active = {RANKER, *_active(whole)}
        return ablations(whole, {name: answers for name, answers in without.items() if name in active})

    def _channels(self, answers: Sequence[Answered]) -> tuple[Channel, ...]:
        """Those that brought anything: some wait for a text model, for one of a bundle, or for a history."""
        active = _active(answers)
        quotas = {name: getattr(self._settings.channels, name) for name in CHANNELS if name in active}
        return channel_table(answers, quotas)

    def _cold(self, question: Question) -> frozenset[str]:
        """Its targets that nobody had touched before it."""
        stats = self._shop.runner.tables["popularity"]
        return frozenset(item for item in question.targets if stats.get(item).first >= question.ts)

    def _popularity(self) -> dict[str, float]:
        return {
            item: float(sum(counter.total for counter in stats.counters.values()))
            for item, stats in self._shop.runner.tables["popularity"].items()
            if not item.startswith(CATEGORY)
        }


def run(
    stream: Path,
    settings: Settings,
    embedder: Embedder | None,
    *,
    test_from_ms: int | None = None,
    most: int = 0,
    ablate: int = ABLATED,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """Evaluate on a recorded stream.

    Args:
        stream: as `streams.recorded` reads it; its own queries are passed over.
        settings: of the shop.
        embedder: of item text, or None.
        test_from_ms: lists are asked from this event time on; None takes the newest fifth of the lines.
        most: about how many lists to ask, 0 for all.
        ablate: for about how many of them to ask without each part too, 0 for none.
        progress: told (what, done, total).

    Raises:
        BadInput: the split lies outside the log, or nothing after it can be asked.
    """
    return Evaluation(stream, settings, embedder, test_from_ms, most, ablate).run(progress)


def _active(answers: Sequence[Answered]) -> set[str]:
    return {name for one in answers for name, items in one.channels.items() if items}


def _ids(shop: Rehearsal, draft: Draft) -> tuple[str, ...]:
    ids = shop.snapshot.live.ids
    return tuple([ids[row] for row in draft.rows.tolist()])


def _channels(shop: Rehearsal, draft: Draft) -> dict[str, tuple[str, ...]]:
    ids, quotas = shop.snapshot.live.ids, shop.settings.channels
    return {
        name: tuple([ids[row] for row in best(rows, scores, getattr(quotas, name)).tolist()])
        for name, (rows, scores) in draft.found.items()
    }
