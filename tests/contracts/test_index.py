"""What every index promises, whichever way it searches."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from core.errors import BadInput, Broken, Corrupt, Missing, SpaceMixed
from core.settings import IndexSettings
from index.ann import Flat, build, gpus, load
from index.audit import audit, last_places, recalls
from index.exact import Exact, Index
from index.gpu import GpuFlat
from index.vectors import Keys
from models.vectors import Vectors

DIM = 32
SPACE = "space of these tests"
KINDS = ("exact", "flat", "ivf")
Make = Callable[[Keys, Vectors], Index]


def unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def clustered(count: int, seed: int = 0, clusters: int = 40) -> Vectors:
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((clusters, DIM))
    return unit(centres[chance.integers(0, clusters, count)] + 0.6 * chance.standard_normal((count, DIM)))


def rows(count: int) -> Keys:
    return np.arange(count, dtype=np.int64)


def exactly(keys: Keys, vectors: Vectors) -> Exact:
    index = Exact(SPACE, DIM)
    index.add(keys, vectors)
    return index


@pytest.fixture(params=(*KINDS, pytest.param("gpu", marks=pytest.mark.gpu)))
def make(request: pytest.FixtureRequest) -> Make:
    settings = IndexSettings(kind=request.param, recall=0.97)
    if request.param == "gpu":
        if not gpus():
            pytest.skip("FAISS sees no GPU: it needs headwater[gpu] and a CUDA device")
        settings = IndexSettings(kind="flat", device="cuda")
    return lambda keys, vectors: build(settings, SPACE, keys, vectors)


VECTORS = clustered(3_000)
QUERIES = clustered(40, seed=0)[:40]


def test_every_vector_finds_itself_first(make: Make) -> None:
    index = make(rows(300), VECTORS[:300])
    keys, scores = index.search(VECTORS[:300], 5)
    assert keys[:, 0].tolist() == list(range(300))
    assert scores[:, 0] == pytest.approx(1, abs=1e-3)


def test_answers_hold_each_key_once_and_scores_fall(make: Make) -> None:
    keys, scores = make(rows(3_000), VECTORS).search(QUERIES, 100)
    assert keys.shape == scores.shape == (40, 100)
    assert keys.dtype == np.dtype(np.int64)
    assert scores.dtype == np.dtype(np.float32)
    assert all(len(set(row)) == 100 for row in keys.tolist())
    assert (np.diff(scores) <= 0).all()


def test_scores_are_the_inner_products_of_the_keys_they_stand_with(make: Make) -> None:
    keys, scores = make(rows(3_000), VECTORS).search(QUERIES, 20)
    assert scores == pytest.approx(np.einsum("qkd,qd->qk", VECTORS[keys], QUERIES), abs=1e-3)


def test_recall_against_exact_search_is_what_was_asked_for(make: Make) -> None:
    index = make(rows(3_000), VECTORS)
    queries = unit(VECTORS[::30] + 0.1 * np.random.default_rng(1).standard_normal((100, DIM)))
    seen = audit(index, exactly(rows(3_000), VECTORS), queries, 100)
    assert seen.mean >= 0.95
    assert seen.sound


def test_an_added_vector_is_found_at_once(make: Make) -> None:
    index = make(rows(500), VECTORS[:500])
    new = unit(np.ones((1, DIM)))
    index.add(np.array([9_000]), new)
    assert len(index) == 501
    assert index.search(new, 1)[0].tolist() == [[9_000]]


def test_adding_a_key_again_replaces_its_vector(make: Make) -> None:
    index = make(rows(500), VECTORS[:500])
    new = unit(np.ones((1, DIM)))
    index.add(np.array([7]), new)
    assert len(index) == 500
    assert index.keys().tolist() == list(range(500))
    assert index.search(new, 1)[0].tolist() == [[7]]
    old_keys, old_scores = index.search(VECTORS[7:8], 500)
    assert old_keys[0].tolist().count(7) == 1
    assert old_scores[0][old_keys[0] == 7] == pytest.approx(VECTORS[7] @ new[0], abs=1e-3)


def test_of_a_key_given_twice_the_last_vector_counts(make: Make) -> None:
    index = make(np.array([3, 5, 3]), VECTORS[:3])
    assert index.keys().tolist() == [3, 5]
    keys, scores = index.search(VECTORS[2:3], 1)
    assert keys.tolist() == [[3]]
    assert scores[0, 0] == pytest.approx(1, abs=1e-3)


def test_removed_keys_are_answered_no_more_and_unknown_ones_change_nothing(make: Make) -> None:
    index = make(rows(500), VECTORS[:500])
    index.remove(np.array([10, 11, 77_777]))
    assert len(index) == 498
    assert not {10, 11} & set(index.search(VECTORS[10:12], 498)[0].ravel().tolist())
    index.remove(np.empty(0, np.int64))
    assert len(index) == 498


def test_places_beyond_the_stored_vectors_stay_empty(make: Make) -> None:
    keys, scores = make(rows(300), VECTORS[:300]).search(QUERIES, 305)
    assert [sorted(row) for row in keys[:, :300].tolist()] == [list(range(300))] * 40
    assert (keys[:, 300:] == -1).all()
    assert np.isneginf(scores[:, 300:]).all()


def test_an_empty_index_answers_with_empty_places_and_takes_vectors(make: Make) -> None:
    index = make(np.empty(0, np.int64), np.empty((0, DIM), np.float32))
    assert (len(index), index.keys().size) == (0, 0)
    assert index.search(QUERIES, 3)[0].tolist() == [[-1] * 3] * 40
    assert index.search(QUERIES, 3, allowed=rows(2))[0].tolist() == [[-1] * 3] * 40
    index.add(rows(2), VECTORS[:2])
    assert index.search(VECTORS[1:2], 2)[0].tolist() == [[1, 0]]


def test_an_index_that_lost_everything_can_be_filled_again(make: Make) -> None:
    index = make(rows(200), VECTORS[:200])
    index.remove(rows(200))
    assert (len(index), index.keys().size) == (0, 0)
    assert (index.search(QUERIES, 2)[0] == -1).all()
    index.add(rows(200), VECTORS[:200])
    assert index.search(VECTORS[5:6], 1)[0].tolist() == [[5]]


def test_no_query_gets_no_answer(make: Make) -> None:
    keys, scores = make(rows(10), VECTORS[:10]).search(np.empty((0, DIM), np.float32), 4)
    assert keys.shape == scores.shape == (0, 4)


@pytest.mark.parametrize(("share", "k"), [(0.5, 5), (0.5, 100), (0.1, 30), (0.02, 5), (0.002, 5)])
def test_only_allowed_keys_are_answered_and_the_best_of_them(make: Make, share: float, k: int) -> None:
    allowed = np.sort(np.random.default_rng(2).choice(3_000, int(3_000 * share), replace=False))
    found, _ = make(rows(3_000), VECTORS).search(QUERIES, k, allowed=allowed)
    exact = exactly(allowed, VECTORS[allowed])
    assert np.isin(found, allowed).all()
    assert recalls(found, exact, QUERIES, last_places(exact, QUERIES, k)).mean() >= 0.97


def test_allowed_keys_that_are_not_stored_are_not_answered(make: Make) -> None:
    index = make(rows(100), VECTORS[:100])
    allowed = np.array([400, 3, 3, -1])
    assert index.search(QUERIES[:1], 3, allowed=allowed)[0].tolist() == [[3, -1, -1]]
    assert index.search(QUERIES[:1], 2, allowed=np.empty(0, np.int64))[0].tolist() == [[-1, -1]]


def test_equal_vectors_stand_in_the_order_of_their_keys(make: Make) -> None:
    vectors = VECTORS[:600].copy()
    same = np.arange(17, 600, 9)
    vectors[same] = VECTORS[17]
    order = np.random.default_rng(3).permutation(600)
    index = make(rows(600)[order], vectors[order])
    for k in (1, 7, len(same)):
        assert index.search(VECTORS[17:18], k)[0][0].tolist() == same[:k].tolist()
    index.remove(same[:1])
    index.add(same[:1], VECTORS[17:18])
    assert index.search(VECTORS[17:18], 3)[0][0].tolist() == same[:3].tolist()


def test_a_query_gets_the_same_answer_alone_and_among_others(make: Make) -> None:
    index = make(rows(3_000), VECTORS)
    together, scores = index.search(VECTORS[:100], 10)
    for n in (0, 50, 99):
        alone, alone_scores = index.search(VECTORS[n : n + 1], 10)
        assert alone[0].tolist() == together[n].tolist()
        assert alone_scores[0] == pytest.approx(scores[n], abs=1e-6)


def test_the_same_vectors_make_the_same_index(make: Make) -> None:
    first, second = (make(rows(2_000), VECTORS[:2_000]).search(QUERIES, 50) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_a_saved_index_answers_as_before_and_goes_on_changing(make: Make, tmp_path: Path) -> None:
    index = make(rows(1_000), VECTORS[:1_000])
    index.remove(np.array([4]))
    index.save(tmp_path / "index")
    again = load(tmp_path / "index")
    on_gpu = isinstance(index, GpuFlat)  # what is read back needs none
    assert type(again) is (Flat if on_gpu else type(index))
    assert (again.space_id, again.dim, len(again)) == (SPACE, DIM, 999)
    assert again.keys().tolist() == index.keys().tolist()
    (got, scores), (wanted, wanted_scores) = again.search(QUERIES, 30), index.search(QUERIES, 30)
    np.testing.assert_allclose(scores, wanted_scores, rtol=0, atol=2e-3 if on_gpu else 0)
    assert on_gpu or (got == wanted).all()
    again.add(np.array([4, 5]), VECTORS[[4, 4]])
    again.remove(np.array([4]))
    assert len(again) == 999
    assert again.search(VECTORS[4:5], 1)[0].tolist() == [[5]]


def test_a_folder_without_an_index_is_missing_and_a_damaged_header_corrupt(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no index in"):
        load(tmp_path)
    make(rows(10), VECTORS[:10]).save(tmp_path)
    (tmp_path / "index.json").write_text('{"kind": "tree"}')
    with pytest.raises(Corrupt, match=r"index\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("keys", "vectors", "told"),
    [
        (rows(2), unit(np.ones((2, DIM + 1))), r"shape \(n, 32\), got \(2, 33\)"),
        (rows(2), np.ones((2, DIM), np.float32), r"length 1, got 5\.65"),
        (rows(2), np.full((2, DIM), np.nan, np.float32), r"length 1, got nan in row 0 \(2 of 2\)"),
        (rows(2), np.zeros((2, DIM), np.float32), r"length 1, got 0\.0"),
        (rows(1), VECTORS[:2], r"2 vectors need as many keys, got shape \(1,\)"),
        (rows(2) - 1, VECTORS[:2], "from 0 to"),
    ],
)
def test_vectors_that_cannot_be_right_are_refused(make: Make, keys: Keys, vectors: Vectors, told: str) -> None:
    index = make(rows(50), VECTORS[:50])
    with pytest.raises(Broken, match=told):
        index.add(keys, vectors)
    assert index.keys().tolist() == list(range(50))


@pytest.mark.parametrize("query", [np.ones((1, DIM)), np.full((1, DIM), np.nan), unit(np.ones((1, 8))), VECTORS[0]])
def test_queries_that_cannot_be_right_are_refused(make: Make, query: Vectors) -> None:
    with pytest.raises(Broken, match="vectors must have"):
        make(rows(50), VECTORS[:50]).search(query, 3)


def test_fewer_than_one_place_cannot_be_asked_for(make: Make) -> None:
    with pytest.raises(BadInput, match="at least 1, got 0"):
        make(rows(50), VECTORS[:50]).search(QUERIES, 0)


def test_vectors_of_another_space_are_refused(make: Make) -> None:
    index = make(rows(50), VECTORS[:50])
    index.check_space(SPACE)
    with pytest.raises(SpaceMixed, match="another"):
        index.check_space("another")


def test_what_the_caller_does_to_its_arrays_later_does_not_reach_the_index(make: Make) -> None:
    keys, vectors = rows(100), VECTORS[:100].copy()
    index = make(keys, vectors)
    index.keys()[:] = 0
    vectors[:] = VECTORS[200]
    keys[:] = 0
    assert index.search(VECTORS[8:9], 1)[0].tolist() == [[8]]


def test_threads_that_search_at_a_time_get_their_own_answers(make: Make) -> None:
    index = make(rows(1_000), VECTORS[:1_000])
    wrong: list[int] = []

    def ask(first: int) -> None:
        for n in range(first, first + 50):
            if index.search(VECTORS[n : n + 1], 3)[0][0, 0] != n:
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n * 50,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@hypothesis_settings(max_examples=25)
@given(
    acts=st.lists(
        st.tuples(st.booleans(), arrays(np.int64, st.integers(1, 6), elements=st.integers(0, 40))), max_size=12
    )
)
@pytest.mark.parametrize("kind", KINDS)
def test_after_any_additions_and_removals_it_holds_what_a_dict_would(
    kind: str, acts: list[tuple[bool, NDArray[np.int64]]]
) -> None:
    index = build(IndexSettings(kind=kind), SPACE, rows(20), VECTORS[:20])
    held = dict(enumerate(range(20)))
    for n, (adds, keys) in enumerate(acts):
        if adds:
            of = np.arange(len(keys)) + 100 * (n + 1)
            index.add(keys, VECTORS[of])
            held.update(zip(keys.tolist(), of.tolist(), strict=True))
        else:
            index.remove(keys)
            held = {key: row for key, row in held.items() if key not in keys}
    assert index.keys().tolist() == sorted(held)
    kept = np.array(sorted(held), np.int64)
    exact = exactly(kept, VECTORS[[held[key] for key in kept.tolist()]])
    if held:
        assert audit(index, exact, QUERIES[:5], 10).sound
        found, scores = index.search(exact.vectors(kept), 1)
        assert scores == pytest.approx(1, abs=1e-3)
        assert found[:, 0].tolist() == kept.tolist()
