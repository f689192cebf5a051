"""A ranker from lessons: how many trees is told by the newest of them, then all are learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from core.settings import Settings
from jobs.lessons import Lesson, collect
from ranker import features
from ranker.model import Ranker, train

LATER: Final = 0.15  # of the lessons, the newest: they say when to stop
FEWEST: Final = 100  # of them, below which that would be chance
LEAST_TREES: Final = 10


def best_trees(lessons: Sequence[Lesson], settings: Settings) -> int:
    """How many trees are worth growing: those after which newer lists gained nothing more."""
    most, later = settings.training.trees, round(LATER * len(lessons))
    if not settings.training.stop_after or later < FEWEST:
        return most
    names, schema = features.names(settings), features.schema(settings)
    newer = collect(lessons[-later:])
    found = train(collect(lessons[:-later]), names, schema, settings.training, later=newer)
    return min(most, max(LEAST_TREES, found.trees))


def learn(lessons: Sequence[Lesson], settings: Settings, trees: int) -> Ranker:
    """A ranker of so many trees from all of the lessons."""
    training = replace(settings.training, trees=trees)
    return train(collect(lessons), features.names(settings), features.schema(settings), training)
