from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from core.bundle import Bundles
from core.catalogue import ItemChange
from core.decision import Decision, Label, Ranked
from core.errors import BadSettings, Corrupt, Missing
from core.events import Event, encode
from core.ids import DAY_MS
from core.manifest import Manifest
from core.settings import Settings
from evaluation.replay import replay
from jobs.recordings import EVENTS, ArchiveRecording, LogRecording, export, recording, told
from jobs.storage import Storage, open_storage
from jobs.train import run
from streams.log import EmbeddedLog, Entry, New
from streams.messages import Message, of_decision, of_event, of_imported, of_output
from streams.recorded import Entry as Recorded
from streams.recorded import Query, read, span
from tests.factories import MINUTE, T, event, habits_log, item, small_settings
from tests.jobs.archived import archive_all, begun, placed

NOW = T + 40 * DAY_MS
TOPICS = (*EVENTS, "items", "decisions", "labelled")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    store = open_storage(f"memory://{tmp_path.parent.name}-{tmp_path.name}")
    yield store
    store.delete(store.names())


def decision(name: str, ts: int, *items: str) -> Decision:
    return Decision(
        recommendation_id=name, ts=ts, shopper="ida", placement="home", bundle="b", ranker="blend",
        items=tuple([Ranked(one, 1.0) for one in items]),
    )  # fmt: skip


def everything() -> list[New]:
    """Records of all topics, some of which cannot be read."""
    log = [one for one in habits_log(shoppers=8, days=4) if not isinstance(one, Query)]
    records = [of_imported(one)._replace(event_id="") for one in log]
    label = Label(1, "r1", "g0-1", "buy", T + 5, 5, True)
    records += [
        of_decision(decision("r1", T, "g0-1")),
        of_output("labelled", "ida", label),
        New("items", b"g0-0", None, 0),
    ]
    records += [New(topic, b"x", b"\xff{", 0) for topic in TOPICS] + [New("clickstream", b"x", None, 0)]
    records += [
        of_event(event("rating", "g0-1", ts=T + DAY_MS)),
        of_imported(item("late", ts=T + 9))._replace(event_id=""),
    ]
    return records


def of_log(settings: Settings, records: Sequence[New], topics: Sequence[str]) -> list[Message]:
    log = EmbeddedLog.open(settings.log)
    try:
        log.append(records)
        return list(told(LogRecording(log), topics))
    finally:
        log.close()


# ---------------------------------------------------------------------- the same from both
@pytest.mark.parametrize("topics", [TOPICS, EVENTS, ("items",), ("labelled",)])
def test_the_log_and_the_archive_of_the_same_records_tell_the_same_in_the_same_order(
    tmp_path: Path, storage: Storage, topics: Sequence[str]
) -> None:
    # A removal has the time of its arrival, which on one machine is that of its record.
    entries = placed(everything(), NOW)
    records = [New(one.topic, one.key, one.value, one.ts if one.value is None else 0) for one in entries]
    archive_all(storage, entries, rows=7)
    found = list(told(ArchiveRecording(storage), topics))
    assert found == of_log(small_settings(tmp_path), records, topics)
    assert len(found) >= 1


def test_a_ranker_trained_from_the_archive_is_the_one_trained_from_the_log(tmp_path: Path) -> None:
    log = habits_log(shoppers=16, days=6)
    records = [of_imported(one) for one in log if not isinstance(one, Query)]
    embedded, other = small_settings(tmp_path / "a", min_groups=60), small_settings(tmp_path / "b", min_groups=60)
    of_log(embedded, records, ())
    folder = str(tmp_path / "archive")
    archive_all(open_storage(folder), placed(records, T + 7 * DAY_MS))
    assert trained(other, archive=folder) == trained(embedded)


def trained(settings: Settings, archive: str = "") -> Manifest:
    outcome = run(settings, None, NOW, lambda *_: None, archive=archive)
    assert outcome.manifest is not None
    assert outcome.manifest.ranker == "lambdarank"
    assert Bundles(settings.bundles.path, 5).current_id() == outcome.manifest.id
    return outcome.manifest


