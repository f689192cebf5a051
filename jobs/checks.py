"""Whether what was recorded can be learnt from: each measure of the newest days beside what it was before.

A day on which rows are missing, a field is empty, or what followed does not belong to what was shown
spoils a ranker quietly. What is normal is taken from the shop's own days, with their weekdays and their
noise: a closed Saturday or a sale is no failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.ids import DAY_MS
from jobs.drift import MOVED, NOTED, psis
from jobs.gate import Score, ndcg
from jobs.lessons import Lesson
from jobs.tally import DAYS, Daily, Tally, shared

WEEK: Final = 7
LOOKED_BACK: Final = 4  # weeks, for what is normal
FEWEST_DAYS: Final = 5  # before the newest ones, to know what is normal
HALF: Final = 0.5  # of the normal rows of a day
VANISHED: Final = 0.1  # of the normal rows of one kind of event
SOME: Final = 20  # rows of a kind, below which a share says nothing
JUMP: Final = 0.25  # of a share
SIGMAS: Final = 3.0
RATE_BAND: Final = (0.7, 2.0)  # of the normal label rate: what a better or worse ranker may well do
LONG: Final = 10  # rows of a list whose order means something
LISTS: Final = 30  # of a day, to tell how it was
ENOUGH: Final = 50  # of a day, to tell whether its order means something
KNOWING: Final = 4.0  # standard errors above chance: else there was nothing to lose
LOST: Final = 0.5  # of what the blend knew before
UNUSUAL: Final = 3.0  # times as far as a feature has ever moved from one day to the next
MANY: Final = 0.1  # of the features: one alone may move with the calendar, as when an item is new no more
TOLD: Final = 5  # features that are named


class Finding(msgspec.Struct, frozen=True):
    """A measure or field that is not as it was. One that `failed` stops a training, another is told."""

    what: str
    got: str
    normal: str
    failed: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.got}, where {self.normal} is normal"


def fresh_days(newest_ms: int, seen_ms: int) -> int:
    """How many of the newest days nothing was trained on yet, from 1 to 7."""
    return int(min(WEEK, max(1, -(-(newest_ms - seen_ms) // DAY_MS)))) if seen_ms > 0 else 1


def refused(findings: Sequence[Finding]) -> str:
    """Why not to train; empty where nothing failed."""
    failed = [str(one) for one in findings if one.failed]
    return f"the data of the newest days cannot be trusted: {'; '.join(failed)}" if failed else ""


# ---------------------------------------------------------------------- of the records
def of_records(tally: Tally, fresh: int) -> list[Finding]:
    """Volume, empty fields, and acts and labels that belong to nothing.

    Args:
        tally: of the recording.
        fresh: how many of its newest days were not trained on.
    """
    found = [*_volume("events of a day", tally.rows, tally.oldest, HALF)]
    for name, daily in tally.named.items():
        found += _volume(f"{name} events of a day", daily, tally.oldest, VANISHED)
    for (name, field), empty in sorted(tally.empty.items()):
        found += _emptier(f"{name}.{field}", empty, tally.named[name], fresh)
    for field, bare in sorted(tally.bare.items()):
        found += _emptier(f"catalogue.{field}", bare, tally.changed, fresh)
    found += _emptier("acts that name no known list", tally.unjoined, tally.told, fresh, "of them")
    found += _emptier("labels whose list is not known", tally.orphans, tally.labels, fresh, "of them")
    return found + list(_label_rate(tally, fresh))


def _volume(what: str, daily: Daily, oldest: int, least: float) -> Iterator[Finding]:
    """Far fewer rows than on the same weekday, and than on most days."""
    last = min(oldest - 1, LOOKED_BACK * WEEK)  # the oldest day is seldom whole
    before = [daily[day] for day in range(1, last + 1)]
    same = [daily[day] for day in range(WEEK, last + 1, WEEK)]
    trading = [count for count in before if count]
    if len(before) < FEWEST_DAYS or not trading:
        return
    wanted = min(median(trading), median(same)) if len(same) >= 3 else median(trading)
    lowest = min(same) if len(same) >= 3 else min(before)
    got = daily[0]
    if got < least * wanted and got < wanted - 4 * wanted**0.5 and got < lowest:
        yield Finding(what, f"{got:,}", f"{wanted:,.0f}")


def _emptier(what: str, part: Daily, whole: Daily, fresh: int, words: str = "empty") -> Iterator[Finding]:
    """A share that has risen above all it was on any day before."""
    days = [day for day in range(fresh, max(DAYS, max(whole, default=0) + 1)) if whole[day]]
    before = shared(part, whole, days)
    if before.whole < SOME:
        return
    daily = [one.share for day in days if (one := shared(part, whole, [day])).whole >= SOME]
    highest = max([before.share, *daily])
    for day in range(fresh):
        now = shared(part, whole, [day])
        if now.whole < SOME or now.share - before.share <= JUMP:
            continue
        noise = SIGMAS * (max(highest * (1 - highest), 1 / now.whole) / now.whole) ** 0.5
        if now.share > highest + noise:
            yield Finding(what, f"{now.share:.0%} {words} {_when(day)}", f"{before.share:.0%}")
            return


def _label_rate(tally: Tally, fresh: int) -> Iterator[Finding]:
    """What follows a list within an hour, beside its mean and its noise from day to day."""
    days = [day for day in range(fresh, DAYS) if tally.lists[day] >= LISTS]
    if len(days) < FEWEST_DAYS:
        return
    rates = np.array([tally.labels[day] / tally.lists[day] for day in days])
    middle = float(np.median(rates))
    spread = 1.4826 * float(np.median(np.abs(rates - middle)))
    for day in range(fresh):
        lists = tally.lists[day]
        rate = tally.labels[day] / max(lists, 1)
        noise = SIGMAS * (spread**2 + max(middle, 1 / max(lists, 1)) / max(lists, 1)) ** 0.5
        low, high = (band * middle for band in RATE_BAND)
        if lists >= LISTS and abs(rate - middle) > noise and not low <= rate <= high:
            normal = f"{middle:.3f} ± {noise:.3f}"
            yield Finding("labels of a list", f"{rate:.3f} {_when(day)}", normal)
            return


def _when(day: int) -> str:
    return "on the newest day" if day == 0 else f"{day} days before the newest"


# ---------------------------------------------------------------------- of the lessons
def of_lessons(
    lessons: Sequence[Lesson], names: Sequence[str], blend: Score, newest_ms: int, fresh: int
) -> list[Finding]:
    """How many teach, whether their order means something, and how far features have moved.

    Args:
        lessons: in time order.
        names: of the features.
        blend: the score of the channels alone, which learns nothing and so cannot be spoilt.
        newest_ms: time of the newest event.
        fresh: days that were not trained on.
    """
    days = np.array([(newest_ms - one.ts) // DAY_MS for one in lessons], np.int64)
    found = list(_shuffled(lessons, days, blend, fresh))
    return found + list(_moved(lessons, days, names))


def _shuffled(lessons: Sequence[Lesson], days: NDArray[np.int64], blend: Score, fresh: int) -> Iterator[Finding]:
    """What follows a list has nothing to do with it any more: the blend orders it as chance would."""
    long = np.array([len(one.grades) >= LONG for one in lessons], bool)
    days = days[long]
    above = np.array([ndcg(one, blend) - ndcg(one, _chance) for one in lessons if len(one.grades) >= LONG])
    before = above[days >= fresh]
    if len(before) < 2 * LISTS or before.mean() < KNOWING * _error(before):
        return
    normal = float(before.mean())
    daily = [float(above[days == day].mean()) for day in range(fresh, DAYS) if np.count_nonzero(days == day) >= LISTS]
    for day in range(fresh):
        now = above[days == day]
        if len(now) < ENOUGH:
            continue
        mean, error = float(now.mean()), _error(now)
        if mean < min(daily, default=mean) and mean - 1.645 * error <= 0 and mean + 1.96 * error < LOST * normal:
            got = f"the blend's NDCG@10 is {mean:+.4f} ± {error:.4f} above chance {_when(day)}"
            yield Finding("labels look shuffled", f"{got} ({len(now)} lists)", f"{normal:+.4f}")
            return


def _chance(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros(len(matrix), np.float32)


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def _moved(lessons: Sequence[Lesson], days: NDArray[np.int64], names: Sequence[str]) -> Iterator[Finding]:
    """Features of the newest day that have moved further from the days before than any day ever did."""
    blocks = {day: [one for one, at in zip(lessons, days, strict=True) if at == day] for day in range(DAYS)}
    whole = [day for day in range(min(DAYS, WEEK + 1)) if len(blocks[day]) >= LISTS]
    if 0 not in whole or len(whole) < FEWEST_DAYS:
        return
    indices = {}
    for day in whole:
        earlier = [one.features for one, at in zip(lessons, days, strict=True) if at > day]
        if len(earlier) >= 2 * LISTS:
            indices[day] = psis(_thin(earlier), np.concatenate([one.features for one in blocks[day]]))
    if 0 not in indices or len(indices) < FEWEST_DAYS - 1:
        return
    usual = np.max([index for day, index in indices.items() if day], axis=0)
    far = indices[0] > np.maximum(NOTED, UNUSUAL * usual)
    if np.count_nonzero(far & (indices[0] > MOVED)) > MANY * len(names):
        yield Finding("features", f"{_furthest(indices[0] * far, names)} on the newest day", "less on any day before")
    elif far.any():
        yield Finding(
            "features",
            f"{_furthest(indices[0] * far, names)} on the newest day",
            "less on any day before",
            failed=False,
        )


def _furthest(index: NDArray[np.float64], names: Sequence[str]) -> str:
    """The number of those that moved, and the names of the first few with their index."""
    places = [place for place in np.argsort(-index).tolist() if index[place] > 0]
    told = ", ".join(f"{names[place]} {index[place]:.2f}" for place in places[:TOLD])
    return f"PSI of {len(places)} features has risen: {told}"


def _thin(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Some hundred lists, evenly: as many rows as an index needs."""
    return np.concatenate(blocks[:: max(1, len(blocks) // 500)])
