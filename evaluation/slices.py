"""Which queries, and which of their targets, are looked at apart: a mean over all hides who loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from evaluation.metrics import Answered

HEAVY: Final = 0.9  # quantile of the number of items bought at which a heavy shopper begins

Choice = Callable[[Sequence[Answered]], list[Answered]]


def first_time(answers: Sequence[Answered]) -> list[Answered]:
    """Queries of shoppers of whom nothing was known."""
    return [answer for answer in answers if answer.first_time]


def heavy(answers: Sequence[Answered]) -> list[Answered]:
    """All queries of the shoppers who, at their last one, had bought the most different items."""
    bought: dict[str, int] = {}
    for answer in answers:
        bought[answer.shopper] = max(bought.get(answer.shopper, 0), len(answer.bought))
    if not bought:
        return []
    least = max(1.0, float(np.quantile(list(bought.values()), HEAVY)))
    return [answer for answer in answers if bought[answer.shopper] >= least]


def only_new(answers: Sequence[Answered]) -> list[Answered]:
    """What the shopper had bought before counts neither as a target nor as a place of the list."""
    return [_without_bought(answer) for answer in answers if answer.targets - answer.bought]


def cold(answers: Sequence[Answered]) -> list[Answered]:
    """Only targets that nobody had touched before the query count."""
    return [_aiming_at(answer, answer.cold_targets) for answer in answers if answer.cold_targets]


def _without_bought(answer: Answered) -> Answered:
    """A shown list stays as it was shown."""
    bought, targets = answer.bought, answer.targets - answer.bought
    if answer.shown is not None or not bought.intersection((*answer.items, *answer.candidates)):
        return _aiming_at(answer, targets)
    items, candidates = (tuple(i for i in listed if i not in bought) for listed in (answer.items, answer.candidates))
    return msgspec.structs.replace(answer, targets=targets, items=items, candidates=candidates)


def _aiming_at(answer: Answered, targets: frozenset[str]) -> Answered:
    return answer if targets == answer.targets else msgspec.structs.replace(answer, targets=targets)


def visits(answers: Sequence[Answered]) -> list[Answered]:
    """Queries that asked for a list out of the whole catalogue."""
    return [answer for answer in answers if answer.shown is None]


def shown(answers: Sequence[Answered]) -> list[Answered]:
    """Queries that asked for the order of a shown list."""
    return [answer for answer in answers if answer.shown is not None]


SLICES: Final[tuple[tuple[str, str, Choice], ...]] = (
    ("visits", "a list out of the whole catalogue was asked for, as the shopper came back", visits),
    ("shown lists", "the items of a list that was shown were to be put in order", shown),
    ("first-time shoppers", "nothing was known of the shopper before the query", first_time),
    ("heavy shoppers", "the tenth of the shoppers who bought the most different items", heavy),
    ("items new to the shopper", "what the shopper had bought before is struck from targets and lists", only_new),
    ("cold items", "only targets nobody had touched before the query count", cold),
)
COLD_START: Final[Mapping[str, Choice]] = {name: choose for name, _, choose in SLICES if choose in (first_time, cold)}
