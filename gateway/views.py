"""What the serving topics say, brought to where requests are answered from.

Of two records of one key the one with the higher version counts, whichever comes last. Vectors go
to the spaces that are warm once the catalogue has their item, and leave them with that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from core.catalogue import Item
from core.settings import Settings
from core.stats import ItemStats
from gateway.filling import Brought, Filler
from gateway.profiles import Profiles
from ranker.live import Live
from streams.topology import SERVING
from streams.wire import VECTORS, ItemVector, decoders

log = logging.getLogger("headwater")

TOPICS: Final = (*SERVING, VECTORS)
_BySpace = dict[str, Brought]
_UNUSABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, ValueError)


class Views:
    """All that follows the serving topics in one process; one thread calls it.

    `unusable` counts records that could not be read or do not fit the settings.
    """

    def __init__(self, settings: Settings, live: Live, filler: Filler) -> None:
        self._half_lives = len(settings.popularity.half_lives_s)
        self._live, self._filler = live, filler
        self._decoders = decoders()
        self.profiles = Profiles()
        self.unusable = 0
        self._loading = True
        self._versions: dict[str, dict[str, int]] = {topic: {} for topic in TOPICS}
        self._early: dict[str, _BySpace] = {}  # vectors of items that are not in the catalogue
        self._found: dict[str, _BySpace] = {}  # vectors that `flush` will offer

    def take(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Take a record; what cannot be used is told and passed over."""
        try:
            if topic == "profiles":
                self._profile(key, value)
            elif topic == VECTORS:
                self._vector(key.decode(), value)
            else:
                self._item(topic, key.decode(), value)
        except _UNUSABLE as error:
            self.unusable += 1
            if self.unusable & (self.unusable - 1) == 0:  # the 1st, 2nd, 4th, 8th …
                log.error("topic=%s key=%r cannot be used (%d so far): %s", topic, key, self.unusable, error)

    def flush(self) -> None:
        """Offer the vectors that have come, all at once: the index takes them in batches."""
        found, self._found = self._found, {}
        by_space: dict[str, list[Brought]] = {}
        for one in found.values():
            for space_id, brought in one.items():
                by_space.setdefault(space_id, []).append(brought)
        for space_id, some in by_space.items():
            self._filler.take(space_id, some)

    def loaded(self, refresh: Callable[[], None]) -> None:
        """Everything that was there at the start has been taken: enter everybody's newest sessions.

        `refresh` brings some of them to the live state, so that nobody waits for all of them.
        """
        self.flush()
        for some in self.profiles.newest_sessions(self._live.settings.sessions.kept):
            for shopper, profile in some.items():
                self._live.offer("profiles", shopper, profile)
            refresh()
        self._loading = False

    def _profile(self, key: bytes, value: bytes | None) -> None:
        if self._loading:
            self.profiles.load(key, value)
            return
        profile = self.profiles.put(key, value)
        if profile is not None:
            self._live.offer("profiles", key.decode(), profile)

    def _item(self, topic: str, key: str, value: bytes | None) -> None:
        versions = self._versions[topic]
        if value is None:
            versions.pop(key, None)
            found = None
        else:
            version, found = self._decoders[topic].decode(value)
            if version < versions.get(key, version):
                return
            if isinstance(found, ItemStats):
                self._check(found)
            versions[key] = version
        self._live.offer(topic, key, found)
        if topic == "catalogue":
            self._sold(key, found)

    def _check(self, stats: ItemStats) -> None:
        """Counters of another number of half-lives are of before a change of the settings."""
        for counter in stats.counters.values():
            if len(counter.faded) != self._half_lives:
                raise ValueError(
                    f"counted with {len(counter.faded)} half-lives, popularity.half_lives_s names {self._half_lives}: "
                    "raise worker.version and let the workers count anew"
                )

    # ------------------------------------------------------------------ vectors
    def _vector(self, item: str, value: bytes | None) -> None:
        versions = self._versions[VECTORS]
        if value is None:
            versions.pop(item, None)
            self._forget(item)
            self._filler.lose(item)
            return
        found: ItemVector
        version, found = self._decoders[VECTORS].decode(value)
        filling = self._filler.of(found.space_id)
        if filling is None or version < versions.get(item, version):  # a worker may be ahead, or behind
            return
        vector = np.frombuffer(found.vector, "<f4")
        if vector.shape != (filling.space.dim,):
            raise ValueError(f"a vector of {vector.size} numbers, {found.space_id} has {filling.space.dim}")
        versions[item] = version
        kept = self._found if item in self._versions["catalogue"] else self._early
        kept.setdefault(item, {})[found.space_id] = Brought(item, found.text_ts, vector)

    def _sold(self, key: str, item: Item | None) -> None:
        if item is None:
            self._forget(key)
        elif key in self._early:
            self._found[key] = self._early.pop(key)
        self._filler.note(key, item)

    def _forget(self, item: str) -> None:
        self._early.pop(item, None)
        self._found.pop(item, None)
