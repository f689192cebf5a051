"""The index on a GPU: its book-keeping against a stand-in for FAISS, and, where there is a GPU, the real one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.settings import IndexSettings
from index import ann, gpu
from index.ann import Flat, Ivf, build, gpus, load
from index.audit import audit
from index.exact import Exact
from index.gpu import GpuFlat
from index.vectors import Keys
from models.vectors import Vectors

DIM = 16


def unit(count: int, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, DIM))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


class Engine:
    """What a `GpuIndexFlatIP` does: vectors in order of arrival, no removal, at most 2,048 places."""

    def __init__(self, resources: Any, dim: int, config: Any) -> None:
        assert config.useFloat16
        self.dim, self.resets = dim, 0
        self.reset()
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1
        self.held = np.empty((0, self.dim), np.float16)

    def add(self, vectors: Vectors) -> None:
        assert vectors.dtype == np.float32
        self.held = np.concatenate([self.held, vectors.astype(np.float16)])

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Keys]:
        assert 1 <= k <= gpu.MOST_PLACES
        scores = queries @ self.held.astype(np.float32).T
        order = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), order


class Stand:
    """A module that says it has a GPU."""

    StandardGpuResources = object
    GpuIndexFlatConfig = SimpleNamespace
    GpuIndexFlatIP = Engine
    get_num_gpus = staticmethod(lambda: 1)


def written(folder: Path, keys: Keys, vectors: Vectors) -> None:
    np.savez(folder / "told.npz", keys=keys, vectors=vectors)


def fake() -> GpuFlat:
    return GpuFlat("space", DIM, Stand, written)


def exactly(keys: Keys, vectors: Vectors) -> Exact:
    exact = Exact("space", DIM)
    exact.add(keys, vectors)
    return exact


ACTS = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), min_size=1, max_size=8)), max_size=12)


@given(acts=ACTS, allowed=st.none() | st.lists(st.integers(0, 40), max_size=10), dead=st.sampled_from([0, 3, 512]))
@hypothesis_settings(max_examples=60, deadline=None)
def test_after_any_additions_and_removals_it_finds_what_exact_search_finds(
    acts: list[tuple[bool, list[int]]], allowed: list[int] | None, dead: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "MOST_DEAD", dead)
        index, exact = fake(), exactly(np.empty(0, np.int64), np.empty((0, DIM), np.float32))
        for number, (adds, keys) in enumerate(acts):
            for one in (index, exact):
                if adds:
                    one.add(np.array(keys), unit(len(keys), number))
                else:
                    one.remove(np.array(keys))
        assert index.keys().tolist() == exact.keys().tolist()
        assert len(index) == len(exact)
        only = None if allowed is None else np.array(allowed, np.int64)
        queries = unit(5, 99)
        found, scores = index.search(queries, 4, allowed=only)
        wanted, best = exact.search(queries, 4, allowed=only)
        np.testing.assert_allclose(scores, best, atol=2e-3)
        assert np.mean(found == wanted) > 0.7, "but for scores that float16 cannot tell apart"


def test_many_removed_places_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MOST_DEAD", 10)
    index = fake()
    index.add(np.arange(100), unit(100))
    index.remove(np.arange(10))
    assert index._engine.resets == 0
    index.remove(np.array([10, 10, 500]))
    assert index._engine.resets == 1
    assert len(index._engine.held) == len(index) == 89
    assert index.search(unit(100)[50:51], 1)[0].tolist() == [[50]]


def test_more_places_than_a_gpu_gives_are_found_beside_it() -> None:
    index, vectors = fake(), unit(2_500)
    index.add(np.arange(2_500), vectors)
    keys, _ = index.search(vectors[:2], 2_200)
    assert keys[:, 0].tolist() == [0, 1]
    assert all(len(np.unique(row)) == 2_200 for row in keys)


def test_it_is_written_as_an_index_that_needs_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "faiss", _with_a_gpu())
    index = build(IndexSettings(device="cuda"), "space", np.arange(50), unit(50))
    assert isinstance(index, GpuFlat)
    index.remove(np.array([3]))
    index.save(tmp_path)
    back = load(tmp_path)
    assert isinstance(back, Flat)
    assert back.keys().tolist() == index.keys().tolist()
    assert audit(back, exactly(np.delete(np.arange(50), 3), np.delete(unit(50), 3, axis=0)), unit(9, 5), 5).mean == 1.0


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (IndexSettings(), Flat),
        (IndexSettings(device="cuda"), GpuFlat),
        (IndexSettings(device="cuda", flat_until=10), GpuFlat),
        (IndexSettings(device="cuda", kind="ivf"), Ivf),
        (IndexSettings(device="cuda", kind="exact"), Exact),
    ],
)
def test_only_who_asks_for_a_gpu_gets_it(
    settings: IndexSettings, wanted: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann, "faiss", _with_a_gpu())
    assert type(build(settings, "space", np.arange(50), unit(50))) is wanted


def test_without_a_gpu_the_same_settings_search_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "gpus", lambda: 0)
    assert type(build(IndexSettings(device="cuda"), "space", np.arange(50), unit(50))) is Flat


def _with_a_gpu() -> Any:
    import faiss

    class Both(Stand):
        def __getattr__(self, name: str) -> Any:
            return getattr(faiss, name)

    return Both()


@pytest.mark.gpu
def test_a_real_gpu_finds_what_exact_search_finds() -> None:
    if not gpus():
        pytest.skip("FAISS sees no GPU: it needs headwater[gpu] and a CUDA device")
    vectors = unit(20_000)
    index = build(IndexSettings(device="cuda"), "space", np.arange(20_000), vectors)
    assert isinstance(index, GpuFlat)
    index.remove(np.arange(0, 20_000, 7))
    index.add(np.arange(0, 70, 7), vectors[:70:7])
    kept = index.keys()
    assert audit(index, exactly(kept, vectors[kept]), unit(50, 5), 100).mean > 0.99
