"""Dead letters read and tried again, in whichever log there is.

What was refused may be good today: a clock that ran ahead, a record that an older version did not know. A letter is
held to the rules of the topic it was meant for, and goes there if it keeps them now. Events keep their event ids and
changes of items may be repeated, so a letter that is tried twice counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from core.catalogue import ItemChange, parse_change
from core.decision import Decision
from core.errors import BadInput, Missing
from core.events import NAMES, Event, parse
from core.settings import Settings
from streams.log import EmbeddedLog, Entry, New
from streams.messages import Letter, Message, letters, messages, of_decision, of_imported
from streams.topology import SOURCES

GATEWAY: Final = "gateway"  # the origin of what came over HTTP
MANY: Final = 1_000_000  # letters tried at a time
_WHO: Final = frozenset({"user_id", "visitor_id", "session_id", "event_id"})  # no item has these
_REPLACED: Final = "\ufffd"  # stands in a letter for bytes that are not UTF-8


class Outcome(msgspec.Struct, frozen=True):
    """What came of a letter that was tried again: how many records it gave, or why it is still refused."""

    letter: Letter
    records: int = 0
    reason: str = ""


class Origin(msgspec.Struct, frozen=True):
    """Where a refused record stands. `index` counts within a packed one; -1 is all of it."""

    topic: str
    partition: int
    offset: int
    index: int = -1


def newest(settings: Settings, most: int) -> list[Letter]:
    """The newest letters, newest first; those of one origin once.

    Raises:
        Missing: there is no log yet, or no client for Kafka.
        Unavailable: Kafka does not answer.
    """
    if settings.kafka.bootstrap:
        from streams import letters_kafka

        return asyncio.run(letters_kafka.newest(settings, most))
    with closing(_log(settings)) as log:
        return letters(log, most)


def replay(settings: Settings, now_ms: int, text: str = "") -> list[Outcome]:
    """Try letters again, oldest first, and append what is good now to its topic; durable on return.

    Args:
        settings: say which log it is.
        now_ms: what ages of events from the gateway are measured by.
        text: only letters with this in their reason or origin.

    Raises:
        Missing: there is no log yet, or no client for Kafka.
        Unavailable: the log takes no writes; some may have been appended, and it is right to try again.
    """
    if settings.kafka.bootstrap:
        from streams import letters_kafka

        return asyncio.run(letters_kafka.replay(settings, now_ms, text))
    with closing(_log(settings)) as log:
        found = [one for one in reversed(letters(log, MANY)) if asked(one, text)]
        outcomes, records = judge_all(found, now_ms, lambda letter: _original(log, letter))
        log.append(records)
    return outcomes


def asked(letter: Letter, text: str) -> bool:
    """Whether a text stands in a letter's reason or origin."""
    return text in letter.reason or text in letter.origin


def judge_all(
    found: Sequence[Letter],
    now_ms: int,
    original: Callable[[Letter], Entry | None],
    max_bytes: int | None = None,
) -> tuple[list[Outcome], list[New]]:
    """What comes of each letter, and the records to append, each once and of at most `max_bytes`."""
    outcomes: list[Outcome] = []
    records: dict[New, None] = {}
    for letter in found:
        try:
            good = judge(letter, now_ms, original(letter))
            _check_sizes(good, max_bytes)
        except BadInput as error:
            outcomes.append(Outcome(letter, reason=str(error)))
        else:
            records |= dict.fromkeys(good)
            outcomes.append(Outcome(letter, records=len(good)))
    return outcomes, list(records)


def _check_sizes(records: Sequence[New], max_bytes: int | None) -> None:
    largest = max(len(one.value or b"") for one in records)
    if max_bytes is not None and largest > max_bytes:
        raise BadInput(f"a record of {largest:,} bytes, at most {max_bytes:,} are accepted")


