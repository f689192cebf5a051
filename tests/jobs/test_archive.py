from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.decision import Label
from core.errors import BadSettings, Broken, Unavailable
from core.ids import DAY_MS
from core.settings import ArchiveSettings
from jobs.archive import Archive
from jobs.archived_rows import entry, rows, slices, to_parquet
from jobs.pieces import Piece, lost, mergeable, parse, standing
from jobs.storage import Folder, ObjectStore, Storage, open_storage
from streams.log import Entry
from streams.messages import messages, of_change, of_event, of_output
from tests.factories import T, event, item
from tests.jobs.archived import END, archive_all, begun

DAY0 = T // DAY_MS * DAY_MS


def view(offset: int, *, partition: int = 0, came: int = DAY0 + 1, item_id: str = "tea") -> Entry:
    one = event("view_item", item_id, ts=T)
    return Entry("clickstream", partition, offset, b"ida", of_event(one).value, came)


def packed(offset: int, *raw: object) -> Entry:
    return Entry("clickstream", 0, offset, b"", json.dumps(raw).encode(), DAY0 + 1)


@pytest.fixture(params=["folder", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield Folder(tmp_path / "archive" / "deep")
        return
    store = open_storage(f"memory://{tmp_path.name}/archive")
    yield store
    store.delete(store.names())


def offsets(storage: Storage, topic: str = "clickstream") -> list[tuple[int, int, int]]:
    """Partition, offset and index of every row of a topic, whatever file it is in."""
    found = []
    for name in storage.names():
        if name.startswith(topic):
            frame = pl.read_parquet(io.BytesIO(storage.read(name)))
            found += frame.select("partition", "offset", "index").rows()
    return sorted(found)


# ---------------------------------------------------------------------- rows
def test_a_packed_record_is_a_row_for_each_event_with_its_own_bytes() -> None:
    good = {"name": "view_item", "event_id": "a", "ts": DAY0, "user_id": "ida", "items": [{"item_id": "tea"}]}
    made = rows(packed(7, good, {"name": "dance"}, good | {"event_id": "b"}))
    assert [(row["offset"], row["index"], row.get("event_id")) for row in made] == [
        (7, 0, "a"),
        (7, 1, None),
        (7, 2, "b"),
    ]
    assert json.loads(made[0]["value"]) == good
    assert json.loads(made[1]["value"]) == {"name": "dance"}
    assert "unknown event name 'dance'" in made[1]["reason"]
    assert made[0]["reason"] is None


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        ("clickstream", b"\xff{", "not JSON"),
        ("clickstream", b"[]", "an array without events"),
        ("clickstream", None, "no value"),
        ("decisions", b"\xc1", "cannot be read"),
        ("labelled", b"{}", "cannot be read"),
        ("items", b'{"title": 7}', "an item needs an item_id"),
    ],
)
def test_a_record_that_says_nothing_is_kept_as_it_came_with_the_reason(
    topic: str, value: bytes | None, reason: str
) -> None:
    (row,) = rows(Entry(topic, 0, 3, b"k", value, T))
    assert row["value"] == value
    assert row["reason"].startswith(reason)
    (read,) = next(slices(to_parquet(topic, [row]))).iter_rows(named=True)
    assert {name: read[name] for name in row} == row
    assert read["ts"] is None


def test_a_removal_of_an_item_is_a_row_without_a_value() -> None:
    (row,) = rows(Entry("items", 1, 0, b"tea", None, T))
    assert (row["item_id"], row["removed"], row["value"], row["reason"]) == ("tea", True, None, None)


def test_an_event_from_the_future_has_a_reason_and_is_readable_all_the_same() -> None:
    (row,) = rows(view(0, came=T - 11 * 60_000))
    assert row["reason"] == "ts lies 11 minutes after its arrival; 10 are accepted"
    assert row["item_ids"] == ["tea"]
    (row,) = rows(view(0, came=T - 10 * 60_000))
    assert row["reason"] is None


