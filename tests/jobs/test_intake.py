from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from core.catalogue import ItemChange
from core.errors import BadInput, Missing
from core.events import Event
from jobs.importing import Layout
from jobs.intake import AT_ONCE, Taken, latest, source, to_log
from streams.log import EmbeddedLog
from streams.recorded import Entry, Query, write
from tests.factories import DAY, T, event, item, small_settings


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.open(small_settings(tmp_path).log)
    yield opened
    opened.close()


def silent(what: str, done: int, total: int) -> None:
    pass


def test_more_entries_than_one_append_takes_all_come_in(log: EmbeddedLog) -> None:
    told: list[int] = []
    entries: list[Entry] = [item(f"i{n}") for n in range(30)]
    entries += [event("view_item", "i1") for _ in range(AT_ONCE + 5)]
    taken = to_log(entries, log, lambda what, done, total: told.append(done))
    assert taken == Taken(events=AT_ONCE + 5, items=30)
    assert told == [AT_ONCE, AT_ONCE + 35]
    assert sum(last + 1 for last in log.ends().values()) == AT_ONCE + 35


def test_a_second_time_only_what_is_new_comes_in(log: EmbeddedLog) -> None:
    entries: list[Entry] = [item("a"), event("view_item", "a")]
    to_log(entries, log, silent)
    changed: list[Entry] = [*entries, item("a", price=3.0), event("view_item", "a")]
    assert to_log(changed, log, silent) == Taken(events=1, items=1, known=2)


def test_queries_of_a_stream_are_not_for_the_log(log: EmbeddedLog) -> None:
    entries: list[Entry] = [event("view_item", "a"), Query(query_id="q", ts=T, shopper="ida")]
    assert to_log(entries, log, silent) == Taken(events=1, queries=1)


def test_nothing_is_nothing(log: EmbeddedLog) -> None:
    assert to_log([], log, silent) == Taken()


def test_a_stream_gives_its_entries(tmp_path: Path) -> None:
    entries: list[Entry] = [item("a"), event("view_item", "a")]
    write(tmp_path / "s.jsonl", entries)
    assert list(source(str(tmp_path / "s.jsonl"), "", "events", Layout(format="stream")).entries) == entries


def test_a_file_named_like_a_preset_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranklens").write_text("name,user_id,item_id,ts\nview_item,u,i,1700000000\n")
    found = source("ranklens", "", "events", Layout(format="csv"))
    assert found.preset is None
    assert len(list(found.entries)) == 1


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name a file"):
        source("", "", "events", Layout())
    with pytest.raises(Missing, match=r"no file at .*, and no preset of that name: ranklens"):
        source(str(tmp_path / "x.csv"), "", "events", Layout())
    with pytest.raises(BadInput, match="no preset 'x'"):
        source("", "x", "events", Layout())


def test_the_latest_part_of_a_history_ends_where_it_is_wanted() -> None:
    old, used, unused = item("old", ts=T), item("used", ts=T + 9 * DAY), item("unused", ts=T)
    events = [event("view_item", "old" if n < 10 else "used", ts=T + n * DAY) for n in range(11)]
    entries: list[Entry] = [old, used, unused, *events]
    entries.sort(key=lambda one: one.ts)
    found = latest(entries, 3 * DAY, T + 100 * DAY)
    assert [entry.ts - (T + 100 * DAY) for entry in found] == [-3 * DAY, -3 * DAY, -2 * DAY, -DAY, -DAY, 0]
    assert [one.item_id for one in found if isinstance(one, ItemChange)] == ["old", "used"]
    assert [one.event_id for one in found if isinstance(one, Event)] == [one.event_id for one in events[-4:]]
    assert msgspec.structs.replace(found[0], ts=T) == old


def test_a_history_without_events_has_no_latest_part() -> None:
    assert latest([item("a")], DAY, T) == []
