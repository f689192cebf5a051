from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.catalogue import ItemChange
from core.decision import Decision, Ranked
from core.errors import BadInput, Missing
from core.events import Event
from core.settings import Settings
from streams.letters import Origin, judge, judge_all, newest, origin_of, replay
from streams.log import EmbeddedLog, Entry, New
from streams.messages import Letter, Message, messages, of_decision, of_letter
from tests.factories import T, event, small_settings

DECISION = Decision(
    recommendation_id="r", ts=T, shopper="ida", placement="home", bundle="b", ranker="blend", features=b"",
    items=(Ranked(item_id="a", score=0.5),), pool=("a",), schema="s",
)  # fmt: skip
VIEW = {"name": "view_item", "event_id": "e1", "user_id": "ida", "item_id": "a", "ts": T}
POT = {"item_id": "a", "title": "Pot", "ts": T}


def raw(value: object) -> str:
    return msgspec.json.encode(value).decode()


def said(records: list[New]) -> list[Message | BadInput]:
    entries = [Entry(one.topic, 0, 0, one.key, one.value, one.ts) for one in records]
    return [message for entry in entries for message in messages(entry)]


def sent(value: object, reason: str = "why") -> Letter:
    return Letter(reason, "gateway", T, raw(value))


def test_an_event_that_was_ahead_of_the_clock_is_good_when_its_time_has_come() -> None:
    letter = sent(VIEW | {"ts": T + 3_600_000}, "view_item lies 60 minutes ahead; 10 are accepted")
    with pytest.raises(BadInput, match="ahead"):
        judge(letter, T)
    (record,) = judge(letter, T + 3_600_000)
    assert (record.topic, record.key, record.event_id) == ("clickstream", b"ida", "e1")


def test_an_event_without_a_time_gets_that_of_its_arrival_whenever_it_is_tried() -> None:
    letter = sent({"name": "like", "user_id": "ida", "item_id": "a"})
    (first,), (second,) = judge(letter, T + 1), judge(letter, T + 99)
    assert first == second
    assert (first.topic, first.ts) == ("feedback", T)


@pytest.mark.parametrize("value", [POT, POT | {"name": "Pot", "rating": 4.5}])
def test_what_names_nobody_and_nothing_that_happens_is_a_change_of_an_item(value: dict[str, object]) -> None:
    (record,) = judge(sent(value), T)
    assert record.topic == "items"
    (change,) = said([record])
    assert isinstance(change, ItemChange)
    assert change.title == "Pot"


def test_a_bad_event_never_becomes_an_item() -> None:
    with pytest.raises(BadInput, match="unknown event name"):
        judge(sent({"name": "looked_at", "item_id": "a", "ts": T}, "unknown event name 'looked_at'"), T)
    with pytest.raises(BadInput, match="days old"):
        judge(sent(VIEW), T + 31 * 86_400_000)


def test_a_call_that_could_not_be_taken_apart_gives_all_that_is_in_it() -> None:
    records = judge(sent({"events": [VIEW, VIEW | {"event_id": "e2"}]}, "at most 1 event"), T)
    assert [one.event_id for one in records] == ["e1", "e2"]


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (Letter("r", "gateway", T, '{"events": [{"na'), "not all of it"),
        (Letter("r", "gateway", T, raw(VIEW | {"item_id": "\ufffd"})), "not UTF-8"),
        (Letter("r", "item-signals/0/5", T, raw(VIEW)), "no place"),
        (Letter("r", "somewhere", T, raw(VIEW)), "no place"),
        (Letter("r", "clickstream/0/5", T, "[]"), "nothing in it"),
        (Letter("r", "clickstream/0/5", T, raw(VIEW | {"name": "x"})), "unknown event name"),
    ],
)
def test_what_cannot_be_used_says_why(letter: Letter, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        judge(letter, T)


def test_of_a_packed_record_only_the_refused_event_is_taken() -> None:
    packed = raw([VIEW, VIEW | {"event_id": "e2"}, VIEW | {"event_id": "e3"}]).encode()
    entry = Entry("clickstream", 0, 5, b"", packed, T)
    (record,) = judge(Letter("r", "clickstream/0/5/1", T, "cut"), T, entry)
    assert record.event_id == "e2"


def test_a_record_with_something_still_refused_for_the_same_reason_gives_nothing() -> None:
    letter = Letter("view_item needs an item_id", "clickstream/0/5", T, raw([VIEW, VIEW | {"item_id": ""}]))
    with pytest.raises(BadInput, match="needs an item_id"):
        judge(letter, T)


def test_a_decision_is_taken_from_its_record() -> None:
    made = of_decision(DECISION)
    letter = Letter("a step failed", "decisions/0/5", T, "Decision(…)")
    assert judge(letter, T, Entry("decisions", 0, 5, made.key, made.value, T)) == [made]


def test_each_record_is_given_once_and_none_that_is_too_large() -> None:
    large = sent(VIEW | {"event_id": "e2", "note": "x" * 500})
    outcomes, records = judge_all([sent(VIEW), sent(VIEW), large], T, lambda _: None, max_bytes=300)
    assert [one.event_id for one in records] == ["e1"]
    assert [one.records for one in outcomes] == [1, 1, 0]
    assert "at most 300" in outcomes[2].reason


def test_a_place_is_a_topic_and_two_or_three_numbers() -> None:
    assert origin_of(Letter("", "items/3/17", 0, "")) == Origin("items", 3, 17)
    assert origin_of(Letter("", "gateway", 0, "")) is None
    assert origin_of(Letter("", "items/3/-1", 0, "")) is None


# ---------------------------------------------------------------------- the embedded log
@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


def kept(settings: Settings) -> list[Message | BadInput]:
    opened = EmbeddedLog.open(settings.log)
    try:
        return [one for entry in opened.read_all(("clickstream", "items"), {}, 100) for one in messages(entry)]
    finally:
        opened.close()


def write(settings: Settings, *records: New) -> None:
    opened = EmbeddedLog.open(settings.log)
    try:
        opened.append(records)
    finally:
        opened.close()


def test_letters_of_the_embedded_log_are_tried_again_and_count_once(settings: Settings) -> None:
    bad = sent({"name": "looked_at", "user_id": "ida"}, "unknown event name")
    write(settings, *(of_letter(one) for one in (sent(VIEW), sent(POT), bad)))
    first = replay(settings, T)
    assert sorted(one.records for one in first) == [0, 1, 1]
    assert [one.letter for one in first if one.reason] == [bad]
    assert replay(settings, T + 1)[0].records == first[0].records
    assert len(kept(settings)) == 2
    assert {type(one) for one in kept(settings)} == {Event, ItemChange}


def test_only_letters_with_the_text_are_tried(settings: Settings) -> None:
    write(settings, of_letter(sent(VIEW, "too early")), of_letter(sent(POT, "other")))
    (outcome,) = replay(settings, T, "early")
    assert outcome.records == 1
    assert [type(one) for one in kept(settings)] == [Event]


def test_an_event_that_is_known_is_not_taken_twice(settings: Settings) -> None:
    write(settings, of_letter(sent(VIEW)))
    write(settings, New("clickstream", b"ida", msgspec.json.encode(event("view_item", "a")), T, "e1"))
    replay(settings, T)
    assert len(kept(settings)) == 1


def test_letters_are_listed_from_the_log_there_is(settings: Settings) -> None:
    with pytest.raises(Missing, match="no log"):
        newest(settings, 5)
    write(settings, of_letter(sent(VIEW)))
    assert newest(settings, 5) == [sent(VIEW)]
