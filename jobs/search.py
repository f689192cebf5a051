"""A search for better settings of the ranker or the encoder, within a time limit (Akiba et al., "Optuna", 2019).

Each try learns from older lists and is worth what it gains over the present settings on later ones; the best is
then measured once on the newest, which chose nothing. The study lies in a file, so that another run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import Missing
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.gate import interval, measure
from jobs.lessons import Lesson, collect
from jobs.text_quality import Kernel, ndcg, ranks
from jobs.train import lessons_of
from jobs.train_encoder import Task, task_of
from ranker import features
from ranker.model import Ranker, train

if TYPE_CHECKING:
    from optuna import Study, Trial

STUDIES: Final = "search.sqlite"
FEWEST: Final = 60  # lessons, below which there is nothing to choose by
OLDER, LATER = 0.6, 0.8  # shares of the lessons: up to the first one learns, up to the second one chooses
TRY_S: Final = 120.0  # of one try of the encoder

Progress = Callable[[str, int, int], None]
Values = Mapping[str, float]
Try = Callable[[Values], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Found:
    """The best values by setting, and their gain in NDCG@10 on what chose nothing, with its 95 % interval."""

    section: str
    best: dict[str, float]
    tries: int
    gain: tuple[float, float, float]
    why: str


def run(
    settings: Settings,
    what: Literal["ranker", "encoder"],
    now_ms: int,
    progress: Progress,
    *,
    limit_s: float,
    archive: str = "",
    most: int | None = None,
) -> Found:
    """Search, and say what is best so far.

    Args:
        settings: of the shop: where the search begins, and what a gain is measured against.
        what: ranker or encoder.
        now_ms: only what is older counts.
        progress: told (what, done, total).
        limit_s: no try begins after so long.
        archive: as in `jobs.train.run`.
        most: tries of this run.

    Raises:
        Missing: too little was recorded, or Optuna is not installed.
    """
    _installed()
    if what == "ranker":
        embedder = Embedder.serving(settings)
        lessons = lessons_of(settings, embedder, now_ms, progress, archive)
        return _search(_OfRanker(settings, lessons), settings, progress, limit_s, most)
    return _search(_OfEncoder(settings, task_of(settings, now_ms, archive)), settings, progress, limit_s, most)


def _installed() -> None:
    try:
        import optuna
    except ImportError:
        raise Missing("a search needs Optuna: pip install 'headwater[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


# ---------------------------------------------------------------------- what is tried
class _OfRanker:
    section = "training"

    def __init__(self, settings: Settings, lessons: list[Lesson]) -> None:
        if len(lessons) < FEWEST:
            raise Missing(f"{len(lessons)} lists with a label, and it takes {FEWEST} to choose settings by")
        self._settings = settings
        first, second = (round(share * len(lessons)) for share in (OLDER, LATER))
        self._older, self._later, self._newest = lessons[:first], lessons[first:second], lessons[second:]
        self.name = f"ranker {features.schema(settings)}"
        self.shoppers = [one.shopper for one in self._newest]
        self._done: dict[str, Ranker] = {}

    def suggest(self, trial: Trial) -> Values:
        return {
            "leaves": trial.suggest_int("leaves", 7, 63),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "rows_a_leaf": trial.suggest_int("rows_a_leaf", 10, 300, log=True),
            "features": trial.suggest_float("features", 0.3, 1.0),
            "doubt": trial.suggest_float("doubt", 0.1, 30.0, log=True),
        }

    def worth(self, values: Values) -> float:
        return float(measure(self._ranker(values).score, self._later).ndcg.mean())

    def newest(self, values: Values) -> NDArray[np.float64]:
        return measure(self._ranker(values).score, self._newest).ndcg

    def _ranker(self, values: Values) -> Ranker:
        key = msgspec.json.encode(values).decode()
        if key not in self._done:
            training = _with(self._settings.training, values)
            names, schema = features.names(self._settings), features.schema(self._settings)
            older, later = collect(self._older), collect(self._later)
            self._done = {key: train(older, names, schema, training, later=later)}
        return self._done[key]


class _OfEncoder:
    section = "tuning"

    def __init__(self, settings: Settings, task: Task) -> None:
        self._settings, self._task = settings, task
        self._kernel = Kernel(settings.ranking.user_items)
        self.name = f"encoder {settings.encoder.model} {settings.tuning.rung}"
        self.shoppers = [one.shopper for one in task.asked["all"]]
        self._done: dict[str, tuple[float, NDArray[np.float64]]] = {}

    def suggest(self, trial: Trial) -> Values:
        values = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-4, log=True),
            "temperature": trial.suggest_float("temperature", 0.02, 0.15, log=True),
            "hard": trial.suggest_int("hard", 0, 8),
        }
        return values | (
            {"layers": trial.suggest_int("layers", 1, max(2, self._settings.tuning.layers))}
            if self._settings.tuning.rung == "top"
            else {}
        )

    def worth(self, values: Values) -> float:
        return self._tried(values)[0]

    def newest(self, values: Values) -> NDArray[np.float64]:
        return self._tried(values)[1]

    def _tried(self, values: Values) -> tuple[float, NDArray[np.float64]]:
        from models.tower import Tower
        from models.training import Run

        key = msgspec.json.encode(values).decode()
        if key not in self._done:
            tuning = msgspec.structs.replace(_with(self._settings.tuning, values), limit_s=TRY_S)
            task, kernel = self._task, self._kernel
            tower = Tower(self._settings.encoder, tuning, task.texts)

            def judge(vectors: NDArray[np.float32]) -> float:
                return float(ndcg(ranks(vectors, task.choose, kernel)).mean())

            fitted = Run(tower, task.pairs, judge, tuning, seed=self._settings.training.seed, seconds=time.perf_counter)
            found = fitted.fit()
            self._done[key] = found.best, ndcg(ranks(found.vectors, task.asked["all"], kernel), 10)
        return self._done[key]


def _with(section: Any, values: Values) -> Any:
    return msgspec.structs.replace(section, **values)


# ---------------------------------------------------------------------- the search
def _search(
    of: _OfRanker | _OfEncoder, settings: Settings, progress: Progress, limit_s: float, most: int | None
) -> Found:
    import optuna

    settings.tuning.path.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{settings.tuning.path / STUDIES}"
    study = optuna.create_study(storage=storage, study_name=of.name, load_if_exists=True, direction="maximize")
    study.sampler = optuna.samplers.TPESampler(seed=settings.training.seed + len(study.trials))
    present, begun, first = of.worth({}), time.monotonic(), len(study.trials)

    def told(study: Study, _: object) -> None:
        progress("searching, seconds", round(min(time.monotonic() - begun, limit_s)), round(limit_s))
        if most is not None and len(study.trials) - first >= most:
            study.stop()

    study.optimize(lambda trial: of.worth(of.suggest(trial)) - present, timeout=limit_s, callbacks=[told])
    return _found(of, study)


def _found(of: _OfRanker | _OfEncoder, study: Study) -> Found:
    best: dict[str, float] = {
        name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in study.best_params.items()
    }
    if study.best_value <= 0:
        none = (0.0, 0.0, 0.0)
        return Found(of.section, {}, len(study.trials), none, "nothing was better than the present settings")
    gain = interval(of.newest(best) - of.newest({}), of.shoppers)
    sure = "the interval excludes 0" if gain[1] > 0 else "the interval does not exclude 0: stay with what you have"
    low, high = gain[1:]
    why = f"NDCG@10 {gain[0]:+.4f} [{low:+.4f}, {high:+.4f}] on {len(of.shoppers)} newest lists: {sure}"
    return Found(of.section, best, len(study.trials), gain, why)


def lines(found: Found) -> list[str]:
    """What to tell of a search: the settings as a part of headwater.toml, and what they are worth."""
    said = [f"# {found.tries} tries; {found.why}"]
    if not found.best:
        return said
    return [*said, f"[{found.section}]", *(f"{name} = {value}" for name, value in found.best.items())]
