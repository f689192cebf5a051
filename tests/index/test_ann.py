from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import Broken, Corrupt
from core.settings import IndexSettings
from index.ann import Flat, Ivf, build, load
from index.audit import audit
from index.exact import Exact, Index
from models.vectors import Vectors

DIM = 16


def unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def spread(count: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)))


def built(count: int, settings: IndexSettings, queries: Vectors | None = None) -> Index:
    return build(settings, "space", np.arange(count), spread(count), queries)


@pytest.mark.parametrize(
    ("count", "settings", "wanted"),
    [
        (100, IndexSettings(kind="auto", flat_until=100), Flat),
        (101, IndexSettings(kind="auto", flat_until=100), Ivf),
        (0, IndexSettings(kind="auto"), Flat),
        (0, IndexSettings(kind="ivf"), Flat),
        (3, IndexSettings(kind="ivf"), Ivf),
        (3, IndexSettings(kind="exact"), Exact),
        (300, IndexSettings(kind="flat", flat_until=100), Flat),
    ],
)
def test_the_settings_and_the_number_of_vectors_choose_the_kind(
    count: int, settings: IndexSettings, wanted: type
) -> None:
    index = built(count, settings)
    assert type(index) is wanted
    assert len(index) == count


def test_an_index_of_lists_asks_to_be_built_again_at_four_times_its_training() -> None:
    ivf = Ivf.train("space", spread(100))
    ivf.add(np.arange(399), spread(399))
    assert not ivf.needs_rebuild
    ivf.add(np.array([399]), spread(1, seed=1))
    assert ivf.needs_rebuild


def test_how_much_it_was_trained_on_is_remembered_over_saving(tmp_path: Path) -> None:
    ivf = Ivf.train("space", spread(100))
    ivf.add(np.arange(400), spread(400))
    ivf.probes = 7
    ivf.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, Ivf)
    assert (again.trained_on, again.needs_rebuild, again.probes) == (100, True, 7)


def test_more_recall_is_bought_with_more_lists() -> None:
    low, high = (built(2_000, IndexSettings(kind="ivf", recall=recall)) for recall in (0.5, 0.99))
    assert isinstance(low, Ivf)
    assert isinstance(high, Ivf)
    assert low.probes < high.probes < high.lists
    exact = built(2_000, IndexSettings(kind="exact"))
    assert isinstance(exact, Exact)
    queries = spread(50, seed=5)
    assert audit(high, exact, queries, 100).mean >= 0.98
    assert audit(high, exact, queries, 100).mean > audit(low, exact, queries, 100).mean + 0.1


def test_recall_that_no_number_of_lists_gives_means_looking_into_all() -> None:
    ivf = built(500, IndexSettings(kind="ivf", recall=1.1))
    assert isinstance(ivf, Ivf)
    assert ivf.probes == ivf.lists


def test_queries_that_are_given_set_the_number_of_lists() -> None:
    shelves = np.eye(DIM, dtype=np.float32)
    vectors = unit(shelves[np.arange(1_600) % DIM] + 0.1 * spread(1_600))
    within, between = unit(shelves + 0.01), unit(np.ones((1, DIM)) + 0.01 * spread(20))
    easy, hard = (
        build(IndexSettings(kind="ivf", recall=0.95), "space", np.arange(1_600), vectors, queries)
        for queries in (within, between)
    )
    assert isinstance(easy, Ivf)
    assert isinstance(hard, Ivf)
    assert easy.probes * 4 < hard.probes


def test_a_short_list_does_not_shorten_the_answer() -> None:
    ivf = Ivf.train("space", spread(400))
    ivf.add(np.arange(400), spread(400))
    assert ivf.probes == 1
    assert (ivf.search(spread(5, seed=2), 300)[0] >= 0).all()


def test_lists_cannot_be_laid_out_without_vectors() -> None:
    with pytest.raises(Broken, match="got none"):
        Ivf.train("space", spread(0))


def test_asking_one_query_never_takes_the_matrix_product() -> None:
    Flat("space", DIM)
    assert faiss.cvar.distance_compute_blas_threshold == 8 * DIM


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_damaged_or_exchanged_file_is_corrupt(tmp_path: Path, kind: str) -> None:
    built(200, IndexSettings(kind=kind)).save(tmp_path)
    built(150, IndexSettings(kind=kind)).save(tmp_path / "other")
    whole = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "index.faiss").write_bytes((tmp_path / "other" / "index.faiss").read_bytes())
    with pytest.raises(Corrupt, match=r"shape \(200, 16\), got \(150, 16\)"):
        load(tmp_path)
    (tmp_path / "index.faiss").unlink()
    with pytest.raises(Corrupt, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_scores_are_the_same_numbers_alone_and_in_a_batch(kind: str) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((500, 384)))
    index = build(IndexSettings(kind=kind, recall=1.1), "space", np.arange(500), vectors)
    keys, scores = index.search(vectors[:64], 20)
    for n in range(64):
        alone, alone_scores = index.search(vectors[n : n + 1], 20)
        np.testing.assert_array_equal(alone[0], keys[n])
        np.testing.assert_array_equal(alone_scores[0], scores[n])


def test_a_catalogue_of_equal_texts_is_answered_in_the_order_of_its_keys() -> None:
    for kind in ("flat", "ivf"):
        same = np.repeat(spread(1), 900, axis=0)
        index = build(IndexSettings(kind=kind), "space", np.arange(900), same)
        assert index.search(same[:1], 20)[0][0].tolist() == list(range(20))
