"""Which learnt thing answered which questions: what the report holds against the future."""

from __future__ import annotations

from collections import Counter

import msgspec

from evaluation.report import Artefact
from jobs.rehearsal import Rehearsal
from ranker.user_vector import Transformer


class Uses:
    """Rankers, models of histories and user vectors, with the questions that each of them answered."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], Artefact] = {}
        self._made: Counter[str] = Counter()

    def asked(self, shop: Rehearsal, ts: int) -> None:
        """Note what a question of this time was just answered with."""
        if shop.trained:
            self._use("ranker", shop.trained[-1].max_event_ms, ts)
        model = shop.snapshot.live.ease
        if model is not None:
            self._use("model of histories", model.ease.max_event_ms, ts)
        user = shop.snapshot.user
        if isinstance(user, Transformer):
            self._use("user vector", user.tower.shape.max_event_ms, ts)

    def artefacts(self) -> tuple[Artefact, ...]:
        """All that was used, kind by kind, the oldest first."""
        return tuple(self._found[key] for key in sorted(self._found))

    def _use(self, kind: str, max_event_ms: int, ts: int) -> None:
        known = self._found.get((kind, max_event_ms))
        if known is None:
            self._made[kind] += 1
            known = Artefact(
                name=f"{kind} {self._made[kind]}", max_event_time=max_event_ms, first_query=ts, last_query=ts, queries=0
            )
        used = msgspec.structs.replace(known, last_query=ts, queries=known.queries + 1)
        self._found[kind, max_event_ms] = used
