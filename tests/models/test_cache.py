import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadSettings, Broken, Corrupt, Unavailable
from core.ids import hash64
from models import cache as cache_module
from models.cache import VectorCache, encode_cached, text_key
from models.vectors import Progress, Vectors

Open = Callable[[Path | None], VectorCache]


class Counting:
    """An encoder of hashes that remembers what it was asked."""

    def __init__(self, space_id: str = "space", dim: int = 6) -> None:
        self.space_id = space_id
        self.dim = dim
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self.asked += texts
        rows = [np.random.default_rng(hash64(self.space_id + text)).standard_normal(self.dim) for text in texts]
        vectors = np.array(rows).reshape(len(texts), self.dim)
        if progress is not None:
            progress(len(texts), len(texts))
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens caches and closes them after the test."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(VectorCache(path)))


def test_every_distinct_text_is_computed_once(opened: Open) -> None:
    encoder, cache = Counting(), opened(None)
    first = encode_cached(encoder, cache, ["a", "b", "a", ""])
    assert encoder.asked == ["a", "b", ""]
    again = encode_cached(encoder, cache, ["", "a", "c"])
    assert encoder.asked == ["a", "b", "", "c"]
    np.testing.assert_array_equal(first[2], first[0])
    np.testing.assert_array_equal(again[:2], first[[3, 0]])


def test_vectors_are_the_encoders_up_to_float16_and_of_unit_length(opened: Open) -> None:
    encoder = Counting(dim=100)
    texts = [str(n) for n in range(50)]
    got = encode_cached(encoder, opened(None), texts)
    assert got.dtype == np.dtype(np.float32)
    assert got == pytest.approx(encoder.encode(texts), abs=1e-3)
    assert np.linalg.norm(got, axis=1) == pytest.approx(1, abs=1e-6)


def test_the_file_serves_the_next_process(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "vectors.sqlite"
    first = encode_cached(Counting(), opened(path), ["a", "b"])
    later = Counting()
    np.testing.assert_array_equal(encode_cached(later, opened(path), ["b", "a"]), first[::-1])
    assert later.asked == []


def test_spaces_do_not_meet_in_one_file(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    one, other = Counting("one"), Counting("other", dim=4)
    encode_cached(one, opened(path), ["a"])
    assert encode_cached(other, opened(path), ["a"]).shape == (1, 4)
    assert other.asked == ["a"]


def test_no_text_gives_no_vector(opened: Open) -> None:
    assert encode_cached(Counting(), opened(None), []).shape == (0, 6)


def test_a_vector_that_is_there_stays(opened: Open) -> None:
    cache = opened(None)
    cache.put("space", {"a": np.ones(6, np.float16)})
    cache.put("space", {"a": np.zeros(6, np.float16)})
    np.testing.assert_array_equal(cache.get("space", ["a"], 6)["a"], np.ones(6))


def test_progress_counts_found_texts_at_once_and_ends_at_all(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_STORED_AT_ONCE", 2)
    cache = opened(None)
    encode_cached(Counting(), cache, ["a"])
    told: list[tuple[int, int]] = []
    encode_cached(Counting(), cache, ["a", "b", "c", "d", "b"], lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (3, 4), (4, 4)]


def test_an_interrupted_run_goes_on_where_it_stopped(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_STORED_AT_ONCE", 2)

    class Dying(Counting):
        def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
            if "c" in texts:
                raise KeyboardInterrupt
            return super().encode(texts, progress)

    cache, after = opened(None), Counting()
    with pytest.raises(KeyboardInterrupt):
        encode_cached(Dying(), cache, ["a", "b", "c", "d"])
    encode_cached(after, cache, ["a", "b", "c", "d"])
    assert after.asked == ["c", "d"]


def test_more_texts_than_one_query_may_name_are_found(opened: Open, tmp_path: Path) -> None:
    encoder, cache = Counting(), opened(tmp_path / "vectors.sqlite")
    texts = [f"text {n}" for n in range(1_300)]
    first = encode_cached(encoder, cache, texts)
    np.testing.assert_array_equal(encode_cached(encoder, cache, texts[::-1]), first[::-1])
    assert len(encoder.asked) == 1_300


def write(path: Path, barrier: Barrier, name: int) -> None:
    for n in range(30):
        barrier.wait(60)
        with closing(VectorCache(path / f"{n}.sqlite")) as cache:
            cache.put("space", {f"{name}": np.ones(6, np.float16), "same": np.ones(6, np.float16)})


def test_processes_that_open_and_write_at_a_time_lose_nothing(opened: Open, tmp_path: Path) -> None:
    context = get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=write, args=(tmp_path, barrier, name)) for name in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for n in range(30):
        assert set(opened(tmp_path / f"{n}.sqlite").get("space", ["0", "1", "2", "same"], 6)) == {"0", "1", "2", "same"}


def test_a_place_that_cannot_be_written_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match=r"encoder\.cache: .* cannot be opened"):
        VectorCache(tmp_path / "file" / "vectors.sqlite")
    with pytest.raises(BadSettings, match=r"encoder\.cache: .* cannot be opened"):
        VectorCache(tmp_path)


def test_a_file_that_is_held_for_long_is_unavailable(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_WAIT_S", 0.1)
    path = tmp_path / "vectors.sqlite"
    cache = opened(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            cache.put("space", {"a": np.ones(6, np.float16)})


def test_a_file_that_is_no_database_is_corrupt_and_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(Corrupt, match="delete the file, it is a cache"):
        VectorCache(path)


def test_vectors_cut_short_are_corrupt(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    cache = opened(path)
    encode_cached(Counting(), cache, ["a"])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE vectors SET vector = ?", (b"\0\0",))
    db.close()
    with pytest.raises(Corrupt, match="another length than 6"):
        encode_cached(Counting(), cache, ["a"])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_what_is_no_unit_vector_is_not_kept(opened: Open, value: float) -> None:
    class Wrong(Counting):
        def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
            return np.full((len(texts), self.dim), value, np.float32)

    cache = opened(None)
    with pytest.raises(Broken, match="unit length"):
        encode_cached(Wrong(), cache, ["a"])
    assert cache.get("space", [text_key("a")], 6) == {}
