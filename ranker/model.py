"""The trained ranker: LightGBM's LambdaRank (Burges, "From RankNet to LambdaRank to LambdaMART", 2010).

The only module that imports lightgbm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import lightgbm
import numpy as np
from numpy.typing import NDArray

from core.errors import Broken
from core.settings import TrainingSettings
from ranker.arrays import Floats

GAINS = (0, 1, 3, 7)  # of the grades none, click or view, cart, buy
ROWS_A_LEAF = 8_000  # where there are few examples, smaller trees
FEWEST_LEAVES = 7


@dataclass(frozen=True, slots=True)
class Examples:
    """Lists with what came of them: rows of all lists one after another.

    `features` is (rows, columns), `grades` 0 to 3 by row, `sizes` rows by list, in time order.
    """

    features: Floats
    grades: NDArray[np.int8]
    sizes: NDArray[np.int64]


class Ranker:
    """Scores candidates; higher is better. Safe to share between threads."""

    def __init__(self, booster: lightgbm.Booster, schema: str) -> None:
        self._booster, self.schema = booster, schema
        self._columns = booster.num_feature()

    def score(self, features: Floats) -> Floats:
        """Scores `(rows,)` of features `(rows, columns)`.

        Raises:
            Broken: the features are not those the ranker was trained on.
        """
        if features.shape[1] != self._columns:
            raise Broken(f"the ranker wants {self._columns} features, got {features.shape[1]}")
        # one thread: more of them spin against each other under load
        scores = self._booster.predict(features, raw_score=True, num_threads=1, validate_features=False)
        return np.asarray(scores, np.float32)

    def importance(self) -> dict[str, float]:
        """Total gain by feature name, largest first."""
        gains = dict(zip(self._booster.feature_name(), self._booster.feature_importance("gain"), strict=True))
        return dict(sorted(((k, float(v)) for k, v in gains.items()), key=lambda pair: -pair[1]))

    def save(self, path: Path) -> None:
        path.write_text(self._booster.model_to_string())

    @classmethod
    def load(cls, path: Path, schema: str) -> Self:
        return cls(lightgbm.Booster(model_str=path.read_text()), schema)


def train(
    examples: Examples, names: tuple[str, ...], schema: str, settings: TrainingSettings, threads: int = 0
) -> Ranker:
    """Fit a ranker; the same examples and seed give the same ranker.

    Args:
        examples: lists in time order, each with at least one grade above 0.
        names: of the columns.
        schema: their hash.
        settings: trees, the most leaves of one, learning rate, seed.
        threads: 0 takes all cores.
    """
    parameters = {
        "objective": "lambdarank",
        "label_gain": list(GAINS),
        "lambdarank_truncation_level": 20,
        "num_leaves": min(settings.leaves, max(FEWEST_LEAVES, len(examples.features) // ROWS_A_LEAF)),
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 2.0,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(
        examples.features, examples.grades, group=examples.sizes, feature_name=list(names), free_raw_data=True
    )
    return Ranker(lightgbm.train(parameters, data, num_boost_round=settings.trees), schema)
