from __future__ import annotations

from core.catalogue import ItemChange
from core.events import Event
from jobs.chronicle import in_time
from tests.factories import T, event, item

DAY = 86_400_000


def told(log: list[object]) -> list[tuple[int, str]]:
    return [
        (one.ts, one.item_id if isinstance(one, ItemChange) else one.event_id) for one in in_time(lambda: log, 1_000)
    ]


def view(name: str, ts: int, event_id: str) -> Event:
    return event("view_item", name, ts=ts, event_id=event_id)


def test_an_item_sent_after_its_sales_was_there_before_the_first_of_them() -> None:
    log: list[object] = [item("a", ts=T + 9 * DAY), view("a", T + DAY, "e1"), view("a", T + 2 * DAY, "e2")]
    assert told(log) == [(T + DAY, "a"), (T + DAY, "e1"), (T + 2 * DAY, "e2")]


def test_an_item_nobody_used_and_later_changes_keep_their_time() -> None:
    twice = [item("a", ts=T + 3 * DAY), item("a", ts=T + 4 * DAY)]
    log: list[object] = [item("b", ts=T + DAY), view("a", T, "e1"), *twice]
    assert told(log) == [(T, "a"), (T, "e1"), (T + DAY, "b"), (T + 4 * DAY, "a")]


def test_a_history_imported_behind_newer_events_is_told_first() -> None:
    log: list[object] = [view("a", T + 5 * DAY, "now"), view("a", T, "then"), view("a", T + DAY, "later")]
    assert [name for _, name in told(log)] == ["then", "later", "now"]


def test_events_that_are_a_little_late_stay_where_they_arrived() -> None:
    log: list[object] = [view("a", T + 500, "e1"), view("a", T, "e2"), view("a", T + 600, "e3")]
    assert [name for _, name in told(log)] == ["e1", "e2", "e3"]


def test_a_removal_keeps_its_time() -> None:
    log: list[object] = [view("a", T, "e1"), item("a", ts=T + DAY, removed=True)]
    assert told(log) == [(T, "e1"), (T + DAY, "a")]


def test_messages_of_other_kinds_are_passed_over() -> None:
    assert told([object(), view("a", T, "e1")]) == [(T, "e1")]
