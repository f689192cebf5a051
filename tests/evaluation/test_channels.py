import pytest

from evaluation.channels import channel_table
from tests.evaluation.answers import answered


def test_a_small_case_is_what_a_hand_computes() -> None:
    answers = [
        answered("abx", "abc", query_id="1", channels={"own": ("a", "b"), "new": ("b", "c"), "text": ("x",)}),
        answered("d", "d", query_id="2", shopper="bo", channels={"own": ("d",), "new": ("z",)}),
    ]
    own, new, text = channel_table(answers, {"own": 2, "new": 2, "text": 1, "off": 0}, draws=20)
    assert [own.channel, new.channel, text.channel] == ["own", "new", "text"]
    assert own.recall.mean == pytest.approx((2 / 2 + 1 / 1) / 2)
    assert new.recall.mean == pytest.approx((2 / 2 + 0) / 2)
    assert (own.alone, new.alone, text.alone) == (2, 1, 0)  # a and d, c, nothing
    assert own.alone_share == pytest.approx(2 / 4)
    assert own.shown == pytest.approx(3 / 4)  # a, b and d of a, b, x, d
    assert text.shown == pytest.approx(1 / 4)


def test_a_channel_is_measured_at_its_quota() -> None:
    [row] = channel_table([answered("a", "ab", channels={"own": ("x", "a", "b")})], {"own": 2}, draws=20)
    assert row.recall.mean == pytest.approx(1 / 2)


def test_shown_lists_and_queries_without_a_target_say_nothing_of_channels() -> None:
    answers = [answered("a", shown=("a",), query_id="1"), answered(targets="", query_id="2")]
    assert channel_table(answers, {"own": 5}) == ()
    assert channel_table([answered("a")], {}) == ()