# ---------------------------------------------------------------------- the archive
def test_events_of_a_packed_record_are_entries_of_their_own(storage: Storage) -> None:
    events = [event("view_item", "tea", ts=T + n) for n in range(3)]
    packed = b"[" + b",".join(map(encode, events)) + b"]"
    archive_all(storage, [Entry("clickstream", 0, 0, b"", packed, NOW)])
    source = ArchiveRecording(storage)
    assert [one.ts for one in source.entries(EVENTS)] == [T, T + 1, T + 2]
    assert list(told(source, EVENTS)) == events
    assert source.count(EVENTS) == 3


def test_partitions_are_told_by_arrival_then_by_topic_and_partition(storage: Storage) -> None:
    def one(topic: str, partition: int, offset: int, came: int) -> Entry:
        name = "rating" if topic == "feedback" else "view_item"
        return Entry(topic, partition, offset, b"", encode(event(name, "tea", ts=T)), NOW + came)

    arrivals = [
        one("clickstream", 0, 0, 5), one("clickstream", 0, 1, 9), one("clickstream", 1, 0, 2),
        one("clickstream", 1, 1, 9), one("feedback", 0, 0, 2), one("feedback", 1, 0, 9),
    ]  # fmt: skip
    archive_all(storage, arrivals)
    wanted = [arrivals[n] for n in (2, 4, 0, 1, 3, 5)]
    found = list(ArchiveRecording(storage).entries(EVENTS))
    assert [one[:3] for one in found] == [one[:3] for one in wanted]


def test_what_two_archivers_wrote_of_the_same_records_is_told_once(storage: Storage) -> None:
    entries = placed([of_event(event("view_item", "tea", ts=T + n)) for n in range(9)], NOW)
    one, other = begun(storage, rows=100), begun(storage, rows=100)
    for number, entry in enumerate(entries):
        one.take(entry, None, 0.0)
        if number < 6:
            other.take(entry, None, 0.0)
        if number in (3, 5, 8):
            (other if number == 5 else one).close()
    one.write()
    other.write()
    assert len(storage.names()) == 3
    assert list(told(ArchiveRecording(storage), EVENTS)) == [one for entry in entries for one in told_of(entry)]


def told_of(entry: Entry) -> list[Event]:
    return [msgspec.json.decode(entry.value or b"", type=Event)]


def test_a_label_that_a_worker_repeated_is_told_once(storage: Storage) -> None:
    archive = begun(storage)
    labels = [Label(1, "r", "tea", "buy", T + n, n, True) for n in range(3)]
    for offset, (n, origin) in enumerate([(0, "a"), (1, "b"), (0, "a"), (1, "b"), (2, "c"), (2, None), (2, None)]):
        value = of_output("labelled", "ida", labels[n]).value
        archive.take(Entry("labelled", 0, offset, b"ida", value, NOW), origin, 0.0)
    archive.close()
    archive.write()
    assert list(told(ArchiveRecording(storage), ("labelled",))) == [*labels, labels[2], labels[2]]


