"""Lists with what came of them: what a ranker learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Decision, Label
from core.ids import hash64
from ranker.arrays import Floats
from ranker.model import UNSEEN, Examples

GRADES: Final = {"view": 1, "click": 1, "wish": 1, "cart": 2, "like": 2, "buy": 3}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One list, with what came of it.

    Attributes:
        ts: when it was made (ms).
        features: (rows, columns).
        grades: 0 to 3 by row.
        shopper: whose list it is.
        marks: `hash64` of the item ids by row; empty where nobody has to know which they are.
        places: where each row stood when the shopper saw the list, from 0; `UNSEEN` for one that was not
            shown. None of a list that nobody saw.
    """

    ts: int
    features: Floats
    grades: NDArray[np.int8]
    shopper: str = ""
    marks: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    places: NDArray[np.int16] | None = None

    @property
    def teaches(self) -> bool:
        """Whether there is an order to learn: something was wanted, and not everything alike."""
        return len(self.grades) > 0 and bool(self.grades.max() > self.grades.min())


def from_decisions(
    decisions: Iterable[Decision], labels: Mapping[str, Sequence[Label]], schema: str
) -> Iterator[Lesson]:
    """Lessons of logged decisions, by the features that were logged with them.

    Decisions of another feature schema, and those that nothing followed, teach nothing.
    """
    for decision in decisions:
        followed = labels.get(decision.recommendation_id)
        if decision.schema != schema or not followed or not decision.pool:
            continue
        place = {item: row for row, item in enumerate(decision.pool)}
        grades = np.zeros(len(place), np.int8)
        for label in followed:
            row = place.get(label.item)
            if row is not None:
                grades[row] = max(int(grades[row]), GRADES.get(label.outcome, 0))
        features = np.frombuffer(decision.features, np.float32).reshape(len(decision.pool), -1)
        places = np.full(len(place), UNSEEN, np.int16)
        shown = min(len(decision.items), len(place))
        places[:shown] = np.arange(shown)
        lesson = Lesson(decision.ts, features, grades, decision.shopper, marks_of(decision.pool), places)
        if lesson.teaches:
            yield lesson


def marks_of(items: Iterable[str]) -> NDArray[np.uint64]:
    """What `Lesson.marks` holds of these item ids."""
    return np.array([hash64(item) for item in items], np.uint64)


def collect(lessons: Sequence[Lesson]) -> Examples:
    """The lessons as one block for the trainer."""
    return Examples(
        np.concatenate([one.features for one in lessons]),
        np.concatenate([one.grades for one in lessons]),
        np.array([len(one.grades) for one in lessons], np.int64),
        _places(lessons),
    )


def _places(lessons: Sequence[Lesson]) -> NDArray[np.int16] | None:
    """Of every row; None where no list was seen by anybody."""
    if all(one.places is None for one in lessons):
        return None
    unseen = [np.full(len(one.grades), UNSEEN, np.int16) if one.places is None else one.places for one in lessons]
    return np.concatenate(unseen)
