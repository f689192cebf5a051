from __future__ import annotations

import numpy as np
import pytest

from core.ids import DAY_MS
from core.profile import Memory, Profile
from ranker import sequels
from ranker.sequels import fit, visits


def history(*days: tuple[str, ...]) -> Profile:
    """One visit a day."""
    memory = {
        item: Memory(buys=1, first=(day + 1) * DAY_MS, last=(day + 1) * DAY_MS)
        for day, items in enumerate(days)
        for item in items
    }
    return Profile(last=len(days) * DAY_MS, memory=memory)


def ties(found: tuple[tuple[str, ...], np.ndarray, np.ndarray], item: str) -> dict[str, float]:
    items, places, weights = found
    row = items.index(item)
    return {items[p]: float(w) for p, w in zip(places[row].tolist(), weights[row].tolist(), strict=True) if p >= 0}


def test_what_comes_after_counts_more_than_what_came_before() -> None:
    found = ties(fit([history(("a",), ("b",), ("c",)) for _ in range(5)], 10), "b")
    assert found["c"] > found["a"] > 0


def test_the_next_visit_counts_more_than_a_later_one() -> None:
    found = ties(
        fit([history(("a",), ("b",), ("c",)), history(("a",), ("c",), ("b",)), history(("a",), ("b",))], 10), "a"
    )
    assert found["b"] > found["c"]


def test_what_goes_with_everything_counts_less() -> None:
    everywhere = [history((f"x{n}",), ("z",)) for n in range(20)]
    found = ties(fit([*everywhere, history(("a",), ("b",)), history(("a",), ("z",))], 10), "a")
    assert found["b"] > found["z"]


def test_only_the_strongest_are_kept_and_in_their_order() -> None:
    profiles = [history(("a",), (f"b{n}",)) for n in range(6) for _ in range(n + 1)]
    items, places, weights = fit(profiles, 3)
    row = items.index("a")
    assert places.shape == weights.shape == (7, 3)
    assert [items[p] for p in places[row]] == ["b5", "b4", "b3"]
    assert (np.diff(weights[row]) <= 0).all()


def test_summing_in_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = [history(*[(f"i{(n * k) % 11}",) for k in range(1, 6)]) for n in range(1, 30)]
    whole = fit(profiles, 5)
    monkeypatch.setattr(sequels, "_BATCH", 7)
    parts = fit(profiles, 5)
    np.testing.assert_array_equal(whole[1], parts[1])
    np.testing.assert_allclose(whole[2], parts[2], rtol=1e-6)


def test_what_was_only_shown_is_no_part_of_a_history() -> None:
    shown = Profile(
        memory={"a": Memory(shown=3), "b": Memory(buys=1, first=1, last=1), "c": Memory(buys=1, first=2, last=2)}
    )
    assert set(fit([shown], 5)[0]) == {"b", "c"}


def test_uses_close_together_are_one_visit() -> None:
    assert visits(np.array([0.0, 60_000.0, DAY_MS, DAY_MS + 1.0, 3.0 * DAY_MS])).tolist() == [0, 0, 1, 1, 2]
