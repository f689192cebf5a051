from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange
from core.decision import Decision, Label, Ranked
from core.errors import BadInput
from core.events import Event
from streams.log import EmbeddedLog, Entry, New
from streams.messages import (
    Letter,
    letters,
    messages,
    of_change,
    of_decision,
    of_event,
    of_imported,
    of_letter,
    of_output,
    unreadable,
)
from tests.factories import T, event, item, small_settings

DECISION = Decision(
    recommendation_id="r", ts=T, shopper="ida", placement="home", bundle="b", ranker="blend", features=b"\0\1",
    items=(Ranked(item_id="a", score=0.5),), pool=("a",), schema="s",
)  # fmt: skip
LABEL = Label(1, "r", "a", "buy", T, 5, True)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.open(small_settings(tmp_path).log)
    yield opened
    opened.close()


def as_read(record: New) -> Entry:
    return Entry(record.topic, 0, 0, record.key, record.value, record.ts)


@pytest.mark.parametrize(
    ("record", "topic", "key", "said"),
    [
        (of_event(one := event("view_item", "a")), "clickstream", b"ida", one),
        (of_event(one := event("like", "a", user_id="bob")), "feedback", b"bob", one),
        (of_change(two := item("a", price=None, tags=["x"])), "items", b"a", two),
        (of_change(two := item("a", removed=True)), "items", b"a", two),
        (of_decision(DECISION), "decisions", b"ida", DECISION),
        (of_output("labelled", "ida", LABEL), "labelled", b"ida", LABEL),
    ],
)
def test_what_is_written_is_read_again(record: New, topic: str, key: bytes, said: object) -> None:
    assert (record.topic, record.key, record.ts) == (topic, key, getattr(said, "ts", None))
    assert list(messages(as_read(record))) == [said]


def test_an_event_is_known_by_its_id_and_an_imported_change_by_all_it_says() -> None:
    assert of_event(event("view_item", "a", event_id="mine")).event_id == "mine"
    assert of_imported(event("view_item", "a", event_id="mine")).event_id == "mine"
    assert of_change(item("a")).event_id == ""
    assert of_imported(item("a")).event_id == of_imported(item("a")).event_id != ""
    assert of_imported(item("a")).event_id != of_imported(item("a", price=1.0)).event_id


def test_a_packed_record_gives_its_events_and_reasons_in_their_places() -> None:
    one = event("view_item", "a")
    packed = b"[" + msgspec.json.encode(one) + b',{"name":"bake"}]'
    first, second = messages(Entry("clickstream", 0, 0, b"", packed, T))
    assert first == one
    assert isinstance(second, BadInput)


def test_a_record_of_items_without_a_value_removes_its_key() -> None:
    (change,) = messages(Entry("items", 0, 0, b"a", None, T))
    assert isinstance(change, ItemChange)
    assert (change.item_id, change.removed, change.ts) == ("a", True, T)


def test_elsewhere_a_record_without_a_value_says_nothing() -> None:
    assert messages(Entry("clickstream", 0, 0, b"a", None, T)) == ()


def test_a_removal_whose_key_is_no_text_is_refused() -> None:
    with pytest.raises(BadInput, match="UTF-8"):
        messages(Entry("items", 0, 0, b"\xff", None, T))


@given(st.binary(max_size=40), st.sampled_from(("clickstream", "feedback", "items", "decisions", "labelled")))
def test_junk_is_refused_and_nothing_else_happens(value: bytes, topic: str) -> None:
    try:
        found = messages(Entry(topic, 0, 0, b"k", value, T))
    except BadInput as reason:
        found = [reason]
    assert all(isinstance(one, BadInput) and str(one) for one in found)


def test_a_dead_letter_names_where_it_came_from(log: EmbeddedLog) -> None:
    log.append([unreadable(Entry("items", 2, 17, b"a", b"\xff{", T), "not JSON")])
    assert letters(log, 5) == [Letter("not JSON", "items/2/17", T, "\N{REPLACEMENT CHARACTER}{")]


def test_the_newest_letters_come_first(log: EmbeddedLog) -> None:
    log.append([of_letter(Letter(f"r{n}", "gateway", T + n // 2, "")) for n in range(10)])
    assert [one.reason for one in letters(log, 3)] == ["r9", "r8", "r7"]
    assert len(letters(log, 50)) == 10


def test_a_log_without_letters_has_none(log: EmbeddedLog) -> None:
    log.append([of_event(event("view_item", "a"))])
    assert letters(log, 3) == []


def test_an_event_of_another_topic_than_its_own_is_still_an_event() -> None:
    one = event("like", "a")
    (said,) = messages(Entry("clickstream", 0, 0, b"", msgspec.json.encode(one), T))
    assert isinstance(said, Event)
    assert said.topic == "feedback"