def test_what_arrived_too_long_ago_is_left_out_but_for_the_catalogue(storage: Storage) -> None:
    records = [of_imported(item("tea", ts=T)), *[of_event(event("view_item", "tea", ts=T + n)) for n in range(4)]]
    archive_all(storage, placed(records, NOW // DAY_MS * DAY_MS, apart_ms=DAY_MS))
    source = ArchiveRecording(storage, since_ms=NOW // DAY_MS * DAY_MS + 3 * DAY_MS + 5)
    assert [one.topic for one in source.entries(TOPICS)] == ["items", "clickstream", "clickstream"]


def test_a_future_event_is_nothing_to_learn_from(storage: Storage) -> None:
    archive_all(storage, placed([of_event(event("view_item", "tea", ts=NOW + DAY_MS))], NOW))
    assert list(ArchiveRecording(storage).entries(EVENTS)) == []


# ---------------------------------------------------------------------- which one
def test_a_shop_on_kafka_learns_from_its_archive_and_any_shop_from_the_one_it_is_given(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    on_kafka = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, bootstrap="nowhere:1"))
    with recording(settings) as source:
        assert isinstance(source, LogRecording)
    with recording(on_kafka) as source:
        assert source.name == f"the archive {settings.archive.path}"
    with recording(settings, "memory://elsewhere") as source:
        assert source.name == "the archive memory://elsewhere"
    with pytest.raises(BadSettings), recording(settings, "nowhere://bucket"):
        pass


def test_an_empty_archive_is_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"the archive .*none holds no events"):
        run(small_settings(tmp_path), None, NOW, lambda *_: None, archive=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------- as a stream
def test_an_archive_becomes_a_recorded_stream_in_time_order(tmp_path: Path, storage: Storage) -> None:
    late = [event("view_item", "tea", ts=T + n * MINUTE) for n in (5, 1, 3)]
    records = [
        *map(of_event, late),
        of_imported(item("tea", ts=NOW)),
        of_decision(decision("r1", T + MINUTE, "tea", "pot")),
    ]
    archive_all(storage, placed(records, NOW))
    path = tmp_path / "stream.jsonl.gz"
    settings = small_settings(tmp_path)
    assert export(settings, path, archive=storage.where, queries=True) == {"item": 1, "event": 3, "query": 1}
    asked = Query(query_id="r1", ts=T + MINUTE, shopper="ida", k=2, placement="home")
    found: list[Recorded] = list(read(path))
    (change,) = [one for one in found if isinstance(one, ItemChange)]
    assert change.ts == T + MINUTE  # an item was there when it was first seen
    assert [one for one in found if one is not change] == [asked, late[1], late[2], late[0]]
    export(settings, path, archive=storage.where)
    assert span(path).counts == {"item": 1, "event": 3}


def test_nothing_recorded_is_no_stream(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="the log holds nothing"):
        export(small_settings(tmp_path), tmp_path / "stream.jsonl")
    assert not (tmp_path / "stream.jsonl").exists()


def test_what_was_exported_can_be_replayed(tmp_path: Path, storage: Storage) -> None:
    log = [one for one in habits_log(shoppers=8, days=4) if not isinstance(one, Query)]
    asked = of_decision(decision("r1", log[-1].ts, "g0-1", "g0-2"))
    archive_all(storage, placed([*map(of_imported, log), asked], T + 7 * DAY_MS))
    path = tmp_path / "stream.jsonl"
    export(small_settings(tmp_path), path, archive=storage.where, queries=True)
    found = replay(path, small_settings(tmp_path), None, ranker=False)
    assert [one.query.query_id for one in found.answers] == ["r1"]
    assert len(found.answers[0].items) == 2


def test_files_that_are_merged_while_one_reads_are_told_all_the_same(storage: Storage) -> None:
    events = [event("view_item", "tea", ts=T + n) for n in range(9)]
    archive_all(storage, placed(map(of_event, events), NOW), rows=2)
    reading = told(ArchiveRecording(storage), EVENTS)
    found = [next(reading) for _ in range(3)]
    archive = begun(storage)
    assert archive.merge("2100-01-01")
    assert len(storage.names()) == 1
    assert found + list(reading) == events


def test_a_damaged_file_is_named(storage: Storage) -> None:
    archive_all(storage, placed([of_event(event("view_item", "tea", ts=T)) for _ in range(4)], NOW), rows=2)
    (_, damaged) = storage.names()
    storage.write(damaged, b"PAR1 and nothing else")
    with pytest.raises(Corrupt, match=damaged):
        list(told(ArchiveRecording(storage), EVENTS))
    with pytest.raises(Corrupt, match=damaged):
        begun(storage).merge("2100-01-01")
