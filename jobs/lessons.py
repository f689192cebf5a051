"""Lists with what came of them: what a ranker learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Decision, Label
from ranker.arrays import Floats
from ranker.model import Examples

GRADES: Final = {"view": 1, "click": 1, "wish": 1, "cart": 2, "like": 2, "buy": 3}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One list. `ts` is when it was made (ms), `features` (rows, columns), `grades` 0 to 3 by row."""

    ts: int
    features: Floats
    grades: NDArray[np.int8]

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
        lesson = Lesson(decision.ts, features, grades)
        if lesson.teaches:
            yield lesson


def collect(lessons: Sequence[Lesson]) -> Examples:
    """The lessons as one block for the trainer."""
    return Examples(
        np.concatenate([one.features for one in lessons]),
        np.concatenate([one.grades for one in lessons]),
        np.array([len(one.grades) for one in lessons], np.int64),
    )
