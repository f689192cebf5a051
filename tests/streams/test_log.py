import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadSettings, Broken, Unavailable
from core.settings import LogSettings
from streams.log import EmbeddedLog, Entry, New
from streams.partition import partition_of

DAY_MS = 86_400_000


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    @property
    def ms(self) -> int:
        return int(self.now_s * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def where(tmp_path: Path) -> LogSettings:
    return LogSettings(path=tmp_path / "data" / "log.sqlite", busy_s=0.2)


@pytest.fixture
def log(where: LogSettings, clock: Clock) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.open(where, clock=clock)
    yield opened
    opened.close()


def view(number: int, key: bytes = b"ann", *, topic: str = "clickstream", event_id: str = "") -> New:
    return New(topic, key, f"view {number}".encode(), 1_000 + number, event_id)


def everything(log: EmbeddedLog, *topics: str) -> list[Entry]:
    return log.read_all(topics, {}, 10_000)


def test_what_was_appended_is_read_back(log: EmbeddedLog) -> None:
    partition = partition_of(b"ann", 4)
    assert log.append([view(0), view(1)]) == [(partition, 0), (partition, 1)]
    assert log.read("clickstream", partition, -1, 10) == [
        Entry("clickstream", partition, 0, b"ann", b"view 0", 1_000),
        Entry("clickstream", partition, 1, b"ann", b"view 1", 1_001),
    ]
    assert log.ends() == {("clickstream", partition): 1}


def test_reading_goes_on_behind_an_offset_and_stops_at_the_limit(log: EmbeddedLog) -> None:
    log.append([view(n) for n in range(10)])
    partition = partition_of(b"ann", 4)
    assert [entry.offset for entry in log.read("clickstream", partition, 3, 4)] == [4, 5, 6, 7]
    assert log.read("clickstream", partition, 9, 4) == []
    assert log.read("nothing", 0, -1, 4) == []


def test_an_empty_append_writes_nothing(log: EmbeddedLog) -> None:
    assert log.append([]) == []
    assert log.ends() == {}


def test_a_removal_and_an_empty_value_are_told_apart(log: EmbeddedLog) -> None:
    log.append([New("items", b"tea", None, 1), New("items", b"tea", b"", 2)])
    assert [entry.value for entry in everything(log, "items")] == [None, b""]


def test_records_of_several_topics_come_in_order_of_arrival(log: EmbeddedLog) -> None:
    log.append([view(n, b"shopper %d" % (n % 7), topic=("clickstream", "feedback", "items")[n % 3]) for n in range(60)])
    assert [entry.ts for entry in everything(log, "clickstream", "feedback", "items")] == list(range(1_000, 1_060))
    assert [entry.ts for entry in everything(log, "feedback")] == list(range(1_001, 1_060, 3))


def test_order_of_arrival_holds_where_one_partition_is_far_behind(log: EmbeddedLog) -> None:
    log.append([view(n, b"shopper %d" % (n % 7)) for n in range(60)])
    whole = everything(log, "clickstream")
    behind = {("clickstream", p): last for (_, p), last in log.ends().items()} | {
        ("clickstream", whole[0].partition): -1
    }
    expected = [entry for entry in whole if entry.partition == whole[0].partition]
    assert log.read_all(["clickstream"], behind, 10_000) == expected
    assert log.read_all(["clickstream"], behind, 3) == expected[:3]


def test_order_of_arrival_holds_while_others_append(log: EmbeddedLog) -> None:
    records = [view(n, b"shopper %d" % (n % 7)) for n in range(1_500)]

    def write() -> None:
        for start in range(0, len(records), 3):
            log.append(records[start : start + 3])

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        found: list[Entry] = []
        after: dict[tuple[str, int], int] = {}
        ended = False
        while not ended:
            ended = writing.done()  # before the last look
            while entries := log.read_all(["clickstream"], after, 5):
                found += entries
                after |= {(entry.topic, entry.partition): entry.offset for entry in entries}
    assert [entry.ts for entry in found] == [record.ts for record in records]


def test_a_repeated_event_id_is_taken_once_per_topic(log: EmbeddedLog) -> None:
    first = log.append([view(0, event_id="a"), view(1, event_id="a"), view(2, event_id="b")])
    assert [place is None for place in first] == [False, True, False]
    again = log.append([view(3, b"bob", event_id="b"), view(4, topic="feedback", event_id="a"), view(5), view(5)])
    assert [place is None for place in again] == [True, False, False, False]
    assert [entry.ts for entry in everything(log, "clickstream", "feedback")] == [1_000, 1_002, 1_004, 1_005, 1_005]


def test_an_event_id_is_taken_again_after_the_dedupe_time(log: EmbeddedLog, where: LogSettings, clock: Clock) -> None:
    log.append([view(0, event_id="a")])
    clock.now_s += where.dedupe_s
    assert log.append([view(1, event_id="a")]) == [None]
    clock.now_s += 1
    assert log.append([view(2, event_id="a")]) != [None]
    clock.now_s += 2
    assert log.append([view(3, event_id="a")]) == [None], "the newer arrival counts"


def test_trim_forgets_old_event_ids_and_keeps_the_others(log: EmbeddedLog, where: LogSettings, clock: Clock) -> None:
    log.append([view(n, event_id=f"old {n}") for n in range(20)])
    clock.now_s += where.dedupe_s + 1
    log.append([view(99, event_id="young")])
    log.trim(clock.ms)
    with sqlite3.connect(where.path) as db:
        assert db.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    db.close()
    assert log.append([view(100, event_id="young")]) == [None]


def test_commit_stores_positions_tables_and_outputs(log: EmbeddedLog) -> None:
    log.append([view(0), view(1)])
    partition = partition_of(b"ann", 4)
    log.commit(
        "runner",
        positions={("clickstream", partition): 1},
        tables={"profiles": {b"b": b"2", b"a": b"1", b"c": None}, "stats": {b"a": b"x"}},
        outputs=[New("item-signals", b"tea", b"seen", 7, "1/0"), New("item-signals", b"tea", b"seen", 7, "1/0")],
    )
    assert log.positions("runner") == {("clickstream", partition): 1}
    assert log.positions("another") == {}
    assert list(log.table("profiles")) == [(b"a", b"1"), (b"b", b"2")]
    assert log.get("profiles", b"a") == b"1"
    assert log.get("stats", b"b") is None
    assert (log.count("profiles"), log.count("stats"), log.count("nothing")) == (2, 1, 0)
    assert [entry.value for entry in everything(log, "item-signals")] == [b"seen"]


def test_commit_changes_only_what_it_names(log: EmbeddedLog) -> None:
    log.commit("runner", positions={("a", 0): 5, ("a", 1): 6}, tables={"t": {b"x": b"1", b"y": b"2", b"z": b"3"}})
    log.commit("runner", positions={("a", 1): 7}, tables={"t": {b"x": None, b"y": b"9"}})
    assert log.positions("runner") == {("a", 0): 5, ("a", 1): 7}
    assert list(log.table("t")) == [(b"y", b"9"), (b"z", b"3")]


def test_a_commit_that_fails_changes_nothing(log: EmbeddedLog) -> None:
    log.commit("runner", positions={("a", 0): 5}, tables={"t": {b"x": b"1"}})
    with pytest.raises(OverflowError):
        log.commit(
            "runner", positions={("a", 0): 6}, tables={"t": {b"x": b"2"}}, outputs=[New("b", b"k", b"v", 1 << 70)]
        )
    assert log.positions("runner") == {("a", 0): 5}
    assert log.get("t", b"x") == b"1"
    assert log.append([view(0)]) == [(partition_of(b"ann", 4), 0)], "the writer is free again"


def test_all_is_there_after_a_reopening(where: LogSettings) -> None:
    first = EmbeddedLog.open(where)
    first.append([view(0, event_id="a")])
    first.commit("runner", positions={("clickstream", 0): 0}, tables={"t": {b"x": b"1"}})
    kept = (everything(first, "clickstream"), first.ends(), first.positions("runner"), list(first.table("t")))
    first.close()
    second = EmbeddedLog.open(where)
    assert (
        everything(second, "clickstream"),
        second.ends(),
        second.positions("runner"),
        list(second.table("t")),
    ) == kept
    assert second.append([view(1, event_id="a"), view(2)])[0] is None
    assert [entry.offset for entry in everything(second, "clickstream")] == [0, 1]
    second.close()


def test_a_table_is_read_as_it_was_when_the_reading_began(log: EmbeddedLog) -> None:
    log.commit("runner", positions={}, tables={"t": {b"%03d" % n: b"old" for n in range(500)}})
    rows = log.table("t")
    next(rows)
    log.commit("runner", positions={}, tables={"t": {b"%03d" % n: b"new" for n in range(500)}})
    assert log.get("t", b"499") == b"new"
    assert {value for _, value in rows} == {b"old"}


def test_an_abandoned_iteration_does_not_hold_back_later_readers(log: EmbeddedLog) -> None:
    log.commit("runner", positions={}, tables={"t": {b"%03d" % n: b"old" for n in range(500)}})
    rows = log.table("t")
    next(rows)
    del rows
    log.commit("runner", positions={}, tables={"t": {b"499": b"new"}})
    assert log.get("t", b"499") == b"new"


def test_readers_do_not_wait_for_a_writer(log: EmbeddedLog, where: LogSettings) -> None:
    log.append([view(0)])
    other = sqlite3.connect(where.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM records")
    assert len(everything(log, "clickstream")) == 1
    other.close()


def test_a_file_locked_for_long_is_unavailable_and_nothing_is_written(log: EmbeddedLog, where: LogSettings) -> None:
    other = sqlite3.connect(where.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        log.append([view(0, event_id="a")])
    other.close()
    assert log.append([view(0, event_id="a")]) == [(partition_of(b"ann", 4), 0)]
    assert len(everything(log, "clickstream")) == 1


def test_every_caller_of_a_shared_write_that_fails_hears_of_it(log: EmbeddedLog, where: LogSettings) -> None:
    other = sqlite3.connect(where.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(log.append, [view(n, event_id=str(n))]) for n in range(6)]
        reasons = [future.exception() for future in waiting]
    other.close()
    assert [type(reason) for reason in reasons] == [Unavailable] * 6
    assert all(str(reason) for reason in reasons)
    assert everything(log, "clickstream") == []


def test_a_full_disk_is_unavailable_and_the_log_goes_on_when_there_is_room(log: EmbeddedLog) -> None:
    log.append([view(0)])
    with log._writer.lock, log._writer.transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="full"):
        log.append([New("clickstream", b"ann", b"x" * 100_000, 1, "big")])
    with log._writer.lock, log._writer.transaction() as db:
        db.execute("PRAGMA max_page_count = 100000")
    assert log.append([New("clickstream", b"ann", b"x" * 100_000, 1, "big")]) == [(partition_of(b"ann", 4), 1)]


def test_a_write_waits_for_the_disk(log: EmbeddedLog) -> None:
    with log._writer.lock, log._writer.transaction() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL: fsync at every commit"
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_write_ahead_file_is_cut_back(
    log: EmbeddedLog, where: LogSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.database.WAL_BYTES", 1 << 20)
    monkeypatch.setattr(log._writer, "_wal_limit", 1 << 20)
    wal = Path(f"{where.path}-wal")
    log.commit("runner", positions={}, tables={"t": {b"a": b"", b"b": b""}})
    reading = log.table("t")
    next(reading)
    log.append([New("clickstream", b"ann", b"x" * (2 << 20), 1)])
    assert wal.stat().st_size > 1 << 20, "somebody still reads"
    del reading
    log.append([New("clickstream", b"ann", b"x" * (2 << 20), 1)])
    assert wal.stat().st_size == 0


def test_many_threads_get_offsets_without_gaps_or_repeats(log: EmbeddedLog) -> None:
    def write(thread: int) -> list[tuple[bytes, tuple[int, int] | None]]:
        done = []
        for number in range(25):
            key = b"%d/%d" % (thread, number)
            places = log.append([New("clickstream", key, key, 0, key.decode()), New("clickstream", key, b"2nd", 0)])
            done += [(key, place) for place in places]
        return done

    with ThreadPoolExecutor(8) as pool:
        placed = [place for run in pool.map(write, range(8)) for place in run]
    entries = everything(log, "clickstream")
    assert Counter((entry.key, (entry.partition, entry.offset)) for entry in entries) == Counter(placed)
    for partition in range(4):
        offsets = [entry.offset for entry in entries if entry.partition == partition]
        assert offsets == list(range(len(offsets)))


def test_one_of_several_threads_that_append_the_same_event_wins(log: EmbeddedLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(lambda n: log.append([view(n, event_id="same")])[0], range(16)))
    assert sum(place is not None for place in placed) == 1


def test_wait_returns_at_once_for_what_was_appended_before_it(log: EmbeddedLog) -> None:
    log.append([view(0)])
    started = time.monotonic()
    log.wait(5)
    assert time.monotonic() - started < 1
    log.wait(0.05)
    assert time.monotonic() - started >= 0.05, "nothing new since"


@pytest.mark.parametrize("how", ["append", "commit", "close"])
def test_wait_is_woken(log: EmbeddedLog, how: str) -> None:
    acts = {
        "append": lambda: log.append([view(0)]),
        "commit": lambda: log.commit("runner", positions={}, tables={}, outputs=[view(0)]),
        "close": log.close,
    }
    timer = threading.Timer(0.05, acts[how])
    started = time.monotonic()
    timer.start()
    log.wait(5)
    assert 0.02 < time.monotonic() - started < 2
    timer.join()


def test_trim_removes_what_is_old_and_never_gives_an_offset_again(
    log: EmbeddedLog, where: LogSettings, clock: Clock
) -> None:
    log.append([view(n) for n in range(5)])
    clock.now_s += 100
    log.append([view(5)])
    assert log.trim(clock.ms) == 0
    assert log.trim(clock.ms + round(where.retention_s * 1000)) == 5
    assert [entry.ts for entry in everything(log, "clickstream")] == [1_005]
    assert log.trim(clock.ms + 2 * round(where.retention_s * 1000)) == 1
    assert log.append([view(6)]) == [(partition_of(b"ann", 4), 6)]


def test_trim_keeps_what_one_of_the_groups_has_yet_to_consume(
    log: EmbeddedLog, where: LogSettings, clock: Clock
) -> None:
    log.append([view(n) for n in range(6)] + [view(6, b"eve"), view(7, topic="dead-letter")])
    ann, eve = partition_of(b"ann", 4), partition_of(b"eve", 4)
    assert ann != eve
    log.commit("fast", positions={("clickstream", ann): 5, ("clickstream", eve): 0}, tables={})
    log.commit("slow", positions={("clickstream", ann): 2}, tables={})
    log.commit("other", positions={("feedback", ann): -1}, tables={})
    assert log.trim(clock.ms + round(where.retention_s * 1000) + 1) == 3 + 1, (
        "and the dead letter, which nobody consumes"
    )
    assert [entry.ts for entry in everything(log, "clickstream", "dead-letter")] == [1_003, 1_004, 1_005, 1_006]


def test_a_group_that_starts_at_the_beginning_keeps_everything(
    log: EmbeddedLog, where: LogSettings, clock: Clock
) -> None:
    log.append([view(0)])
    log.commit("runner", positions={("clickstream", 0): -1}, tables={})
    assert log.trim(clock.ms + round(where.retention_s * 1000) + 1) == 0


def test_trim_keeps_the_newest_value_of_each_key_of_a_compacted_topic(
    log: EmbeddedLog, where: LogSettings, clock: Clock
) -> None:
    names = [b"tea", b"cup", b"tea", b"pot", b"tea", b"cup"]
    log.append([New("items", name, b"%d" % n, n) for n, name in enumerate(names)])
    assert log.trim(clock.ms) == 3
    late = clock.ms + 10 * round(where.retention_s * 1000)
    assert log.trim(late) == 0
    assert {(entry.key, entry.value) for entry in everything(log, "items")} == {
        (b"tea", b"4"),
        (b"cup", b"5"),
        (b"pot", b"3"),
    }


def test_trim_drops_a_removal_after_its_time_and_its_values_before_it(
    log: EmbeddedLog, where: LogSettings, clock: Clock
) -> None:
    log.append([New("items", b"tea", b"1", 0), New("items", b"tea", None, 1)])
    assert log.trim(clock.ms) == 1
    assert [entry.value for entry in everything(log, "items")] == [None]
    assert log.trim(clock.ms + round(where.retention_s * 1000) + 1) == 1
    assert everything(log, "items") == []


def test_trim_of_a_compacted_topic_waits_for_the_consumers(log: EmbeddedLog, clock: Clock) -> None:
    partition = partition_of(b"tea", 4)
    log.append([New("items", b"tea", b"%d" % n, n) for n in range(4)])
    log.commit("runner", positions={("items", partition): 1}, tables={})
    assert log.trim(clock.ms) == 2
    assert [entry.offset for entry in everything(log, "items")] == [2, 3]


def test_trim_works_through_more_than_one_round(
    log: EmbeddedLog, where: LogSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.log.TRIM_ROWS", 7)
    log.append([view(n, event_id=str(n)) for n in range(30)])
    clock.now_s += where.retention_s + 1
    log.append([view(30, event_id="30")])
    assert log.trim(clock.ms) == 30
    with sqlite3.connect(where.path) as db:
        assert db.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    db.close()


def test_another_number_of_partitions_is_refused(log: EmbeddedLog, where: LogSettings) -> None:
    with pytest.raises(BadSettings, match=r"4 partitions, log\.partitions is 8"):
        EmbeddedLog.open(LogSettings(path=where.path, partitions=8))


def test_another_schema_version_is_refused(log: EmbeddedLog, where: LogSettings) -> None:
    log.close()
    with sqlite3.connect(where.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(BadSettings, match="schema 99, this headwater reads 1"):
        EmbeddedLog.open(where)


def test_a_file_that_is_no_log_is_refused_and_left_as_it_is(where: LogSettings) -> None:
    where.path.parent.mkdir()
    where.path.write_text("notes " * 1_000)
    with pytest.raises(BadSettings, match="not a headwater log"):
        EmbeddedLog.open(where)
    assert where.path.read_text() == "notes " * 1_000


def test_a_database_of_another_program_is_refused(where: LogSettings) -> None:
    where.path.parent.mkdir()
    with sqlite3.connect(where.path) as db:
        db.execute("CREATE TABLE addresses (name TEXT)")
    db.close()
    with pytest.raises(BadSettings, match="another program"):
        EmbeddedLog.open(where)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettings, match="cannot be opened"):
        EmbeddedLog.open(LogSettings(path=tmp_path / "file" / "log.sqlite"))


def test_a_damaged_file_is_broken(where: LogSettings) -> None:
    log = EmbeddedLog.open(where)
    log.append([view(n) for n in range(2_000)])
    log.close()
    data = bytearray(where.path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    where.path.write_bytes(data)
    with pytest.raises(Broken, match="damaged"):
        EmbeddedLog.open(where)


def test_a_closed_log_is_unavailable(log: EmbeddedLog) -> None:
    log.append([view(0)])
    log.close()
    for act in (lambda: log.append([view(1)]), log.ends, lambda: log.get("t", b"x"), lambda: log.trim(0)):
        with pytest.raises(Unavailable, match="closed"):
            act()
    log.close()


KEYS = st.sampled_from([b"ann", b"bob", b"cy", b""])
RECORDS = st.builds(
    New,
    topic=st.sampled_from(["clickstream", "feedback"]),
    key=KEYS,
    value=st.none() | st.binary(max_size=8),
    ts=st.integers(0, 1 << 53),
    event_id=st.sampled_from(["", "1", "2", "3", "4"]),
)


@settings(max_examples=30, deadline=None)
@given(calls=st.lists(st.lists(RECORDS, max_size=6), max_size=8), limit=st.integers(1, 7), reopen=st.booleans())
def test_the_log_agrees_with_a_list(calls: list[list[New]], limit: int, *, reopen: bool) -> None:
    model: list[Entry] = []
    seen: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as folder:
        where = LogSettings(path=Path(folder) / "log.sqlite", partitions=2)
        log = EmbeddedLog.open(where)
        for call in calls:
            assert log.append(call) == [_place(record, model, seen) for record in call]
            if reopen:
                log.close()
                log = EmbeddedLog.open(where)
        for topic in ("clickstream", "feedback"):
            for partition in range(2):
                expected = [entry for entry in model if entry[:2] == (topic, partition)]
                assert log.read(topic, partition, -1, 1_000) == expected
                assert log.ends().get((topic, partition), -1) == len(expected) - 1
        assert _follow(log, limit) == model
        log.close()


def _place(record: New, model: list[Entry], seen: set[tuple[str, str]]) -> tuple[int, int] | None:
    if record.event_id:
        if (record.topic, record.event_id) in seen:
            return None
        seen.add((record.topic, record.event_id))
    partition = partition_of(record.key, 2)
    offset = sum(entry[:2] == (record.topic, partition) for entry in model)
    model.append(Entry(record.topic, partition, offset, record.key, record.value, record.ts))
    return partition, offset


def _follow(log: EmbeddedLog, limit: int) -> list[Entry]:
    """Everything, as a runner reads it: a few at a time."""
    found: list[Entry] = []
    after: dict[tuple[str, int], int] = {}
    while entries := log.read_all(("clickstream", "feedback"), after, limit):
        assert len(entries) <= limit
        found += entries
        after |= {(entry.topic, entry.partition): entry.offset for entry in entries}
    return found
