"""Takes a newly promoted bundle: loads it aside, makes it ready, and lets it answer from the next request on.

What served before stays warm, so that a rollback is a change of roles and nothing is loaded. One thread looks at
the pointer; everything that takes long happens in it, in small pieces, outside the lock that requests take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from core.bundle import Bundles, Pointer
from core.errors import HeadwaterError, Missing
from core.settings import Settings
from gateway.filling import Filler, Filling
from gateway.roster import Roles, Roster, Standing
from jobs.embedding import Embedder
from ranker import recommend
from ranker.bundle import Opened, open_bundle
from ranker.live import Fitted
from ranker.space import Space
from ranker.user_vector import user_vector

log = logging.getLogger("headwater")

LOOK_S: Final = 0.25  # between two looks at the pointer
WAIT_S: Final = 0.02
BREATH: Final = 4.0  # between two trial requests others have so many times as long


class Swapper:
    """Follows the pointer. All but `load_first` is called by one thread.

    Args:
        settings: of the shop.
        roster: who answers.
        filler: what gives a new space its vectors.
        embedder: what the shop was started with: the encoder of the current bundle or of the settings, or None.
        now_ms: the wall clock, that a probation goes by.
    """

    def __init__(
        self, settings: Settings, roster: Roster, filler: Filler, embedder: Embedder | None, now_ms: Callable[[], int]
    ) -> None:
        self._settings, self._roster, self._filler, self._now_ms = settings, roster, filler, now_ms
        self._bundles = Bundles(settings.bundles.path, settings.bundles.keep)
        self._text = embedder is not None
        self._base_space = embedder.space_id if embedder is not None and embedder.folder is None else None
        self._refused: set[str] = set()  # a bundle that does not load is not tried again and again
        self._told = ""
        self._stopping = threading.Event()

    # ------------------------------------------------------------------ the thread
    def run(self, stopping: threading.Event) -> None:
        """Look now and then until `stopping`."""
        self._stopping = stopping
        while not stopping.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Bring who answers to what the pointer and the name of the unseen bundle say."""
        try:
            pointer, unseen = self._bundles.pointer(), self._bundles.shadow_id()
        except HeadwaterError as error:
            self._tell("current", error)
            return
        self._told = ""
        wanted = {unseen, *((pointer.id, *pointer.previous[:1]) if pointer else ())}
        self._refused &= {one for one in wanted if one}
        if pointer is not None:
            self._serve(pointer)
            self._warm_before(pointer)
            self._hold_back(pointer)
        self._have_unseen(unseen)

    def _serve(self, pointer: Pointer) -> None:
        roles = self._roster.roles
        if pointer.id == roles.serving.bundle:
            return
        standing = roles.warm(pointer.id) or self._loaded(pointer.id)
        if standing is not None:
            self._change(self._held(replace(roles, serving=standing, before=roles.serving, held_back=0.0), pointer))
            log.info("bundle=%s serves", pointer.id)

    def _warm_before(self, pointer: Pointer) -> None:
        """After a start, what served before has to be loaded; on probation nothing else will do."""
        roles, rival = self._roster.roles, pointer.rival(self._now_ms(), self._settings.bundles.probation_s)
        wanted = rival or (pointer.previous[0] if roles.before is None and pointer.previous else None)
        if wanted is None or pointer.id != roles.serving.bundle or (roles.before and roles.before.bundle == wanted):
            return
        standing = roles.warm(wanted) or self._loaded(wanted)
        if standing is not None:
            self._change(replace(roles, before=standing))
            log.info("bundle=%s stays warm", wanted)

    def _hold_back(self, pointer: Pointer) -> None:
        roles = self._roster.roles
        held = self._held(roles, pointer)
        if held.held_back != roles.held_back:
            self._change(held)

    def _held(self, roles: Roles, pointer: Pointer) -> Roles:
        """Those roles with the share that the old bundle has while the new one is on probation."""
        rival = pointer.rival(self._now_ms(), self._settings.bundles.probation_s)
        both = (roles.serving.bundle, roles.before.bundle if roles.before else None) == (pointer.id, rival)
        return replace(roles, held_back=self._settings.bundles.holdback if both else 0.0)

    def _have_unseen(self, bundle_id: str | None) -> None:
        roles = self._roster.roles
        if bundle_id == roles.serving.bundle or not self._settings.bundles.shadow_share:
            bundle_id = None
        if bundle_id == (roles.unseen.bundle if roles.unseen else None):
            return
        standing = None
        if bundle_id is not None:
            standing = roles.warm(bundle_id) or self._loaded(bundle_id)
        if standing is not roles.unseen:
            log.info("bundle=%s answers unseen", standing.bundle if standing is not None else "none")
            self._change(replace(roles, unseen=standing))

    def _change(self, roles: Roles) -> None:
        self._roster.change(roles)
        self._filler.keep(roles.fillings())

    def _tell(self, bundle_id: str, error: Exception) -> None:
        told = f"{bundle_id}: {error}"
        if told != self._told:
            self._told = told
            log.error("bundle=%s not loaded: %s", bundle_id, error, exc_info=not isinstance(error, HeadwaterError))

    # ------------------------------------------------------------------ the first one
    def load_first(self) -> Opened | None:
        """Let the current bundle answer, before there are requests; None where there is none that can be used.

        What is not in its vectors is for the caller to see to: `Filler.seed` and `Filler.begin`.
        """
        bundle_id = None
        try:
            bundle_id = self._bundles.current_id()
            if bundle_id is None:
                return None
            opened = self._open(bundle_id)
            standing = self._standing(opened)
        except HeadwaterError as error:
            log.error("bundle=%s not loaded, the blend answers: %s", bundle_id or "current", error)
            if bundle_id is not None:
                self._refused.add(bundle_id)
            return None
        if standing.filling is not None and self._filler.of(standing.filling.space.space_id) is None:
            self._filler.add(standing.filling)
        self._change(Roles(standing))
        return opened

    # ------------------------------------------------------------------ aside
    def _loaded(self, bundle_id: str) -> Standing | None:
        """A bundle that is ready to answer; None where it cannot, which is told once."""
        if bundle_id in self._refused:
            return None
        try:
            opened = self._open(bundle_id)
            standing = self._standing(opened)
            if standing.filling is not None and not standing.filling.ready:
                self._fill(standing.filling, opened)
            self._try(standing)
        except _Ended:
            return None
        except Exception as error:  # of whatever kind: what serves goes on
            self._refused.add(bundle_id)
            self._filler.keep(self._roster.roles.fillings())
            self._tell(bundle_id, error)
            return None
        return standing

    def _open(self, bundle_id: str) -> Opened:
        return open_bundle(self._bundles.folder(bundle_id), self._bundles.load(bundle_id), self._settings)

    def _standing(self, opened: Opened) -> Standing:
        filling, fitted = self._filling(opened), Fitted()
        if opened.ease is not None:
            fitted.fit(opened.ease, self._roster.rows())
        base = self._roster.roles.serving.snapshot
        space = filling.space if filling is not None else None
        user = user_vector(opened.tower, space)
        snapshot = replace(base, space=space, ranker=opened.ranker, bundle=opened.manifest.id, user=user)
        return Standing(snapshot, fitted, filling)

    def _filling(self, opened: Opened) -> Filling | None:
        """The space of a bundle, a warm one where there is one; without text any bundle can be used."""
        wanted = opened.manifest.space_id
        if not self._text or not wanted:
            return self._roster.roles.serving.filling
        warm = self._filler.of(wanted)
        if warm is not None:
            warm.space.queries = opened.queries if opened.queries is not None else warm.space.queries
            return warm
        embedder = self._encoder(opened)
        space = Space(embedder.space_id, embedder.dim, self._settings.index)
        space.queries = opened.queries
        return Filling(space, embedder)

    def _encoder(self, opened: Opened) -> Embedder:
        """The encoder of a bundle.

        Raises:
            Missing: it carries none, and the one of the settings is another.
        """
        manifest, found = opened.manifest, None
        if opened.encoder is not None:
            found = Embedder.of_bundle(self._settings, opened, manifest)
        elif self._base_space in (None, manifest.space_id):
            found = Embedder.open(self._settings)
            self._base_space = found.space_id if found is not None else None
        if found is None or found.space_id != manifest.space_id:
            raise Missing(
                f"bundle {manifest.id} is of space {manifest.space_id}, this process encodes in {self._base_space}: "
                "start it with the encoder and text settings of the bundle, or train again"
            )
        return found

    def _fill(self, filling: Filling, opened: Opened) -> None:
        """Give a new space the bundle's vectors, and those of items that are newer or have changed since.

        Raises:
            Exception: its encoder failed.
        """
        self._filler.add(filling)
        self._filler.stock(filling, self._roster.sold())
        places = self._filler.seed(filling, opened)
        rows = self._roster.rows()
        there = np.array([rows[opened.items[place]] for place in places], np.int64)
        filling.space.fill(there, opened.vectors, np.array(places, np.int64))
        self._filler.begin(filling)
        while self._filler.behind(filling):
            if filling.failure is not None:
                raise filling.failure
            if self._stopping.wait(WAIT_S):
                raise _Ended
        self._roster.rows()  # what was encoded has its row before its vector comes
        filling.space.refresh(self._roster.row)
        self._filler.end(filling)

    def _try(self, standing: Standing) -> None:
        """Answer what was asked of late, and throw the answers away: the first requests need not wait for caches."""
        names, ranker = standing.snapshot.feature_names, standing.snapshot.ranker
        if ranker is not None:
            ranker.score(np.zeros((self._settings.ranking.candidates, len(names)), np.float32))
        if standing.filling is not None:
            standing.filling.embedder.query("a word")
        for request, profile in self._roster.asked():
            with self._roster.reading(standing) as snapshot:
                started = time.perf_counter()
                recommend.recommend(request, profile, snapshot)
            if self._stopping.wait(BREATH * (time.perf_counter() - started)):
                raise _Ended


class _Ended(Exception):
    """The process ends while a bundle is being loaded."""
