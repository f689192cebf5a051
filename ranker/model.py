"""The trained ranker: LightGBM's LambdaRank (Burges, "From RankNet to LambdaRank to LambdaMART", 2010).

The only module that imports lightgbm.
"""

from __future__ import annotations

from collections.abc import Mapping
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
UNSEEN = -1  # the place of a row that was not shown
ROWS_A_LEAF = 8_000  # where there are few examples, smaller trees
FEWEST_LEAVES = 7


@dataclass(frozen=True, slots=True)
class Examples:
    """Lists with what came of them: rows of all lists one after another.

    `features` is (rows, columns), `grades` 0 to 3 by row, `sizes` rows by list, in time order; `places` where
    each row stood when its list was seen, or `UNSEEN`; None where no list was.
    """

    features: Floats
    grades: NDArray[np.int8]
    sizes: NDArray[np.int64]
    places: NDArray[np.int16] | None = None


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

    @property
    def trees(self) -> int:
        """How many trees score; fewer than were grown where the last ones helped nothing newer."""
        return int(self._booster.best_iteration) if self._booster.best_iteration > 0 else self._booster.num_trees()

    def save(self, path: Path) -> None:
        path.write_text(self._booster.model_to_string())

    @classmethod
    def load(cls, path: Path, schema: str) -> Self:
        return cls(lightgbm.Booster(model_str=path.read_text()), schema)


def train(
    examples: Examples,
    names: tuple[str, ...],
    schema: str,
    settings: TrainingSettings,
    threads: int = 0,
    *,
    later: Examples | None = None,
    more: Mapping[str, float] | None = None,
) -> Ranker:
    """Fit a ranker; the same examples and seed give the same ranker.

    Of lists that were seen, how much a place alone draws attention is learnt beside the trees and left out
    of the scores (additive position bias, as in Hu et al., "Unbiased LambdaMART", 2019).

    Args:
        examples: lists in time order, each with at least one grade above 0.
        names: of the columns.
        schema: their hash.
        settings: trees, the most leaves of one, learning rate, seed.
        threads: 0 takes all cores.
        later: newer lists; growing ends when `settings.stop_after` trees brought nothing on them.
        more: other parameters of LightGBM than those chosen here.
    """
    parameters = _parameters(len(examples.features), settings, threads) | dict(more or {})
    data = lightgbm.Dataset(
        examples.features,
        examples.grades,
        group=examples.sizes,
        position=examples.places,
        feature_name=list(names),
        free_raw_data=True,
    )
    if later is None or not settings.stop_after:
        return Ranker(lightgbm.train(parameters, data, num_boost_round=settings.trees), schema)
    newer = lightgbm.Dataset(later.features, later.grades, group=later.sizes, reference=data)
    stop = lightgbm.early_stopping(settings.stop_after, verbose=False)
    grown = lightgbm.train(parameters, data, settings.trees, valid_sets=[newer], callbacks=[stop])
    return Ranker(grown, schema)


def _parameters(rows: int, settings: TrainingSettings, threads: int) -> dict[str, object]:
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "label_gain": list(GAINS),
        "lambdarank_truncation_level": 20,
        "num_leaves": min(settings.leaves, max(FEWEST_LEAVES, rows // ROWS_A_LEAF)),
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_a_leaf,
        "feature_fraction": settings.features,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": settings.doubt,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
