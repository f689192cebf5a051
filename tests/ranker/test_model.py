from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import Broken
from core.settings import TrainingSettings
from ranker.model import Examples, Ranker, train

NAMES = ("noise", "telling", "unknown")
QUICK = TrainingSettings(trees=20, leaves=7)


def lists(count: int, seed: int, *, learnable: bool = True) -> Examples:
    """Lists of 20 of which the items with the highest `telling` are bought, or, unlearnable, any."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(count * 20, len(NAMES))).astype(np.float32)
    matrix[rng.random(len(matrix)) < 0.3, 2] = np.nan
    wanted = matrix[:, 1] if learnable else rng.normal(size=len(matrix))
    place = np.argsort(np.argsort(-wanted.reshape(count, 20), axis=1), axis=1).ravel()
    grades = np.select([place == 0, place == 1, place < 4], [3, 2, 1], 0).astype(np.int8)
    return Examples(matrix, grades, np.full(count, 20, np.int64))


def hits(ranker: Ranker, examples: Examples) -> float:
    """How often the item that was bought comes first."""
    scores = ranker.score(examples.features).reshape(-1, 20)
    return float(np.mean(examples.grades.reshape(-1, 20)[np.arange(len(scores)), scores.argmax(1)] == 3))


def test_a_known_order_is_learnt() -> None:
    ranker = train(lists(200, 1), NAMES, "s", QUICK, threads=1)
    assert hits(ranker, lists(100, 2)) > 0.8
    assert next(iter(ranker.importance())) == "telling"


def test_nothing_is_learnt_from_noise() -> None:
    ranker = train(lists(200, 1, learnable=False), NAMES, "s", QUICK, threads=1)
    assert hits(ranker, lists(200, 2, learnable=False)) < 0.15


def test_the_same_examples_and_seed_give_the_same_ranker() -> None:
    asked = lists(20, 3).features
    one, other = (train(lists(100, 1), NAMES, "s", QUICK, threads=1).score(asked) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_ranker() -> None:
    asked = lists(20, 3).features
    one, other = (
        train(lists(100, 1), NAMES, "s", TrainingSettings(trees=20, leaves=7, seed=seed), threads=1).score(asked)
        for seed in (1, 2)
    )
    assert (one != other).any()


def test_features_of_another_width_are_refused() -> None:
    ranker = train(lists(50, 1), NAMES, "s", QUICK, threads=1)
    with pytest.raises(Broken, match="wants 3 features, got 2"):
        ranker.score(np.zeros((4, 2), np.float32))


def test_a_saved_ranker_scores_as_before(tmp_path: Path) -> None:
    ranker = train(lists(50, 1), NAMES, "s", QUICK, threads=1)
    ranker.save(tmp_path / "ranker.txt")
    again = Ranker.load(tmp_path / "ranker.txt", "s")
    asked = lists(10, 2).features
    np.testing.assert_array_equal(ranker.score(asked), again.score(asked))
    assert (again.schema, again.importance()) == ("s", ranker.importance())


def test_a_score_does_not_depend_on_the_other_rows() -> None:
    ranker = train(lists(50, 1), NAMES, "s", QUICK, threads=1)
    asked = lists(10, 2).features
    np.testing.assert_array_equal(ranker.score(asked)[7:9], ranker.score(asked[7:9]))


# ---------------------------------------------------------------------- lists that were seen
def seen(count: int, seed: int) -> Examples:
    """Lists in which `noise` chose the places, shoppers look at the first places only, and click what is `telling`."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(count * 20, len(NAMES))).astype(np.float32)
    places = np.argsort(np.argsort(-matrix[:, 0].reshape(count, 20), axis=1), axis=1).ravel()
    looked = rng.random(len(matrix)) < 0.9 * 0.6**places
    liked = rng.random(len(matrix)) < 1 / (1 + np.exp(-2 * matrix[:, 1]))
    return Examples(matrix, (looked & liked).astype(np.int8), np.full(count, 20, np.int64), places.astype(np.int16))


def share_of_noise(examples: Examples) -> float:
    gains = train(examples, NAMES, "s", TrainingSettings(trees=40, leaves=7), threads=1).importance()
    return gains["noise"] / gains["telling"]


def test_what_only_its_place_made_clicked_is_not_taken_for_wanted() -> None:
    examples = seen(400, 1)
    blind = Examples(examples.features, examples.grades, examples.sizes)
    assert share_of_noise(examples) < 0.5 * share_of_noise(blind)


# ---------------------------------------------------------------------- when to stop
def test_growing_ends_where_newer_lists_gain_nothing() -> None:
    settings = TrainingSettings(trees=200, leaves=31, stop_after=10)
    older, later = lists(60, 1, learnable=False), lists(60, 2, learnable=False)
    assert train(older, NAMES, "s", settings, threads=1, later=later).trees < 60
    assert train(older, NAMES, "s", settings, threads=1).trees == 200


def test_with_no_patience_asked_for_all_trees_are_grown() -> None:
    settings = TrainingSettings(trees=30, leaves=7, stop_after=0)
    assert train(lists(60, 1), NAMES, "s", settings, threads=1, later=lists(30, 2)).trees == 30


def test_a_ranker_that_stopped_is_the_same_after_it_was_stored(tmp_path: Path) -> None:
    settings = TrainingSettings(trees=80, leaves=7, stop_after=5)
    ranker = train(lists(100, 1), NAMES, "s", settings, threads=1, later=lists(40, 2))
    ranker.save(tmp_path / "r.txt")
    asked = lists(5, 3).features
    opened = Ranker.load(tmp_path / "r.txt", "s")
    np.testing.assert_array_equal(opened.score(asked), ranker.score(asked))
    assert opened.trees == ranker.trees
