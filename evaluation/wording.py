"""How figures are written and a comparison is put into words; the same in the page and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from core.ids import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from evaluation.bootstrap import Interval
from evaluation.compare import HEADLINE, Comparison, Difference

MEANINGS: Final = {
    "ndcg@10": "hits in the first ten places, early ones worth more (1/log2(rank + 1)), over the best there could be",
    "recall@": "hits in the first k places, over the smaller of k and the number of targets",
    "mrr@": "1 / rank of the first hit, 0 where there is none in the first k places",
    "hit@10": "share of queries with at least one hit in the first ten places",
    "auc": "shown lists: share of (clicked, not clicked) pairs in the right order; .5 is chance",
    "retrieval recall@": "recall of the candidates before they are ranked: a ceiling for what ranking can reach",
    "novelty@10": "mean surprise of a recommended item in bits, −log2 of its share of all events",
    "popularity lift@10": "mean events of a recommended item over those of a target; above 1 favours the popular",
    "coverage@10": "share of the catalogue that stands in the first ten places of any list",
    "gini@10": "how unequally items are recommended: 0 all alike, towards 1 always the same few",
    "p50_ms": "half of the answers took at most this long",
    "p99_ms": "99 in 100 answers took at most this long",
}
DECIMALS: Final = ((0.00995, 4), (0.9995, 3), (9.995, 2), (999.95, 1), (float("inf"), 0))  # of sizes below the bound
UNITS: Final = ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "min"), (SECOND_MS, "s"))


def label(metric: str) -> str:
    """A figure's name as people write it.

    >>> label("ndcg@10"), label("p99_ms"), label("recall@10")
    ('NDCG@10', 'p99, ms', 'recall@10')
    """
    for plain, written in (("ndcg", "NDCG"), ("mrr", "MRR"), ("auc", "AUC"), ("gini", "Gini"), ("_ms", ", ms")):
        metric = metric.replace(plain, written)
    return metric


def meaning(metric: str) -> str:
    """What a figure says, in one line."""
    return MEANINGS.get(metric) or MEANINGS.get(metric.partition("@")[0] + "@", "")


def number(value: float) -> str:
    """Three decimals below 1 (four below .01), fewer above; no leading zero.

    >>> number(0.30641), number(0.0075), number(1.0), number(12.345), number(-0.021), number(4300.0)
    ('.306', '.0075', '1.00', '12.3', '−.021', '4,300')
    """
    size = abs(value)
    decimals = next(n for bound, n in DECIMALS if size < bound) if size else 3
    text = f"{size:,.{decimals}f}"
    text = text[1:] if text.startswith("0.") else text
    return f"−{text}" if value < 0 and text.strip(".0") else text


def signed(value: float) -> str:
    """A difference, always with its sign."""
    return number(value) if value < 0 else f"+{number(value)}"


def between(interval: Interval) -> str:
    """The interval alone.

    >>> between(Interval(0.3, 0.294, 0.318))
    '[.294, .318]'
    """
    return f"[{number(interval.low)}, {number(interval.high)}]"


def percent(share: float) -> str:
    """A share in per cent, with a decimal where it is small."""
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def moment(ts: int) -> str:
    """A time in UTC, to the minute.

    >>> moment(1320105600000)
    '2011-11-01 00:00'
    """
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def duration(ms: float) -> str:
    """In the largest unit that leaves at least one.

    >>> duration(90_000), duration(36 * 3_600_000), duration(12)
    ('1.5 min', '1.5 d', '12 ms')
    """
    for size, unit in UNITS:
        if ms >= size:
            return f"{ms / size:.3g} {unit}"
    return f"{ms:.3g} ms"


def against(differences: Sequence[Difference], reference: str) -> Interval | None:
    """The difference in the headline metric to one system."""
    return next((d.metrics[HEADLINE] for d in differences if d.reference == reference), None)


def verdict(difference: Interval) -> str:
    """Better and worse only where the interval leaves 0 out."""
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "not better"


def headline(found: Comparison) -> str:
    """What beat what, by how much, in one sentence."""
    difference = against(found.differences, found.reference)
    if difference is None:
        row = next(row for row in found.rows if row.system == found.subject)
        figure = row.metrics[HEADLINE]
        reached = f"{number(figure.mean)} {between(figure)} {label(HEADLINE)}"
        return f"{found.subject} reaches {reached}; there is no other system to compare it with."
    others = [row for row in found.rows if row.system != found.subject]
    best = max(others, key=lambda row: row.metrics[HEADLINE].mean).system
    name = found.reference if found.reference != best or len(others) < 2 else f"the best baseline, {best},"
    by = f"{signed(difference.mean)} {between(difference)} {label(HEADLINE)}"
    told = verdict(difference)
    if told == "better":
        return f"{found.subject} is better than {name} by {by}."
    tail = ", an interval that holds 0" if told == "not better" else ""
    return f"{found.subject} is {told} than {name.rstrip(',')}: {by}{tail}."


def exceptions(found: Comparison) -> str:
    """Slices in which the subject does not beat the best of the others, in a sentence; "" for none.

    A mean over all queries would hide them.
    """
    told: dict[str, list[str]] = {}
    for part in found.slices:
        difference = against(part.differences, part.reference)
        if difference is not None:
            told.setdefault(verdict(difference), []).append(part.name)
    parts = [f"{kind} for {_listed(told[kind])}" for kind in ("worse", "not better") if kind in told]
    return f"Against the strongest other system, {found.subject} is {', and '.join(parts)}." if parts else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def more_is_better(metric: str) -> bool:
    """Whether a difference above 0 is a gain; novelty and popularity lift only describe."""
    return not metric.startswith(("novelty", "popularity"))
