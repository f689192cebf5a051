from evaluation.metrics import Answered
from evaluation.slices import COLD_START, cold, first_time, heavy, only_new, shown, visits
from tests.evaluation.answers import answered


def ids(answers: list[Answered]) -> list[str]:
    return [a.query_id for a in answers]


def test_first_time_shoppers_are_those_marked_so() -> None:
    assert ids(first_time([answered(query_id="1", first_time=True), answered(query_id="2")])) == ["1"]


def test_heavy_shoppers_are_the_tenth_who_bought_most_with_all_their_queries() -> None:
    light = [answered(query_id=f"l{n}", shopper=f"l{n}", bought=frozenset("a")) for n in range(18)]
    grows = [answered(query_id=f"h{n}", shopper="h", bought=frozenset("abcdef"[:n])) for n in (1, 6)]
    other = answered(query_id="g", shopper="g", bought=frozenset("abcdefg"))
    assert ids(heavy([*light, *grows, other])) == ["h1", "h6", "g"]


def test_nobody_is_heavy_who_bought_nothing() -> None:
    assert heavy([answered(query_id=str(n), shopper=str(n)) for n in range(5)]) == []
    assert heavy([]) == []


def test_cold_items_alone_are_targets_in_their_slice() -> None:
    [one] = cold([answered("ab", "ab", query_id="1", cold_targets=frozenset("b")), answered(query_id="2")])
    assert one.targets == frozenset("b")
    assert one.items == ("a", "b")


def test_what_was_bought_leaves_targets_and_lists_of_the_new() -> None:
    repeat = answered("a", "a", query_id="1", bought=frozenset("a"))
    mixed = answered("abc", "ac", query_id="2", bought=frozenset("a"), candidates=("a", "b"))
    [one] = only_new([repeat, mixed])
    assert (one.query_id, one.items, one.candidates, one.targets) == ("2", ("b", "c"), ("b",), frozenset("c"))


def test_a_shown_list_keeps_what_was_shown() -> None:
    [one] = only_new([answered("ab", "ab", shown=("a", "b"), bought=frozenset("a"))])
    assert (one.items, one.targets) == (("a", "b"), frozenset("b"))


def test_shown_lists_and_visits_are_told_apart() -> None:
    answers = [answered(query_id="1"), answered("ab", query_id="2", shown=("a", "b"))]
    assert (ids(visits(answers)), ids(shown(answers))) == (["1"], ["2"])


def test_a_cold_start_is_that_of_a_shopper_or_of_an_item() -> None:
    assert dict(COLD_START) == {"first-time shoppers": first_time, "cold items": cold}
