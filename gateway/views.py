"""What the serving topics say, brought to where requests are answered from.

Of two records of one key the one with the higher version counts, whichever comes last. Vectors go
to the index once the catalogue has their item, and leave it with that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.settings import Settings
from core.stats import ItemStats
from gateway.profiles import Profiles
from ranker.live import Live
from ranker.space import Space
from streams.topology import SERVING
from streams.wire import VECTORS, ItemVector, decoders

log = logging.getLogger("headwater")

TOPICS: Final = (*SERVING, VECTORS)
_UNUSABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, ValueError)


class Views:
    """All that follows the serving topics in one process; one thread calls it.

    `unusable` counts records that could not be read or do not fit the settings.
    """

    def __init__(self, settings: Settings, live: Live, space: Space | None) -> None:
        self._half_lives = len(settings.popularity.half_lives_s)
        self._live, self._space = live, space
        self._decoders = decoders()
        self.profiles = Profiles()
        self.unusable = 0
        self._loading = True
        self._versions: dict[str, dict[str, int]] = {topic: {} for topic in TOPICS}
        self._early: dict[str, NDArray[np.float32]] = {}  # vectors of items that are not in the catalogue
        self._found: dict[str, NDArray[np.float32]] = {}  # vectors that `flush` will offer

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
        if self._found and self._space is not None:
            self._space.offer(self._space.space_id, list(self._found), np.stack(list(self._found.values())))
            self._found = {}

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
            self._sold(key, sold=found is not None)

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
            return
        found: ItemVector
        version, found = self._decoders[VECTORS].decode(value)
        if self._space is None or found.space_id != self._space.space_id or version < versions.get(item, version):
            return
        vector = np.frombuffer(found.vector, "<f4")
        if vector.shape != (self._space.dim,):
            raise ValueError(f"a vector of {vector.size} numbers, {self._space.space_id} has {self._space.dim}")
        versions[item] = version
        kept = self._found if item in self._versions["catalogue"] else self._early
        kept[item] = vector

    def _sold(self, item: str, *, sold: bool) -> None:
        if not sold:
            self._forget(item)
        elif item in self._early:
            self._found[item] = self._early.pop(item)

    def _forget(self, item: str) -> None:
        self._early.pop(item, None)
        self._found.pop(item, None)
        if self._space is not None:
            self._space.remove([item])
