"""The challenger beside the champion: on equal candidates in one space, by a replay where vectors differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from core.settings import Settings
from jobs.champion import Champion
from jobs.duel import Duel, Side, fight
from jobs.gate import Verdict, decide, judge
from jobs.learning import best_trees, learn
from jobs.lessons import Lesson
from jobs.material import Material
from jobs.recordings import EVENTS
from jobs.vector_health import Health, examine
from models.text import item_text
from ranker import features
from ranker.model import Ranker
from ranker.user_vector import WEIGHTED_MEAN, UserVector

HELD_OUT: Final = 0.2  # of the lessons, the newest: judged on, then learnt from too
NEWER: Final = 20  # lists that what serves has not learnt from, to compare on
FEWEST: Final = 10  # lessons, whatever the settings say: below, there is nothing to hold out


class Answering(NamedTuple):
    """How the challenger answers in a replay: see `compare`."""

    unseen_ms: int
    user: UserVector


class Comparison(NamedTuple):
    """How many trees newer lists are worth, and the verdict; None with the reason where nothing could be compared."""

    trees: int
    verdict: Verdict | None
    why: str


def compare(
    material: Material,
    champion: Champion,
    lessons: Sequence[Lesson],
    unseen_ms: int = 0,
    user: UserVector = WEIGHTED_MEAN,
) -> Comparison:
    """Judge a ranker that has not seen the newest lessons; no verdict where too few are new to the champion too.

    On lists that it has learnt from, what serves would always look better.

    Args:
        material: what the lessons were made from.
        champion: what serves.
        lessons: in time order.
        unseen_ms: what happened from here on the challenger's encoder has not learnt from; 0 for published weights.
        user: the challenger's rule of the user vector. Where the champion has another, each answers by its own.
    """
    rival = champion.elsewhere
    if rival is None and champion.here is not None and champion.here.user is not user:
        rival = champion.here
    if rival is not None:
        return _by_replay(material, champion, rival, lessons, Answering(unseen_ms, user))
    settings, held = material.settings, round(len(lessons) * (1 - HELD_OUT))
    split = next((n for n in range(held, len(lessons)) if lessons[n].ts > champion.seen_ms), len(lessons))
    trees = best_trees(lessons[:split], settings)
    fresh, wanted = len(lessons) - split, min(NEWER, len(lessons) - held)
    if fresh < wanted:
        why = f"{fresh} lists are newer than {champion.name}, and it takes {wanted} to compare with it"
        return Comparison(trees, None, why)
    challenger = learn(lessons[:split], settings, trees)
    names = features.names(settings)
    verdict = judge(challenger.score, champion.score, lessons[split:], champion.name, names, guarded=champion.trained)
    return Comparison(trees, verdict, verdict.why)


def _by_replay(
    material: Material, champion: Champion, rival: Side, lessons: Sequence[Lesson], how: Answering
) -> Comparison:
    """Let both answer the same newer moments."""
    settings = material.settings
    from_ms = how.unseen_ms or lessons[round(len(lessons) * (1 - HELD_OUT))].ts
    until_ms = from_ms - round(settings.attribution.window_s * 1000)  # what followed these lists is older than from_ms
    earlier = [one for one in lessons if one.ts < until_ms]
    trees = best_trees(earlier, settings)
    if len(earlier) < FEWEST:
        return Comparison(trees, None, f"{len(earlier)} lists are older than what the encoder has not seen")
    events = sum(entry.ts >= from_ms for entry in material.source.entries(EVENTS))

    def twin(known: Sequence[Lesson]) -> Ranker | None:
        """The champion's ranker, had it been trained on the same days as the challenger's."""
        known = [one for one in known if one.ts < until_ms]
        return learn(known, settings, best_trees(known, settings)) if len(known) >= FEWEST else None

    stale = champion.trained and champion.seen_ms >= from_ms
    window_ms = round(settings.training.window_s * 1000)
    duel = fight(
        material.messages("comparing"),
        settings,
        Side(material.embedder, learn(earlier, settings, trees), how.user),
        rival,
        from_ms,
        events,
        learn_from_ms=max(0, material.newest_ms - window_ms) if stale else None,
        twin=twin if stale else None,
    )
    if len(duel.shoppers) < NEWER:
        return Comparison(trees, None, f"{len(duel.shoppers)} visits are new to both, and it takes {NEWER} to compare")
    health, ours, theirs = _health(duel, settings), duel.challenger, duel.champion
    verdict = decide(
        ours, theirs, duel.shoppers, champion.name, broken=health.broken, guarded=champion.trained, more=health.figures
    )
    return Comparison(trees, verdict, verdict.why)


def _health(duel: Duel, settings: Settings) -> Health:
    """Of the vectors of all items that have one in both spaces; in the challenger's own where there is no other."""
    live, ours, theirs = duel.shop.snapshot.live, duel.shop.beside, duel.shop.snapshot.space
    if ours is None:
        return Health({}, ())
    ours.refresh(live.row)
    known = np.pad(ours.has, (0, max(0, len(live) - len(ours.has))))[: len(live)]
    if theirs is not None:
        known = known & np.pad(theirs.has, (0, max(0, len(live) - len(theirs.has))))[: len(live)]
    rows = np.flatnonzero(known)
    texts = [item_text(item, settings.text) if (item := live.items[row]) else "" for row in rows.tolist()]
    return examine(ours.of(rows)[0], texts, theirs.of(rows)[0] if theirs is not None else None)