def judge(letter: Letter, now_ms: int, original: Entry | None = None) -> list[New]:
    """The records that a letter is good for now.

    Args:
        letter: what was refused.
        now_ms: ages of events from the gateway are measured by it; a record of a topic may be of any age.
        original: the record itself, where it is still there.

    Raises:
        BadInput: it is refused again, or what is left of it is not enough to tell.
    """
    if original is None and _REPLACED in letter.raw:
        raise BadInput("it holds bytes that are not UTF-8, and the letter does not tell which")
    if letter.origin == GATEWAY:
        return [of_imported(one) for one in _sent(letter, now_ms)]
    place = origin_of(letter)
    if place is None or place.topic not in SOURCES:
        raise BadInput(f"{letter.origin} is no place of a topic that is written from outside")
    if original is not None:
        return [_record(one) for one in _good(original, place.index, letter.reason)]
    entry = Entry(place.topic, place.partition, place.offset, b"", letter.raw.encode(), letter.ts)
    return [_record(one) for one in _good(entry, -1, letter.reason)]


def origin_of(letter: Letter) -> Origin | None:
    """Where the record of a letter stands.

    >>> origin_of(Letter("late", "clickstream/3/17/2", 0, ""))
    Origin(topic='clickstream', partition=3, offset=17, index=2)
    """
    topic, *numbers = letter.origin.split("/")
    if len(numbers) not in (2, 3) or not all(one.isdecimal() for one in numbers):
        return None
    return Origin(topic, *map(int, numbers))


def is_original(letter: Letter, entry: Entry) -> bool:
    """Whether the record that stands at a letter's origin is the refused one: a topic may have been made anew."""
    return letter.ts in (0, entry.ts)  # 0: a step failed, and the letter holds no time


def _good(entry: Entry, index: int, reason: str) -> list[Message]:
    """What can be used of a record; where something in it is still refused for `reason`, nothing."""
    found = messages(entry)
    taken = found if index < 0 else found[index : index + 1]
    refused = {str(one): one for one in taken if isinstance(one, BadInput)}
    good = [one for one in taken if not isinstance(one, BadInput)]
    if reason in refused:
        raise refused[reason]
    if not good:
        raise next(iter(refused.values()), BadInput("there is nothing in it"))
    return good


def _record(message: Message) -> New:
    if isinstance(message, Decision):
        return of_decision(message)
    assert isinstance(message, Event | ItemChange)
    return of_imported(message)


def _sent(letter: Letter, now_ms: int) -> list[Event | ItemChange]:
    """What a letter of the gateway holds: one value, or a whole call that could not be taken apart."""
    try:
        whole = msgspec.json.decode(letter.raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"not JSON, or not all of it: {error}") from None
    return [_parsed(one, letter, now_ms) for one in _values(whole)]


def _values(whole: Any) -> list[Any]:
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict) and len(whole) == 1:
        inner = whole.get("events", whole.get("items"))
        return inner if isinstance(inner, list) else [whole]
    return [whole]


def _parsed(value: Any, letter: Letter, now_ms: int) -> Event | ItemChange:
    read = parse if _is_event(value, letter.reason) else parse_change
    return read(value, now_ms=now_ms, received_ms=letter.ts)


def _is_event(value: Any, reason: str) -> bool:
    """An item may have a name and a rating too; as an event it says what happened or who it was."""
    if not isinstance(value, dict):
        return "event" in reason
    return value.get("name") in NAMES or bool(_WHO & value.keys()) or "event" in reason


def _log(settings: Settings) -> EmbeddedLog:
    if not settings.log.path.exists():
        raise Missing(f"no log at {settings.log.path}: headwater up or import makes one")
    return EmbeddedLog.open(settings.log)


def _original(log: EmbeddedLog, letter: Letter) -> Entry | None:
    place = origin_of(letter)
    if place is None:
        return None
    found = log.read(place.topic, place.partition, place.offset - 1, 1)
    same = found and found[0].offset == place.offset and is_original(letter, found[0])
    return found[0] if same else None
