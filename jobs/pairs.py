"""What an encoder learns from: which items go together, by what shoppers did before a moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.events import Event
from core.ids import DAY_MS, HOUR_MS, signed64
from core.settings import TuningSettings
from models.pairs import Pairs, Rows

STRENGTH: Final = {
    "view_item": 1.0, "select_item": 1.0, "add_to_wishlist": 2.0, "like": 3.0, "add_to_cart": 3.0, "purchase": 5.0,
}  # fmt: skip
LIKED, DISLIKED = 4.0, 2.0  # stars from which a rating is a like, and up to which it is a dislike
AGAINST: Final = frozenset({"dislike", "hide", "refund"})
STEPS: Final = 3  # items before one that it is paired with, in whatever sessions
FADE: Final = 0.7  # of a pair's weight with each step between the two
TOGETHER_MS: Final = DAY_MS  # two items nearer in time than this go together as in one visit
APART: Final = 0.5  # what pairs of two visits weigh beside that
BASKET: Final = 20  # items of a basket that are paired
CAP: Final = 50.0  # most that pairs to one item may weigh on one day, in pairs of purchases
TOO_MANY: Final = 400  # events with items within an hour: no person does that
CROP, REORDER = "crop", "reorder"
CHANCE: Final = 0.5  # that a history is cropped, or two neighbours of it change places


class Touch(NamedTuple):
    """One item that somebody had to do with. `together` is the same for items of one basket."""

    ts: int
    item: str
    strength: float
    together: str = ""


@dataclass(slots=True)
class Histories:
    """What each shopper did with items, oldest first, and what they did not want."""

    touches: dict[str, list[Touch]] = field(default_factory=dict)
    against: dict[str, dict[str, int]] = field(default_factory=dict)  # shopper → item → when first (ms)
    too_quick: dict[str, int] = field(default_factory=dict)  # who is no person → when that showed (ms)
    newest_ms: int = 0
    repeated: int = 0  # events that came once more

    def shoppers(self) -> Iterator[tuple[str, list[Touch]]]:
        """Who is a person, and what they did."""
        return ((who, seen) for who, seen in self.touches.items() if who not in self.too_quick)

    def before(self, cut_ms: int) -> Histories:
        """What was known strictly before a moment."""
        told = {who: [one for one in seen if one.ts < cut_ms] for who, seen in self.touches.items()}
        against = {who: {item: ts for item, ts in items.items() if ts < cut_ms} for who, items in self.against.items()}
        quick = {who: ts for who, ts in self.too_quick.items() if ts < cut_ms}
        newest = [seen[-1].ts for seen in told.values() if seen]
        newest += [ts for items in against.values() for ts in items.values()]
        return Histories(
            {who: seen for who, seen in told.items() if seen},
            {who: items for who, items in against.items() if items},
            quick,
            max(newest, default=0),
        )

    def times(self) -> list[int]:
        """Of all that people did, sorted."""
        return sorted(one.ts for _, seen in self.shoppers() for one in seen)


def histories(events: Iterable[Event], before_ms: int, since_ms: int = 0) -> Histories:
    """Read histories from events in any order. A repeated event counts once.

    Args:
        events: of a recording.
        before_ms: only events strictly older.
        since_ms: and not older than this.
    """
    found = Histories()
    seen: set[int] = set()
    for one in events:
        if not since_ms <= one.ts < before_ms or not one.items:
            continue
        if (mark := signed64(f"{one.shopper}\0{one.event_id}")) in seen:
            found.repeated += 1
            continue
        seen.add(mark)
        _take(found, one)
    found.touches = {who: sorted(found.touches[who], key=lambda touch: touch.ts) for who in sorted(found.touches)}
    for who, touches in found.touches.items():
        if (quick_ms := _quick(touches)) is not None:
            found.too_quick[who] = quick_ms
    return found


def _take(found: Histories, one: Event) -> None:
    if _unwanted(one):
        known = found.against.setdefault(one.shopper, {})
        known.update({line.item_id: min(one.ts, known.get(line.item_id, one.ts)) for line in one.items})
    elif (strength := _strength(one)) > 0:
        together = one.event_id if len(one.items) > 1 else ""
        mine = found.touches.setdefault(one.shopper, [])
        mine += [Touch(one.ts, line.item_id, strength, together) for line in one.items]
    else:
        return
    found.newest_ms = max(found.newest_ms, one.ts)


def _unwanted(one: Event) -> bool:
    return one.name in AGAINST or (one.name == "rating" and (one.rating or 0.0) <= DISLIKED)


def _strength(one: Event) -> float:
    if one.name == "rating":
        return STRENGTH["like"] if (one.rating or 0.0) >= LIKED else 0.0
    return STRENGTH.get(one.name, 0.0)


def _quick(touches: Sequence[Touch]) -> int | None:
    """When there had been more acts within an hour than a person is capable of; a basket is one act."""
    moments = [one.ts for one in touches if not one.together]
    moments = sorted([*moments, *{one.together: one.ts for one in touches if one.together}.values()])
    later = zip(moments, moments[TOO_MANY:], strict=False)
    return next((end for begin, end in later if end - begin < HOUR_MS), None)


def pairs(
    found: Histories, rows: Mapping[str, int], tuning: TuningSettings, *, now_ms: int, seed: int = 0, new_ms: int = 0
) -> Pairs:
    """Weighted pairs of items: each with those shortly before it, and with its basket.

    A pair weighs as much as the later touch, less with age and distance; what a shopper did not want
    is in none of their pairs, and is held against what they wanted.

    Args:
        found: histories.
        rows: of the items that have a text; others are passed over.
        tuning: half-life, augmentation of sequences, share of older pairs.
        now_ms: ages are counted from here.
        seed: of augmentation.
        new_ms: where above 0, all pairs older than this together get the weight `tuning.replay`.
    """
    day_weight: dict[tuple[int, int], float] = defaultdict(float)
    one, other, weights, times = [], [], [], []
    half_life_ms = tuning.half_life_s * 1000.0
    for who, touches in found.shoppers():
        unwanted = found.against.get(who, {})
        liked = [touch for touch in touches if touch.item in rows and touch.item not in unwanted]
        for first, second, weight in _pairs_of(_augmented(liked, tuning.augment, seed, who)):
            aged = weight * 0.5 ** ((now_ms - second.ts) / half_life_ms)
            day = (second.ts // DAY_MS, rows[second.item])
            if day_weight[day] >= CAP * STRENGTH["purchase"]:
                continue
            day_weight[day] += weight
            one.append(rows[first.item])
            other.append(rows[second.item])
            weights.append(aged)
            times.append(second.ts)
    weighed = np.array(weights, np.float32)
    if new_ms and len(weighed):
        weighed = _rebalanced(weighed, np.array(times) < new_ms, tuning.replay)
    first_rows, second_rows = np.array(one, np.int64), np.array(other, np.int64)
    return Pairs.of(len(rows), first_rows, second_rows, weighed, _against(found, rows))


def _pairs_of(touches: Sequence[Touch]) -> Iterator[tuple[Touch, Touch, float]]:
    """Earlier and later touch, and the weight."""
    steps = _steps(touches)
    for at, group in enumerate(steps):
        share = 1.0 / len(group) ** 0.5
        for place, second in enumerate(group[:BASKET]):
            for first in group[:place]:
                yield first, second, second.strength * 2 * share / len(group) ** 0.5
            for back in range(1, min(STEPS, at) + 1):
                before = steps[at - back]
                near = 1.0 if second.ts - before[-1].ts < TOGETHER_MS else APART
                weight = second.strength * FADE ** (back - 1) * near * share / len(before[:BASKET]) ** 0.5
                for first in before[:BASKET]:
                    yield first, second, weight


def _steps(touches: Sequence[Touch]) -> list[list[Touch]]:
    """Touches as steps: a basket is one; the same item again is none, and counts as the strongest it was."""
    steps: list[list[Touch]] = []
    for touch in touches:
        last = steps[-1] if steps else []
        if last and touch.together and last[0].together == touch.together:
            if all(one.item != touch.item for one in last):
                last.append(touch)
        elif len(last) == 1 and last[0].item == touch.item:
            last[0] = max(last[0], touch, key=lambda one: one.strength)
        else:
            steps.append([touch])
    return steps


def _augmented(touches: list[Touch], augment: Collection[str], seed: int, who: str) -> list[Touch]:
    """A history as it might have been: a part of it, or with some neighbours in the other order."""
    if not touches or not {CROP, REORDER} & set(augment):
        return touches
    chance = np.random.default_rng((seed, signed64(who) & 0xFFFFFFFF))
    if CROP in augment and chance.random() < CHANCE:
        length = int(chance.integers(1, len(touches) + 1))
        start = int(chance.integers(0, len(touches) - length + 1))
        touches = touches[start : start + length]
    if REORDER in augment:
        touches = list(touches)
        for at in range(0, len(touches) - 1, 2):
            if chance.random() < CHANCE:
                touches[at], touches[at + 1] = touches[at + 1], touches[at]
    return touches


def _rebalanced(weights: NDArray[np.float32], old: NDArray[np.bool_], replay: float) -> NDArray[np.float32]:
    """Weights such that the old pairs make up a share, where there are both."""
    before, after = float(weights[old].sum()), float(weights[~old].sum())
    if before <= 0 or after <= 0:
        return weights
    factor = replay / (1 - replay) * after / before
    return np.where(old, weights * factor, weights).astype(np.float32)


def _against(found: Histories, rows: Mapping[str, int]) -> tuple[Rows, Rows]:
    """Items liked, and items the same shopper did not want."""
    one, other = [], []
    for who, touches in found.shoppers():
        unwanted = found.against.get(who, {})
        refused = [rows[item] for item in unwanted if item in rows]
        if not refused:
            continue
        liked = {rows[touch.item] for touch in touches if touch.item in rows} - set(refused)
        for row in sorted(liked)[:BASKET]:
            one += [row] * len(refused)
            other += refused
    return np.array(one, np.int64), np.array(other, np.int64)
