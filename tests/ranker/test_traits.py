from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Item
from core.ids import hash64
from ranker.traits import LONGEST, NUMBERS, Traits, _step


def filled(*items: dict[str, Any]) -> Traits:
    traits = Traits()
    traits.grow(len(items) + 1)
    for row, fields in enumerate(items):
        traits.put(row, Item(item_id=str(row), since=0, ts=0, **fields))
    return traits


def rows(*given: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(given, np.int64)


def test_a_number_stands_in_the_column_of_its_name() -> None:
    traits = filled({"attributes": {"weight": 2.5, "fragile": True, "material": "tin"}}, {})
    column = hash64("weight") % NUMBERS
    assert traits.numbers[0, column] == 2.5
    assert np.isnan(np.delete(traits.numbers[0], column)).all(), "flags and words are no numbers"
    assert np.isnan(traits.numbers[1]).all()


def test_what_an_item_was_before_is_forgotten() -> None:
    traits = filled({"attributes": {"weight": 2.5}, "categories": ("Tea",)}, {"categories": ("Tea",)})
    traits.put(0, Item(item_id="0", since=0, ts=1, categories=("Hats",)))
    fresh = filled({"categories": ("Hats",)}, {"categories": ("Tea",)})
    assert np.isnan(traits.numbers[0]).all()
    for mine, theirs in zip(traits.likeness(2, rows(0, 1)), fresh.likeness(2, rows(0, 1)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_items_are_alike_by_categories_words_and_numbers() -> None:
    traits = filled(
        {"categories": ("Kitchen > Tea",), "brand": "Ilse", "attributes": {"weight": 1.0, "colours": ["red"]}},
        {"categories": ("Kitchen > Tea",), "brand": "Ilse", "attributes": {"weight": 1.0, "colours": ["red"]}},
        {"categories": ("Kitchen > Cups",), "brand": "Ilse", "attributes": {"weight": 1.1, "colours": ["blue"]}},
        {"categories": ("Garden",), "brand": "Other", "attributes": {"weight": 900.0, "colours": ["green"]}},
        {},
    )
    for table in traits.likeness(1, rows(0, 1, 2, 3, 4)):
        _, same, near, far, nothing = table[0].tolist()
        assert same == pytest.approx(1.0, abs=1e-5)
        assert same > near > far
        assert far == pytest.approx(0.0, abs=0.2)
        assert nothing == 0.0


def test_the_order_of_arrival_does_not_matter() -> None:
    items = [{"attributes": {"weight": float(n), "kind": f"k{n % 3}"}, "categories": (f"c{n % 2}",)} for n in range(9)]
    one, other = filled(*items), Traits()
    other.grow(len(items))
    for row in reversed(range(len(items))):
        other.put(row, Item(item_id=str(row), since=0, ts=0, **items[row]))  # type: ignore[arg-type]
    every = np.arange(len(items))
    for mine, theirs in zip(one.likeness(9, every), other.likeness(9, every), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_prose_is_no_word() -> None:
    traits = filled({"attributes": {"story": "x" * (LONGEST + 1)}}, {"attributes": {"story": "x" * (LONGEST + 1)}})
    assert not traits.likeness(1, rows(0, 1))[1].any()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_steps_have_the_order_of_the_numbers(values: list[float]) -> None:
    ordered = np.array(sorted(values), np.float32)
    steps = _step(ordered)
    assert (np.diff(steps) >= 0).all()
    assert steps.min() >= 0
    assert steps.max() < 1 << 14
