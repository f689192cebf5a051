"""What each retrieval channel is good for: what it finds, what only it finds, what of it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from evaluation.bootstrap import DRAWS, SEED, Interval, estimates
from evaluation.metrics import TOP, Answered, Scores, ranking


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel over all queries. `shown` shares may sum to more than 1: channels overlap."""

    channel: str
    quota: int
    recall: Interval  # hits among its candidates over min(quota, targets)
    alone: int  # targets that no other channel brought
    alone_share: float  # of all targets
    shown: float  # share of the first ten places that it had proposed


def channel_table(
    answers: Sequence[Answered], quotas: Mapping[str, int], *, draws: int = DRAWS, seed: int = SEED
) -> tuple[Channel, ...]:
    """A row for every channel with a quota, the one with the highest recall first.

    Args:
        answers: with `channels` filled; shown lists and queries without a target are passed over.
        quotas: channel → how many candidates it may bring; 0 leaves it out.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    free = [answer for answer in answers if answer.shown is None and answer.targets]
    names = tuple(name for name, quota in quotas.items() if quota > 0)
    if not free or not names:
        return ()
    recalls = np.zeros((len(free), len(names)))
    alone = np.zeros(len(names), dtype=np.int64)
    shown = np.zeros(len(names))
    for row, answer in zip(recalls, free, strict=True):
        found = [frozenset(answer.channels.get(name, ())[: quotas[name]]) for name in names]
        hits = [answer.targets & items for items in found]
        row[:] = [len(hit) / min(quotas[name], len(answer.targets)) for name, hit in zip(names, hits, strict=True)]
        alone += [len(hit.difference(*hits[:n], *hits[n + 1 :])) for n, hit in enumerate(hits)]
        shown += [sum(item in items for item in ranking(answer)[:TOP]) for items in found]
    places = sum(len(ranking(answer)[:TOP]) for answer in free)
    targets = sum(len(answer.targets) for answer in free)
    scores = {"": Scores(names, recalls, np.ones_like(recalls))}
    drawn = estimates(scores, [answer.shopper for answer in free], draws, seed)[""]
    rows = [
        Channel(
            channel=name,
            quota=quotas[name],
            recall=drawn[name].interval(),
            alone=int(alone[n]),
            alone_share=float(alone[n] / targets),
            shown=float(shown[n] / max(places, 1)),
        )
        for n, name in enumerate(names)
    ]
    return tuple(sorted(rows, key=lambda row: -row.recall.mean))
