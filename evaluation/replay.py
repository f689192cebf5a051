"""The one evaluation path: a recorded stream, line by line, each query answered from what stands above it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from core.decision import Request
from core.events import Event
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.refitting import Fitted
from jobs.rehearsal import Rehearsal
from jobs.retraining import Trained
from ranker.channels import CHANNELS
from ranker.recommend import Draft
from streams.recorded import Entry, Query, first_of, moment_before, read

EVERY: Final = 1_000  # lines between two calls of progress


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to a query, and how long it took. `items` are best first."""

    query: Query
    items: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class Replay:
    """What a run came to. `events` counts items of events and item changes."""

    answers: list[Answer] = field(default_factory=list)
    trained: list[Trained] = field(default_factory=list)
    users: list[Fitted] = field(default_factory=list)
    lines: int = 0
    events: int = 0
    seconds: float = 0.0


def replay(
    stream: Path,
    settings: Settings,
    embedder: Embedder | None,
    *,
    channels: Sequence[str] = tuple(CHANNELS),
    ranker: bool = True,
    progress: Callable[[int], None] = lambda lines: None,
) -> Replay:
    """Play a recorded stream through the steps and answer its queries.

    Args:
        stream: as `streams.recorded` reads it.
        settings: of the shop.
        embedder: of item text; None switches the text channel off.
        channels: which ones retrieve.
        ranker: train rankers on event time; without, the blend ranks.
        progress: told the number of lines so far, now and then.

    Raises:
        BadInput: a line that is no item, event or query, or out of order.
    """
    first = first_query(stream)
    shop = Rehearsal(
        settings,
        embedder,
        learn_from_ms=learn_from(stream, first, settings) if ranker and first is not None else None,
        train_from_ms=first or 0,
        channels=channels,
        learn_user=settings.tuning.user == "transformer",
    )
    found = Replay()
    started = time.perf_counter()
    with steady_memory():
        for found.lines, entry in enumerate(read(stream), 1):
            take(entry, shop, found)
            if found.lines % EVERY == 0:
                progress(found.lines)
    found.seconds = time.perf_counter() - started
    found.trained, found.users = shop.trained, shop.users
    return found


def take(entry: Entry, shop: Rehearsal, found: Replay) -> None:
    """One line: answered, or taken in."""
    if isinstance(entry, Query):
        found.answers.append(answer(entry, shop))
        return
    found.events += len(entry.items) if isinstance(entry, Event) else 1
    shop.accept(entry)


def answer(query: Query, shop: Rehearsal) -> Answer:
    """Ask as a page would, at the query's own time."""
    request = as_request(query)
    shop.settle()
    snapshot = shop.ready(query.ts)
    started = time.perf_counter()
    draft = shop.draft_with(request, snapshot)
    seconds = time.perf_counter() - started
    return Answer(query, listed(draft, shop, len(query.items) if query.items else query.k), seconds)


def listed(draft: Draft, shop: Rehearsal, count: int) -> tuple[str, ...]:
    """The ids of the first places of a draft."""
    ids = shop.snapshot.live.ids
    return tuple([ids[row] for row in draft.rows[draft.places[:count]].tolist()])


def as_request(query: Query) -> Request:
    """A recorded query as a page would ask it."""
    return Request(
        recommendation_id=query.query_id,
        ts=query.ts,
        shopper=query.shopper,
        n=query.k,
        placement=query.placement,
        items=query.items,
        exclude_bought=query.exclude_bought,
    )


def first_query(stream: Path) -> int | None:
    """When the first query is asked, ms; None when there is none. Rankers nobody asks need not be trained."""
    return first_of(stream, "query")


def learn_from(stream: Path, first_ms: int, settings: Settings) -> int:
    """From when on lists are made to learn from, ms: no longer before the first query than they would be kept."""
    window_ms = first_ms - round(settings.training.window_s * 1000)
    enough = moment_before(stream, "event", first_ms, settings.training.max_groups)
    return max(window_ms, enough or 0)


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """One JSON object a line: query_id and items, best first. The file appears when it is whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        for one in answers:
            file.write(msgspec.json.encode({"query_id": one.query.query_id, "items": one.items}) + b"\n")
    partial.replace(path)


@contextmanager
def steady_memory() -> Iterator[None]:
    """Without the cyclic collector: the states hold no cycles, and looking through millions of them takes long."""
    import gc

    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
