"""What the records of the log say: messages to records for every writer, and back for every reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from core.catalogue import ItemChange, parse_change
from core.decision import Decision, Label
from core.errors import BadInput
from core.events import Event, decode, encode
from core.ids import digest
from streams.attribution import Served
from streams.log import EmbeddedLog, Entry, New

Message = Event | ItemChange | Decision | Label

DEAD_LETTERS: Final = "dead-letter"


class Letter(msgspec.Struct, frozen=True):
    """A record of `dead-letter`: what was refused, when (ms), why, and where it came from."""

    reason: str
    origin: str  # gateway, or the topic, partition and offset of a record
    ts: int
    raw: str


_letters: Final = msgspec.json.Decoder(Letter)
_decisions: Final = msgspec.msgpack.Decoder(Decision)
_labels: Final = msgspec.msgpack.Decoder(Label)


def of_event(event: Event) -> New:
    """The record of an event; the log takes its `event_id` once."""
    return New(event.topic, event.shopper.encode(), encode(event), event.ts, event.event_id)


def of_change(change: ItemChange) -> New:
    """The record of a change of the catalogue."""
    return New("items", change.item_id.encode(), msgspec.json.encode(change), change.ts)


def of_imported(message: Event | ItemChange) -> New:
    """The record of a message from a file: one that is imported again, item changes too, is taken once."""
    if isinstance(message, Event):
        return of_event(message)
    record = of_change(message)
    return record._replace(event_id=digest(record.value or b""))


def of_decision(decision: Decision) -> New:
    """The record of a served list."""
    return New("decisions", decision.shopper.encode(), msgspec.msgpack.encode(decision), decision.ts)


def of_output(topic: str, key: str, value: Any) -> New:
    """The record of what a step emits to a topic that no step reads."""
    return New(topic, key.encode(), msgspec.msgpack.encode(value), int(getattr(value, "ts", 0)))


def of_letter(letter: Letter) -> New:
    """The record of something refused."""
    return New(DEAD_LETTERS, b"", msgspec.json.encode(letter), letter.ts)


def unreadable(entry: Entry, reason: str) -> New:
    """The dead letter of a record that says nothing that can be understood."""
    raw = (entry.value or b"").decode("utf-8", "replace")
    return of_letter(Letter(reason, f"{entry.topic}/{entry.partition}/{entry.offset}", entry.ts, raw))


def letters(opened: EmbeddedLog, most: int) -> list[Letter]:
    """The newest of what was refused, newest first."""
    ends = [place for place in opened.ends().items() if place[0][0] == DEAD_LETTERS]
    found = [opened.read(DEAD_LETTERS, partition, last - most, most) for (_, partition), last in ends]
    told = [_letters.decode(entry.value) for entries in found for entry in entries if entry.value is not None]
    return sorted(told[::-1], key=lambda one: -one.ts)[:most]


def messages(entry: Entry) -> Sequence[Message | BadInput]:
    """What a record says, and in place of each event that cannot be used the reason.

    On `items` a record without a value is the removal of its key; elsewhere it says nothing.

    Raises:
        BadInput: the record as a whole cannot be read.
    """
    if entry.value is None:
        return (ItemChange(item_id=_text(entry.key), ts=entry.ts, removed=True),) if entry.topic == "items" else ()
    if entry.topic in ("clickstream", "feedback"):
        return decode(entry.value)
    try:
        if entry.topic == "items":
            return (parse_change(msgspec.json.decode(entry.value), received_ms=entry.ts),)
        if entry.topic == "decisions":
            return (_of_known_version(_decisions.decode(entry.value)),)
        return (_labels.decode(entry.value),)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"cannot be read: {error}") from None


def _of_known_version(decision: Decision) -> Decision:
    if decision.v != 1:
        raise BadInput(f"decisions of version 1 are known, got v {decision.v}")
    return decision


def as_fed(message: Message) -> Event | ItemChange | Served:
    """A message as the steps read it: of a decision, what attribution needs."""
    if isinstance(message, Decision):
        shown = tuple([one.item_id for one in message.items])
        return Served(message.recommendation_id, message.ts, message.shopper, shown)
    assert isinstance(message, Event | ItemChange)
    return message


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"the key of a removal is not UTF-8: {error}") from None