def test_what_parquet_cannot_hold_costs_its_own_row_alone() -> None:
    labels = [Label(1, "r", "tea", "buy", ts, 5, True) for ts in (T, 1 << 63, T + 1)]
    entries = [
        Entry("labelled", 0, n, b"ida", of_output("labelled", "ida", one).value, T) for n, one in enumerate(labels)
    ]
    found = next(slices(to_parquet("labelled", [row for one in entries for row in rows(one, f"o{one.offset}")])))
    assert found["ts"].to_list() == [T, None, T + 1]
    assert found["origin"].to_list() == ["o0", None, "o2"]
    assert found["value"].to_list() == [one.value for one in entries]
    assert "no row can be made" in found["reason"][1]


def test_an_analyst_reads_what_happened_without_knowing_our_json() -> None:
    sale = event("purchase", {"item_id": "tea", "quantity": 2, "price": 3.5}, {"item_id": "pot"}, ts=T, value=9.0)
    (row,) = rows(Entry("clickstream", 0, 0, b"ida", of_event(sale).value, T))
    assert (row["name"], row["shopper"], row["amount"]) == ("purchase", "ida", 9.0)
    assert (row["item_ids"], row["quantities"], row["prices"]) == (["tea", "pot"], [2.0, 1.0], [3.5, None])
    (row,) = rows(Entry("items", 0, 0, b"tea", of_change(item("tea", price=3, category="Drinks")).value, T))
    assert (row["title"], row["price"], row["categories"]) == ("The tea", 3.0, ("Drinks",))
    assert "brand" not in row


@given(
    st.binary(max_size=60) | st.none(), st.sampled_from(("clickstream", "feedback", "items", "decisions", "labelled"))
)
def test_every_record_whatever_it_holds_makes_a_file(value: bytes | None, topic: str) -> None:
    found = pl.concat(slices(to_parquet(topic, rows(Entry(topic, 0, 1, b"\xff", value, T)))))
    assert len(found) >= 1
    assert set(found["offset"]) == {1}


def test_a_row_is_a_record_again() -> None:
    one = view(4)
    (row,) = next(slices(to_parquet("clickstream", rows(one)))).iter_rows(named=True)
    assert entry("clickstream", row) == one._replace(ts=T)
    assert messages(entry("clickstream", row)) == messages(one)


