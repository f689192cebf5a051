"""Every shopper's profile as its record has it, decoded when somebody asks.

A decoded profile takes many times its record; of a million shoppers a few thousand are here at a time.
"""

from __future__ import annotations

import heapq
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from core.profile import NOBODY, Profile, Session

log = logging.getLogger("headwater")

DECODED: Final = 2_000
SESSIONS_AT_ONCE: Final = 500  # a tenth of a second to enter them

_version: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_profile: Final = msgspec.msgpack.Decoder(tuple[int, Profile])


class _Visits(msgspec.Struct, array_like=True, gc=False):
    """The sessions of a profile; what stands before them is passed over."""

    v: int
    first: int
    last: int
    touches: msgspec.Raw
    memory: msgspec.Raw
    sessions: tuple[Session, ...] = ()


_visits: Final = msgspec.msgpack.Decoder(tuple[int, _Visits])


class Profiles:
    """Records by shopper. `put` is called by the thread that follows, `get` by the one that answers."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._decoded: OrderedDict[bytes, tuple[bytes, Profile]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, key: bytes, record: bytes | None) -> Profile | None:
        """Keep a record unless a newer one is there; the profile if it was kept, None otherwise.

        Raises:
            msgspec.DecodeError: it is none.
        """
        if record is None:
            self._records.pop(key, None)
            return NOBODY
        before = self._records.get(key)
        version, profile = _profile.decode(record)
        if before is not None and _version.decode(before)[0] > version:
            return None
        self._records[key] = record
        return profile

    def load(self, key: bytes, record: bytes | None) -> None:
        """As `put`, and without a look at the profile: for a million of them at a start."""
        if record is None:
            self._records.pop(key, None)
            return
        before, version = self._records.get(key), _version.decode(record)[0]
        if before is None or _version.decode(before)[0] <= version:
            self._records[key] = record

    def get(self, shopper: str) -> Profile:
        """What is kept of a shopper; `NOBODY` of one never heard of."""
        key = shopper.encode()
        record = self._records.get(key)
        if record is None:
            return NOBODY
        known = self._decoded.pop(key, None)
        if known is None or known[0] is not record:
            known = record, _decoded(key, record)
        self._decoded[key] = known
        if len(self._decoded) > DECODED:
            self._decoded.popitem(last=False)
        return known[1]

    def newest_sessions(self, most: int) -> Iterator[dict[str, Profile]]:
        """Everybody's newest sessions in the order of time, some at a time: shoppers with nothing else of a profile."""
        found: list[tuple[int, bytes, int, Session]] = []
        for key, record in list(self._records.items()):
            for number, session in enumerate(_sessions(record)):
                entry = session.last, key, number, session
                if len(found) < most:
                    heapq.heappush(found, entry)
                elif entry[0] > found[0][0]:
                    heapq.heapreplace(found, entry)
        found.sort(key=lambda entry: entry[0])
        for start in range(0, len(found), SESSIONS_AT_ONCE):
            mine: dict[str, list[Session]] = {}
            for _, key, _, session in found[start : start + SESSIONS_AT_ONCE]:
                mine.setdefault(key.decode("utf-8", "replace"), []).append(session)
            yield {shopper: Profile(sessions=tuple(sessions)) for shopper, sessions in mine.items()}


def _decoded(key: bytes, record: bytes) -> Profile:
    try:
        return _profile.decode(record)[1]
    except msgspec.DecodeError as error:
        log.error("topic=profiles key=%r cannot be read: %s", key, error)
        return NOBODY


def _sessions(record: bytes) -> tuple[Session, ...]:
    try:
        return _visits.decode(record)[1].sessions
    except msgspec.DecodeError:  # a profile without visits ends before them
        return ()
