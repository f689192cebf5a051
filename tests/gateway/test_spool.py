from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unavailable
from gateway import spool as module
from gateway.spool import Spool, Unsent, frame, frames

Open = Callable[..., Spool]

MOST = 1_000_000
RECORDS = st.builds(
    Unsent, st.sampled_from(["clickstream", "items"]), st.integers(0, 9), st.none() | st.binary(), st.binary()
)


def record(number: int, size: int = 10) -> Unsent:
    return Unsent("clickstream", number % 4, b"k", b"%d" % number + b"x" * size)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens spools that are closed after the test."""
    made: list[Spool] = []

    def open_(folder: Path, most_bytes: int = MOST) -> Spool:
        made.append(Spool(folder, most_bytes))
        return made[-1]

    yield open_
    for one in made:
        one.close()


def drained(spool: Spool) -> list[Unsent]:
    found: list[Unsent] = []
    while not spool.empty:
        found += spool.oldest()
        spool.drop_oldest()
    return found


def left_by_a_killed_process(folder: Path, batches: Sequence[Sequence[Unsent]]) -> Path:
    """The folder as it is after SIGKILL, and its newest segment."""
    spool = Spool(folder, MOST)
    for batch in batches:
        spool.append(batch)
    spool._claim.release()  # as the kernel does
    return max(folder.glob("*.spool"))


def test_what_was_appended_comes_back_in_order_and_once(opened: Open, tmp_path: Path) -> None:
    spool = opened(tmp_path / "new" / "folder")
    spool.append([record(1), record(2)])
    spool.append([record(3)])
    assert (spool.records, spool.empty) == (3, False)
    assert spool.oldest() == [record(1), record(2), record(3)]
    spool.append([record(4)])
    assert spool.oldest() == [record(1), record(2), record(3)]
    assert drained(spool) == [record(1), record(2), record(3), record(4)]
    assert (spool.records, spool.bytes, spool.empty) == (0, 0, True)


def test_segments_are_sent_and_deleted_one_by_one(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    spool = opened(tmp_path, MOST)
    for number in range(12):
        spool.append([record(number, size=30)])
    before = len(list(tmp_path.glob("*.spool")))
    assert before >= 5
    assert spool.oldest()[0] == record(0, size=30)
    spool.drop_oldest()
    assert len(list(tmp_path.glob("*.spool"))) == before - 1
    assert spool.oldest()[0] != record(0, size=30)


@given(st.lists(st.lists(RECORDS, min_size=1, max_size=3), min_size=1, max_size=4), st.integers(0, 10_000))
def test_a_cut_anywhere_in_the_last_record_loses_that_record_alone(batches: list[list[Unsent]], drawn: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = left_by_a_killed_process(Path(name), batches)
        whole = [one for batch in batches for one in batch]
        size, last = path.stat().st_size, len(frame(whole[-1]))
        cut = size - last + drawn % last
        os.truncate(path, cut)
        spool = Spool(Path(name), MOST)
        spool.append([record(1)])
        assert drained(spool) == [*whole[:-1], record(1)]
        spool.close()


@given(st.lists(RECORDS, max_size=4), RECORDS, st.binary(max_size=40), st.integers(0, 10_000))
def test_rubbish_instead_of_the_last_record_hides_none_before_it(
    before: list[Unsent], last: Unsent, rubbish: bytes, drawn: int
) -> None:
    whole, torn = b"".join(map(frame, before)), frame(last)
    begun = torn[: drawn % len(torn)]
    found = list(frames(whole + begun + rubbish))
    if begun + rubbish != torn:
        assert found[: len(before)] == before
        assert len(found) == len(before) or begun + rubbish != b""


def test_a_tail_of_zeros_holds_no_record() -> None:
    assert list(frames(frame(record(1)) + bytes(4_096))) == [record(1)]


def test_above_the_limit_nothing_more_is_taken_until_something_is_sent(opened: Open, tmp_path: Path) -> None:
    spool = opened(tmp_path, 200)
    spool.append([record(1, size=100)])
    with pytest.raises(Unavailable, match=r"holds 1\d\d of 200 bytes"):
        spool.append([record(2, size=100)])
    assert drained(spool) == [record(1, size=100)]
    spool.append([record(2, size=100)])
    assert drained(spool) == [record(2, size=100)]


def test_a_full_disk_is_told_and_leaves_what_was_there(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    spool.append([record(1)])

    def half_full(file: int, data: memoryview) -> int:
        if len(data) > 8:
            return os_write(file, data[:8])
        raise OSError(errno.ENOSPC, "No space left on device")

    os_write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half_full)
        with pytest.raises(Unavailable, match="No space left"):
            spool.append([record(2)])
    spool.append([record(3)])
    assert drained(spool) == [record(1), record(3)]


def test_a_second_process_does_not_get_the_folder(opened: Open, tmp_path: Path) -> None:
    spool = opened(tmp_path, MOST)
    with pytest.raises(Unavailable, match=r"kafka\.spool of its own"):
        Spool(tmp_path, MOST)
    spool.close()
    Spool(tmp_path, MOST).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        Spool(tmp_path / "file", MOST)
