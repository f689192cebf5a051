import msgspec

from core.settings import Settings
from jobs.learning import LEAST_TREES, best_trees, learn
from ranker import features
from tests.factories import lessons, small_settings

WIDTH = len(features.names(Settings()))
SETTINGS = small_settings(trees=60)


def test_newer_lists_say_how_many_trees_there_are() -> None:
    noise = lessons(800, wanted=0, columns=WIDTH)
    for number, one in enumerate(noise):
        one.grades[:] = one.grades[(number * 7) % 12 - 12 :].tolist() + one.grades[: (number * 7) % 12].tolist()
    assert best_trees(lessons(800, wanted=0, columns=WIDTH), SETTINGS) > LEAST_TREES
    assert best_trees(noise, SETTINGS) < 60


def test_of_few_lists_all_trees_are_grown() -> None:
    few = lessons(60, columns=WIDTH)
    assert best_trees(few, SETTINGS) == 60
    never = msgspec.structs.replace(SETTINGS, training=msgspec.structs.replace(SETTINGS.training, stop_after=0))
    assert best_trees(lessons(800, columns=WIDTH), never) == 60


def test_a_ranker_has_as_many_trees_as_it_is_told() -> None:
    assert learn(lessons(60, columns=WIDTH), SETTINGS, 12).trees == 12
