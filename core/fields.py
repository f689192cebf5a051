"""Fields that events and item changes have in common: times, identifiers, free attributes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from core.errors import BadInput
from core.ids import MINUTE_MS

MAX_ID: Final = 256
RESERVED: Final = "\x1f"  # begins keys that stand among items and are none, such as those of categories
MAX_TS: Final = 1 << 53  # JavaScript's whole numbers end there
AHEAD_MS: Final = 10 * MINUTE_MS
MAX_NESTING: Final = 8  # of a value in attributes; what is decoded here is encoded again further on


def attributes_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands under `attributes`, empty where nothing does.

    Raises:
        BadInput: it is not an object.
    """
    attributes = raw.get("attributes")
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        raise BadInput(f"attributes must be an object, got {type(attributes).__name__}")
    return attributes


def check_nesting(value: object, left: int = MAX_NESTING) -> None:
    """Refuse what is nested so deep that writing it again could fail.

    Raises:
        BadInput: it is.
    """
    if isinstance(value, Mapping | list | tuple):
        if left < 0:
            raise BadInput(f"a value in attributes is nested deeper than {MAX_NESTING} levels")
        for one in value.values() if isinstance(value, Mapping) else value:
            check_nesting(one, left - 1)


def time_of(raw: Mapping[str, Any], received_ms: int | None) -> int:
    """When it happened, in ms: `ts`, `timestamp_micros`, or `timestamp`, in this order.

    Raises:
        BadInput: what is given cannot be read, or nothing is and `received_ms` is None.
    """
    ts, micros, text = raw.get("ts"), raw.get("timestamp_micros"), raw.get("timestamp")
    if ts is None and micros is not None:
        digits = str(micros) if isinstance(micros, int | str) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise BadInput(f"timestamp_micros must be microseconds since 1970 as a whole number, got {micros!r:.80}")
        ts = int(digits) // 1000
    if ts is None and text is not None:
        try:
            moment = datetime.fromisoformat(text)
        except (ValueError, TypeError):
            raise BadInput(f"timestamp must be ISO 8601, got {text!r:.80}") from None
        if moment.tzinfo is None:
            raise BadInput(f"timestamp needs an offset such as Z or +02:00, got {text!r:.80}")
        ts = round(moment.timestamp() * 1000)
    if ts is None:
        ts = received_ms
    if isinstance(ts, bool) or not isinstance(ts, int) or not 0 <= ts < MAX_TS:
        raise BadInput(f"ts must be milliseconds since 1970 as a whole number, got {ts!r}")
    return ts


def identifier(value: object, key: str) -> str | None:
    """An id as text, whole numbers too; None where nothing stands.

    Raises:
        BadInput: it is something else, or too long.
    """
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadInput(f"{key} must be a string, got {type(value).__name__}")
    if len(value) > MAX_ID:
        raise BadInput(f"{key} is longer than {MAX_ID} characters ({len(value)})")
    if key == "item_id" and value.startswith(RESERVED):
        raise BadInput(f"{key} must not begin with a control character, got {value!r:.80}")
    return value
