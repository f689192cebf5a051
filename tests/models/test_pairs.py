from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.pairs import Pairs

ITEMS = 8
LINKS = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, ITEMS - 1)), max_size=40)


def made(links: list[tuple[int, int]], against: list[tuple[int, int]]) -> Pairs:
    one, other = np.array(links, np.int64).reshape(-1, 2).T
    liked, refused = np.array(against, np.int64).reshape(-1, 2).T
    return Pairs.of(ITEMS, one, other, np.ones(len(one), np.float32), (liked, refused))


@given(LINKS, LINKS, st.lists(st.integers(0, ITEMS - 1), max_size=10))
def test_rows_hold_what_goes_with_them_in_both_directions(links: Any, against: Any, rows: list[int]) -> None:
    pairs = made(links, against)
    expected: Counter[tuple[int, int]] = Counter()
    for a, b in links:
        if a != b:
            expected.update([(a, b), (b, a)])
    assert len(pairs) == len(expected)
    place, target, weight = pairs.of_rows(np.array(rows, np.int64))
    found = [(rows[p], t, w) for p, t, w in zip(place.tolist(), target.tolist(), weight.tolist(), strict=True)]
    assert found == [(row, t, expected[row, t]) for row in rows for t in range(ITEMS) if (row, t) in expected]
    place, item = pairs.unwanted(np.array(rows, np.int64))
    unwanted = set(against) - expected.keys()
    assert [(rows[p], i) for p, i in zip(place.tolist(), item.tolist(), strict=True)] == [
        (row, i) for row in rows for i in range(ITEMS) if (row, i) in unwanted
    ]
    assert pairs.strength().tolist() == [sum(w for (a, _), w in expected.items() if a == row) for row in range(ITEMS)]
