import pytest

from core.decision import Attribution, Label
from core.events import Event
from core.settings import AttributionSettings
from streams.attribution import OUTCOME_OF, Served, attribute
from tests.factories import DAY, T, event

SETTINGS = AttributionSettings(open=3)


def served(name: str, items: str, ts: int = T) -> Served:
    """A list of the items whose names are single letters."""
    return Served(name, ts, "ida", tuple(items))


def followed(*messages: Event | Served) -> tuple[Attribution, list[Label]]:
    state, labels = Attribution(), []
    for message in messages:
        state, outputs = attribute(state, message, SETTINGS)
        for output in outputs:
            assert (output.topic, output.key) == ("labelled", "ida")
            assert isinstance(output.value, Label)
            labels.append(output.value)
    return state, labels


def told(labels: list[Label]) -> list[tuple[str, str, str, bool]]:
    return [(one.recommendation_id, one.item, one.outcome, one.shown) for one in labels]


@pytest.mark.parametrize(("name", "outcome"), OUTCOME_OF.items())
def test_an_act_on_a_shown_item_labels_the_list(name: str, outcome: str) -> None:
    _, labels = followed(served("r", "abc"), event(name, "b", ts=T + 5))
    assert labels == [Label(1, "r", "b", outcome, T + 5, 5, True)]


@pytest.mark.parametrize("name", ["view_item_list", "remove_from_cart", "refund", "search", "rating"])
def test_what_says_nothing_of_the_list_labels_nothing(name: str) -> None:
    assert followed(served("r", "abc"), event(name, "a", ts=T + 5))[1] == []


def test_an_act_that_names_its_recommendation_belongs_to_it() -> None:
    lists = served("old", "ab"), served("new", "ab", T + 1)
    _, labels = followed(*lists, event("select_item", "a", ts=T + 2, recommendation_id="old"))
    assert told(labels) == [("old", "a", "click", True)]


def test_an_act_that_names_a_list_we_do_not_know_belongs_to_none() -> None:
    state, labels = followed(served("r", "ab"), event("select_item", "a", ts=T + 2, recommendation_id="banner"))
    assert labels == []
    assert state.seen == ()


def test_any_other_act_belongs_to_the_newest_list_that_held_the_item() -> None:
    lists = served("one", "ab"), served("two", "ac", T + 1), served("three", "d", T + 2)
    _, labels = followed(*lists, event("purchase", "a", "b", ts=T + 3))
    assert told(labels) == [("two", "a", "buy", True), ("one", "b", "buy", True)]


def test_what_no_list_held_is_something_the_newest_one_missed() -> None:
    _, labels = followed(served("one", "ab"), served("two", "c", T + 1), event("purchase", "z", ts=T + 2))
    assert told(labels) == [("two", "z", "buy", False)]


def test_an_item_that_stands_twice_in_an_event_is_told_once() -> None:
    _, labels = followed(served("r", "a"), event("purchase", "a", "a", ts=T + 1))
    assert told(labels) == [("r", "a", "buy", True)]


@pytest.mark.parametrize(("delay", "labels"), [(0, 1), (DAY, 1), (DAY + 1, 0), (-1, 0)])
def test_only_what_follows_within_the_window_counts(delay: int, labels: int) -> None:
    assert len(followed(served("r", "a"), event("view_item", "a", ts=T + delay))[1]) == labels


def test_an_event_that_comes_again_labels_nothing() -> None:
    act = event("view_item", "a", ts=T + 1)
    state, labels = followed(served("r", "a"), act, event("view_item", "a", ts=T + 2), act)
    assert [one.ts for one in labels] == [T + 1, T + 2]
    assert len(state.seen) == 2


def test_a_list_that_comes_again_is_one() -> None:
    state, labels = followed(served("r", "a"), served("r", "a"), event("view_item", "a", ts=T + 1))
    assert len(state.open) == len(labels) == 1


def test_lists_are_bounded_and_the_newest_stay() -> None:
    state, _ = followed(*[served(f"r{n}", "a", T + n) for n in range(9)])
    assert [one.recommendation_id for one in state.open] == ["r6", "r7", "r8"]


def test_a_list_that_arrives_late_is_not_the_newest() -> None:
    _, labels = followed(served("new", "a", T + 9), served("late", "a", T), event("view_item", "a", ts=T + 10))
    assert told(labels) == [("new", "a", "view", True)]


def test_lists_whose_window_has_passed_are_forgotten() -> None:
    state, _ = followed(served("old", "a"), served("new", "a", T + DAY + 1))
    assert [one.recommendation_id for one in state.open] == ["new"]


def test_ids_of_attributed_acts_are_bounded() -> None:
    state, _ = followed(served("r", "a"), *[event("view_item", "a", ts=T + n) for n in range(200)])
    assert len(state.seen) < 100


def test_without_an_open_list_nothing_is_kept_of_an_act() -> None:
    empty = Attribution()
    assert attribute(empty, event("view_item", "a"), SETTINGS) == (empty, ())
    assert attribute(empty, event("view_item", "a"), SETTINGS)[0] is empty


def test_a_click_that_overtakes_its_list_waits_for_it() -> None:
    click = event("select_item", "b", ts=T + 5, recommendation_id="r")
    state, labels = followed(click, served("r", "abc"))
    assert labels == [Label(1, "r", "b", "click", T + 5, 5, True)]
    assert state.early == ()
    assert followed(click, served("r", "abc"), click)[1] == labels, "the same click again says nothing more"


def test_a_click_that_comes_twice_before_its_list_is_told_once() -> None:
    click = event("select_item", "b", ts=T + 5, recommendation_id="r")
    assert len(followed(click, click, served("r", "abc"))[1]) == 1


def test_what_waits_for_a_list_waits_for_no_other_one_and_not_for_ever() -> None:
    click = event("select_item", "b", ts=T + 5, recommendation_id="r")
    state, labels = followed(click, served("other", "abc"))
    assert labels == []
    assert len(state.early) == 1
    assert followed(click, served("other", "abc", T + 3 * DAY))[0].early == ()


def test_an_act_before_its_list_was_made_is_no_outcome_of_it() -> None:
    click = event("select_item", "b", ts=T - 5, recommendation_id="r")
    state, labels = followed(click, served("r", "abc"))
    assert (labels, state.early) == ([], ())
