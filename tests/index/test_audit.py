import numpy as np
import pytest

from core.errors import BadInput, SpaceMixed
from index.audit import audit, last_places, recalls
from index.exact import Exact
from index.vectors import Keys
from models.vectors import Vectors


def spread(count: int) -> Vectors:
    drawn = np.random.default_rng(0).standard_normal((count, 8))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def exact(keys: Keys, vectors: Vectors, space_id: str = "space") -> Exact:
    index = Exact(space_id, 8)
    index.add(keys, vectors)
    return index


def shares(found: list[list[int]], index: Exact, queries: Vectors) -> list[float]:
    keys = np.array(found, np.int64)
    return [float(share) for share in recalls(keys, index, queries, last_places(index, queries, keys.shape[1]))]


def test_an_index_agrees_with_itself() -> None:
    index = exact(np.arange(50), spread(50))
    seen = audit(index, index, spread(7), 10)
    assert (seen.k, seen.queries, seen.mean, seen.worst, seen.sound) == (10, 7, 1.0, 1.0, True)


def test_missing_and_unexpected_keys_are_named_and_cost_recall() -> None:
    vectors = spread(50)
    whole = exact(np.arange(50), vectors)
    other = exact(np.append(np.arange(2, 50), 70), np.append(vectors[2:], vectors[:1], axis=0))
    seen = audit(other, whole, vectors[:10], 1)
    assert (seen.missing, seen.unexpected, seen.duplicates, seen.sound) == ((0, 1), (70,), (), False)
    assert (seen.mean, seen.worst) == (0.8, 0.0)


def test_a_key_answered_twice_counts_once_and_is_reported() -> None:
    vectors = spread(20)
    index = exact(np.arange(20), vectors)
    best = index.search(vectors[:1], 2)[0][0].tolist()
    assert shares([best], index, vectors[:1]) == [1.0]
    assert shares([[best[0], best[0]]], index, vectors[:1]) == [0.5]

    class Twice(Exact):
        def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
            keys, scores = super().search(queries, k, allowed=allowed)
            return np.repeat(keys[:, :1], k, axis=1), scores

    twice = Twice("space", 8)
    twice.add(np.arange(20), vectors)
    assert audit(twice, index, vectors[4:5], 3).duplicates == (4,)


def test_any_of_equal_vectors_will_do() -> None:
    vectors = np.repeat(spread(1), 5, axis=0)
    index = exact(np.arange(5), vectors)
    assert shares([[4, 3]], index, vectors[:1]) == [1.0]


def test_empty_places_are_misses_only_where_there_was_something_to_find() -> None:
    index = exact(np.arange(2), spread(2))
    assert shares([[0, 1, -1, -1]], index, spread(1)) == [1.0]
    assert shares([[0, -1, -1, -1]], index, spread(1)) == [0.5]
    nothing = Exact("space", 8)
    assert audit(nothing, nothing, spread(1), 3).mean == 1.0


def test_spaces_are_not_compared_with_each_other() -> None:
    with pytest.raises(SpaceMixed, match="another"):
        audit(exact(np.arange(2), spread(2)), exact(np.arange(2), spread(2), "another"), spread(1), 1)


def test_an_audit_without_queries_is_refused() -> None:
    index = exact(np.arange(2), spread(2))
    with pytest.raises(BadInput, match="at least one query"):
        audit(index, index, spread(0), 1)
