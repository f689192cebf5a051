"""Whether a bundle that was promoted is worse where it counts: the clicks and carts of real shoppers.

While it is on probation a share of the shoppers keeps the bundle before it, so that both are seen on the same
days. The two are compared by their rates per list; the lists of one shopper are not independent of each other,
so errors are those of ratios over shoppers. Surely worse means that it is rolled back, where "surely" holds however
often one looks: a sequential test by a mixture of likelihoods (Robbins 1970; Johari, Pekelis and Walsh, "Always
Valid Inference: Bringing Sequential Analysis to A/B Testing", 2015).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from core.bundle import Bundles
from core.errors import HeadwaterError
from core.settings import Settings
from jobs.history import note
from jobs.recent import recent
from streams.log import Entry

log = logging.getLogger("headwater")

LOOK_S: Final = 300.0  # between two looks
CHANCE: Final = 0.01  # that one which is as good is rolled back, by all rates and looks of its probation together
LOSS: Final = 0.1  # of the rate before: a loss of this size is what the test is most sensitive to
SHOPPERS: Final = 30  # of each, below which nothing is concluded
RATES: Final = {"click": ("click", "view"), "cart": ("cart", "buy")}


class _Decision(msgspec.Struct, frozen=True):
    """What of a served list is looked at."""

    recommendation_id: str
    ts: int
    shopper: str
    bundle: str


class _Label(msgspec.Struct, frozen=True, array_like=True):
    v: int
    recommendation_id: str
    item: str
    outcome: str
    ts: int
    delay_ms: int
    shown: bool


_decisions: Final = msgspec.msgpack.Decoder(_Decision)
_labels: Final = msgspec.msgpack.Decoder(_Label)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a list was followed by something, with its standard error."""

    rate: float
    error: float
    lists: int
    shoppers: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The rates of the bundle on probation and of the one before it, by kind."""

    now: dict[str, Rate]
    before: dict[str, Rate]

    def worse(self, fewest: int) -> str:
        """What is worse, and by how much; empty where nothing is, or too little was seen."""
        for name, now in self.now.items():
            before = self.before[name]
            seen = min(now.lists, before.lists) >= fewest and min(now.shoppers, before.shoppers) >= SHOPPERS
            error = float(np.hypot(now.error, before.error))
            if seen and error > 0 and before.rate - now.rate > doubt(error, LOSS * before.rate):
                return (
                    f"{name} rate {now.rate:.4f} of {now.lists:,} lists, {before.rate:.4f} of {before.lists:,} "
                    f"with the bundle before: {(before.rate - now.rate) / error:.1f} standard errors"
                )
        return ""


def doubt(error: float, scale: float) -> float:
    """How far a difference may lie below 0, at any of any number of looks, before it is held for real.

    Args:
        error: standard error of the difference as of now, above 0.
        scale: typical size of the differences that are looked for, of the same unit.
    """
    variance, mixing = error**2, max(scale, 1e-12) ** 2
    chance = CHANCE / len(RATES)
    logs = math.log((variance + mixing) / variance) / 2 - math.log(chance)
    return math.sqrt(2 * variance * (variance + mixing) / mixing * logs)


def compare(entries: Iterable[Entry], bundle: str, before: str, since_ms: int) -> Compared:
    """Rates of two bundles over lists that were served since a moment.

    Args:
        entries: of `decisions` and `labelled`, in any order.
        bundle: id of the one on probation.
        before: id of the one that a share of the shoppers keeps.
        since_ms: lists of this time and later count.
    """
    lists: dict[str, tuple[str, str]] = {}  # recommendation → bundle, shopper
    followed: dict[str, set[str]] = {name: set() for name in RATES}
    for entry in entries:
        if entry.value is None:
            continue
        try:
            if entry.topic == "decisions":
                one = _decisions.decode(entry.value)
                if one.ts >= since_ms and one.bundle in (bundle, before) and one.shopper:
                    lists[one.recommendation_id] = one.bundle, one.shopper
            else:
                label = _labels.decode(entry.value)
                for name, outcomes in RATES.items():
                    if label.shown and label.outcome in outcomes:
                        followed[name].add(label.recommendation_id)
        except msgspec.DecodeError:
            continue  # what cannot be read was dead-lettered when it came
    return Compared(*({name: _rate(lists, one, followed[name]) for name in RATES} for one in (bundle, before)))


def _rate(lists: dict[str, tuple[str, str]], bundle: str, followed: set[str]) -> Rate:
    """A ratio of sums over shoppers, and its error by linearisation (Cochran, "Sampling Techniques", 1977)."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, (served, shopper) in lists.items():
        if served == bundle:
            counts[shopper][0] += 1
            counts[shopper][1] += name in followed
    if len(counts) < 2:
        return Rate(0.0, 0.0, sum(seen for seen, _ in counts.values()), len(counts))
    table = np.array(list(counts.values()), np.float64)
    seen, hits = table.sum(0)
    rate = hits / seen
    off = table[:, 1] - rate * table[:, 0]
    error = np.sqrt(np.square(off).sum() * len(table) / (len(table) - 1)) / seen
    return Rate(float(rate), float(error), int(seen), len(table))


def look(settings: Settings, now_ms: int) -> Compared | None:
    """Compare the bundle on probation with the one before, and roll it back if it is worse; None of none.

    Raises:
        Unavailable: the archive cannot be read.
        Missing: the bundle before is gone.
    """
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    pointer = store.pointer()
    rival = pointer.rival(now_ms, settings.bundles.probation_s) if pointer else None
    if pointer is None or rival is None or not settings.bundles.holdback:
        return None
    entries = recent(settings, ("decisions", "labelled"), pointer.since_ms)
    found = compare(entries, pointer.id, rival, pointer.since_ms)
    why = found.worse(settings.bundles.probation_lists)
    if why and store.pointer() == pointer:  # nobody has moved it meanwhile
        back = store.rollback()
        log.error("bundle=%s rolled back to %s: %s", pointer.id, back, why)
        note(settings, "probation", now_ms, "rolled back", f"{pointer.id} is worse: {why}", back)
    return found


async def watch(settings: Settings, now_ms: Callable[[], int]) -> None:
    """Look now and then until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await asyncio.to_thread(look, settings, now_ms())
        except HeadwaterError as error:
            log.error("the bundle on probation cannot be looked after: %s", error)
