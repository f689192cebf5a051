"""Hashes are part of what is stored: their values must never change."""

from hypothesis import given
from hypothesis import strategies as st

from core.ids import coin, digest, hash64, signed64

texts = st.text(st.characters(exclude_categories=["Cs"]))


def test_hashes_have_the_values_they_always_had() -> None:
    assert hash64("tea") == 10431608578837538234
    assert hash64("") == 13020603013274838756
    assert signed64("tea") == -8015135494872013382
    assert signed64("a") == 3405396810240292928
    assert coin("tea") == 0.5654986341847043
    assert digest("a", "bc") == "c4bd0fb5d3d2e043382b"
    assert digest() == "6fa1d8fcfd719046d762"


def test_moving_a_boundary_changes_a_digest() -> None:
    assert len({digest("a", "bc"), digest("ab", "c"), digest("abc"), digest("abc", ""), digest("", "abc")}) == 5


@given(texts)
def test_text_and_its_bytes_are_the_same(text: str) -> None:
    assert hash64(text) == hash64(text.encode())
    assert digest(text) == digest(text.encode())


@given(texts)
def test_a_signed_hash_is_the_hash_in_another_range(text: str) -> None:
    assert -(1 << 63) <= signed64(text) < 1 << 63
    assert signed64(text) % (1 << 64) == hash64(text)


@given(texts)
def test_a_coin_lies_in_the_unit_interval(text: str) -> None:
    assert 0 <= coin(text) < 1


def test_coins_are_fair() -> None:
    coins = [coin(f"event-{number}") for number in range(10_000)]
    assert abs(sum(coins) / len(coins) - 0.5) < 0.01
    assert all(900 < sum(low / 10 <= one < (low + 1) / 10 for one in coins) < 1_100 for low in range(10))