# ---------------------------------------------------------------------- names
@given(st.integers(0, 999), st.integers(0, 1 << 45), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_name_tells_all_of_a_piece(partition: int, first: int, more: int, count: int) -> None:
    piece = Piece("items", "2026-11-22", partition, first, first + more, count)
    assert parse(piece.name) == piece


@pytest.mark.parametrize("name", ["items/0-1-2-3.parquet", "notes.parquet", "items/day=2026-11-22/part-0.parquet"])
def test_files_of_others_are_not_ours(name: str) -> None:
    assert parse(name) is None


def piece(first: int, last: int, *, day: str = "2026-11-22", count: int = 0) -> Piece:
    return Piece("items", day, 0, first, last, count or last - first + 1)


def test_a_piece_within_another_is_left_over_from_a_merge() -> None:
    small, whole, later = [piece(0, 4), piece(5, 9)], piece(0, 9), piece(10, 12)
    stand, replaced = standing([one.name for one in (*small, whole, later)])
    assert stand == {("items", 0): [whole, later]}
    assert replaced == small


def test_what_no_piece_holds_is_lost() -> None:
    assert lost([piece(0, 4), piece(5, 9)]) == 0
    assert lost([piece(3, 4), piece(8, 9), piece(11, 11)]) == 4


def test_small_neighbours_of_a_finished_day_are_merged_but_not_across_a_gap_or_midnight() -> None:
    pieces = [piece(0, 4), piece(5, 9), piece(10, 14), piece(20, 21), piece(22, 29, day="2026-11-23")]
    assert list(mergeable({("items", 0): pieces}, "2026-11-23", 10)) == [pieces[:2]]
    assert list(mergeable({("items", 0): pieces}, "2026-11-23", 100)) == [pieces[:3]]
    assert list(mergeable({("items", 0): pieces}, "2026-11-22", 100)) == []


# ---------------------------------------------------------------------- files
def test_files_hold_contiguous_offsets_of_one_day_and_no_more_rows_than_allowed(storage: Storage) -> None:
    entries = [view(n, came=DAY0 + (DAY_MS if n >= 7 else 1)) for n in range(10)]
    archive_all(storage, entries, rows=3)
    day, next_day = "2023-11-14", "2023-11-15"
    assert [parse(name) for name in storage.names()] == [
        Piece("clickstream", day, 0, 0, 2, 3),
        Piece("clickstream", day, 0, 3, 5, 3),
        Piece("clickstream", day, 0, 6, 6, 1),
        Piece("clickstream", next_day, 0, 7, 9, 3),
    ]


def test_a_packed_record_is_not_divided_between_files(storage: Storage) -> None:
    archive_all(storage, [view(0), packed(1, *[{"n": n} for n in range(5)]), view(2)], rows=3)
    assert [one.rows for one in map(parse, storage.names()) if one] == [1, 5, 1]


def test_a_day_does_not_go_back_where_a_clock_did(storage: Storage) -> None:
    archive_all(storage, [view(0, came=DAY0 + DAY_MS), view(1, came=DAY0)])
    archive_all(storage, [view(2, came=DAY0)])
    assert {name.split("/")[1] for name in storage.names()} == {"day=2023-11-15"}


def test_a_file_is_written_when_its_first_record_has_waited_long_enough(storage: Storage) -> None:
    archive = begun(storage, every_s=60.0)
    archive.take(view(0), None, 100.0)
    archive.take(view(1), None, 159.0)
    archive.due(159.9)
    archive.write()
    assert storage.names() == []
    archive.due(160.0)
    archive.write()
    assert offsets(storage) == [(0, 0, 0), (0, 1, 0)]


def test_the_next_archiver_goes_on_after_the_last_file_and_passes_over_what_is_there(storage: Storage) -> None:
    archive_all(storage, [view(n) for n in range(5)], rows=2)
    again = Archive(storage, ArchiveSettings())
    assert again.begin(("clickstream", 0), 0, 9) == 5
    assert again.begin(("clickstream", 1), 0, 9) == 0
    archive_all(storage, [view(n) for n in range(9)], rows=2)
    assert offsets(storage) == [(0, n, 0) for n in range(9)]


def test_what_was_deleted_before_it_was_archived_is_told_for_good(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    archive_all(storage, [view(n) for n in range(5)])
    archive = begun(storage)
    assert archive.begin(("clickstream", 0), 12, 20) == 12
    assert caplog.records[-1].levelno == logging.ERROR
    assert "clickstream/0: 7 records were deleted before they were archived" in caplog.text
    archive.take(view(12), None, 0.0)
    archive.close()
    archive.write()
    assert archive.figures()["records_lost"] == 7
    assert begun(storage).lost == 7


def test_an_archive_that_begins_in_the_middle_of_a_topic_has_lost_nothing(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    archive = begun(storage)
    assert archive.begin(("feedback", 0), 12, 20) == 12
    assert (caplog.records[-1].levelno, archive.lost) == (logging.WARNING, 0)


def test_a_topic_that_was_made_anew_is_not_mixed_with_the_old_one(storage: Storage) -> None:
    archive_all(storage, [view(n) for n in range(5)])
    with pytest.raises(Broken, match=r"clickstream/0 ends before offset 4, and the archive .* has it up to 4"):
        begun(storage).begin(("clickstream", 0), 0, 4)


def test_what_waits_is_bounded_by_bytes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.archive.WAITING_BYTES", 10_000)
    archive = begun(storage)
    for one in [view(0), *[view(n, partition=1) for n in range(5)]]:
        archive.take(one, None, 0.0)
    archive.due(0.0)
    archive.write()
    assert {found[0] for found in offsets(storage)} == {1}


class Failing(Folder):
    """A folder that fails at every write until it is mended, some time before and some time after the file is there."""

    broken = True
    late = False

    def write(self, name: str, data: bytes) -> None:
        if not self.broken or self.late:
            super().write(name, data)
        if self.broken:
            raise Unavailable("no space")


@pytest.mark.parametrize("late", [False, True])
def test_a_write_that_failed_is_done_again_as_the_same_file(tmp_path: Path, late: bool) -> None:
    storage = Failing(tmp_path)
    storage.late = late
    archive = begun(storage, rows=2)
    archive.take(view(0), None, 0.0)
    archive.take(view(1), None, 0.0)
    for n in (2, 3, 4):
        archive.take(view(n), None, 0.0)
        with pytest.raises(Unavailable, match="no space"):
            archive.write()
    storage.broken = False
    archive.close()
    archive.write()
    assert offsets(storage) == [(0, n, 0) for n in range(5)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(0, 2**32))
def test_killed_at_any_moment_and_started_again_every_offset_is_there_once(sizes: Sequence[int], seed: int) -> None:
    """A kill is an archive that is thrown away with what waits in it."""
    storage = open_storage(f"memory://killed-{seed}")
    assert isinstance(storage, ObjectStore)
    entries, chance = [packed(n, *range(size)) for n, size in enumerate(sizes)], random.Random(seed)
    while True:
        archive = begun(storage, rows=5)
        start = archive.begin(("clickstream", 0), 0, len(entries))
        if start == len(entries):
            break
        for one in entries[start:]:
            archive.take(one, None, 0.0)
            if chance.random() < 0.5:
                archive.write()
            if chance.random() < 0.1:
                break
        else:
            archive.close()
            archive.write()
    assert offsets(storage) == [(0, n, index) for n, size in enumerate(sizes) for index in range(size)]
    storage.delete(storage.names())


def test_merged_files_hold_what_the_small_ones_held(storage: Storage) -> None:
    archive_all(storage, [view(n, came=DAY0 + n * DAY_MS // 4) for n in range(8)], rows=1)
    before = offsets(storage)
    archive = begun(storage)
    merged = 0
    while archive.merge("2023-11-15"):
        merged += 1
    assert merged == 1
    assert offsets(storage) == before
    assert [one.rows for one in map(parse, storage.names()) if one] == [4, 1, 1, 1, 1]
    assert begun(storage).lost == 0


def test_a_merge_that_was_cut_short_is_tidied_up_by_the_next_archiver(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_all(storage, [view(n) for n in range(4)], rows=1)
    before = offsets(storage)
    archive = begun(storage)
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "delete", lambda self, names: (_ for _ in ()).throw(Unavailable("cut")))
        with pytest.raises(Unavailable):
            archive.merge("2024-01-01")
    assert len(offsets(storage)) == 2 * len(before)
    assert begun(storage).begin(("clickstream", 0), 0, END) == 4
    assert offsets(storage) == before


# ---------------------------------------------------------------------- storage
def test_one_writer_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with (
        Folder(tmp_path / "a").alone(),
        pytest.raises(Unavailable, match="another process archives into"),
        Folder(tmp_path / "a").alone(),
    ):
        pass
    with Folder(tmp_path / "a").alone():
        pass


def test_leftovers_of_killed_writers_are_no_files_and_go(tmp_path: Path) -> None:
    storage = Folder(tmp_path)
    storage.write("items/day=2026-11-22/0-0-0-1.parquet", b"whole")
    left = tmp_path / "items" / "day=2026-11-22" / ".writing-0-1-1-1.parquet"
    left.write_bytes(b"ha")
    assert storage.names() == ["items/day=2026-11-22/0-0-0-1.parquet"]
    with storage.alone():
        assert not left.exists()


def test_a_storage_has_what_was_written_under_its_name(storage: Storage) -> None:
    assert storage.names() == []
    for text in (b"one", b"two"):
        storage.write("a/b.parquet", text)
    assert storage.names() == ["a/b.parquet"]
    assert storage.read("a/b.parquet") == b"two"
    storage.delete(["a/b.parquet", "a/c.parquet"])
    assert storage.names() == []
    with pytest.raises(Unavailable, match="cannot be read"):
        storage.read("a/b.parquet")


def test_a_store_that_nobody_knows_is_a_bad_setting() -> None:
    with pytest.raises(BadSettings, match=r"archive\.path 'nowhere://bucket' cannot be opened"):
        open_storage("nowhere://bucket")
