"""What each part is worth: the same questions, answered from the same state with one part switched off.

The ranker is not trained anew without a channel: it was trained with all of them and now misses one, its
candidates and its columns. That is what switching it off costs at this moment; a ranker that never knew the
channel would make up for some of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from evaluation.bootstrap import DRAWS, SEED, Interval
from evaluation.compare import HEADLINE, paired
from evaluation.metrics import Answered
from evaluation.slices import SLICES
from ranker.recommend import Draft, Snapshot

RANKER: Final = "the ranker"
ABLATED: Final = 1_000  # about so many questions are asked without each part


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts together have above all but one, query by query."""

    without: str
    queries: int
    metrics: dict[str, Interval]
    slices: dict[str, Interval] = {}  # name → NDCG@10


def variants(snapshot: Snapshot, draft: Draft) -> Iterator[tuple[str, Snapshot]]:
    """The parts that a draft was made with, and the snapshot without each."""
    if snapshot.ranker is not None:
        yield RANKER, replace(snapshot, ranker=None, explained=False)
    for name in draft.found:
        rest = tuple([one for one in snapshot.channels if one != name])
        yield name, replace(snapshot, channels=rest, explained=False)


def ablations(
    whole: Sequence[Answered], without: Mapping[str, Sequence[Answered]], *, draws: int = DRAWS, seed: int = SEED
) -> tuple[Ablation, ...]:
    """A row for every part, the one that is missed most first.

    Args:
        whole: answers with all parts.
        without: part → answers to some or all of the same questions.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    rows = [_row(name, whole, less, draws, seed) for name, less in without.items() if any(one.targets for one in less)]
    return tuple(sorted(rows, key=lambda row: -row.metrics[HEADLINE].mean))


def _row(name: str, whole: Sequence[Answered], without: Sequence[Answered], draws: int, seed: int) -> Ablation:
    by_id = {answer.query_id: answer for answer in whole}
    less = [answer for answer in without if answer.targets]
    ours = [_bare(by_id[answer.query_id]) for answer in less]
    chosen = {part: (choose(ours), choose(less)) for part, _, choose in SLICES}
    return Ablation(
        without=name,
        queries=len(ours),
        metrics=paired(ours, less, draws=draws, seed=seed),
        slices={
            part: paired(some, same, draws=draws, seed=seed)[HEADLINE]
            for part, (some, same) in chosen.items()
            if some and some != ours
        },
    )


def _bare(answer: Answered) -> Answered:
    """Without what is only known of the whole."""
    return msgspec.structs.replace(answer, candidates=(), channels={}, latency_ms=None)
