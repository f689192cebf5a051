"""The outcome of a replay as one value, with its JSON twin and its table for a terminal.

The page that people read is made from the same value by `evaluation.page`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from core.errors import FutureLeak
from evaluation.ablation import Ablation
from evaluation.bootstrap import Interval
from evaluation.channels import Channel
from evaluation.compare import HEADLINE, Comparison, Row
from evaluation.provenance import Changed
from evaluation.wording import against, between, exceptions, headline, label, moment, number, percent, signed, verdict

ACCURACY: Final = (HEADLINE, "recall@10", "hit@10", "auc")
CHARACTER: Final = ("novelty@10", "popularity lift@10")
LISTS: Final = ("coverage@10", "gini@10", "p50_ms", "p99_ms")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic job that fired inside the replay, at event time `ts` (ms)."""

    ts: int
    kind: str
    groups: int = 0  # lists it learnt from
    seconds: float = 0.0
    metrics: dict[str, float] = {}
    note: str = ""  # why it changed nothing, where it did not


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """Something learnt that queries were answered with. Times in ms."""

    name: str
    max_event_time: int  # the newest event it has seen
    first_query: int  # of those that it answered
    last_query: int
    queries: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a reader needs to judge a figure, and to make it again.

    Raises:
        FutureLeak: an artefact has seen an event that is not strictly earlier than a query it
            answered, so that no figure of this replay can be believed.
    """

    v: int = 1
    stream: str
    split: int  # what is before this time could be learnt from before the first query, ms
    comparison: Comparison
    channels: tuple[Channel, ...] = ()
    cold_start: dict[str, tuple[Channel, ...]] = {}  # channels in the slices of new shoppers and of new items
    ablations: tuple[Ablation, ...] = ()
    jobs: tuple[Job, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    machine: str = ""
    versions: dict[str, str] = {}
    settings: tuple[Changed, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know of this stream

    def __post_init__(self) -> None:
        """Refuse artefacts from the future."""
        for artefact in self.artefacts:
            if artefact.max_event_time >= artefact.first_query:
                raise FutureLeak(
                    f"{artefact.name} must have seen only events before {moment(artefact.first_query)} "
                    f"({artefact.first_query}), the time of the first query it answered, "
                    f"got one of {moment(artefact.max_event_time)} ({artefact.max_event_time})"
                )


def to_json(report: Report) -> bytes:
    """The twin of the page: its headline, and every value behind it. An interval is [mean, low, high]."""
    whole = {"headline": headline(report.comparison), **msgspec.structs.asdict(report)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def from_json(data: bytes) -> Report:
    """The report that `to_json` wrote; leaks are refused here too."""
    return msgspec.json.decode(data, type=Report)


def print_table(report: Report) -> str:
    """Headline, systems, differences, slices, channels and ablation in aligned columns of plain text."""
    found = report.comparison
    asked = (
        f"{found.queries:,} queries of {found.shoppers:,} shoppers, {moment(found.first)} to {moment(found.last)} UTC"
    )
    tables = (
        _system_lines(found.rows, ACCURACY, ()),
        _system_lines(found.rows, CHARACTER, LISTS),
        _difference_lines(found),
        _channel_lines(report),
        _ablation_lines(report.ablations),
    )
    parts = [[f"{report.stream}: {headline(found)}", asked], *(_aligned(list(lines)) for lines in tables)]
    worse = exceptions(found)
    if worse:
        parts.append([worse])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _system_lines(rows: Sequence[Row], wanted: Sequence[str], of_lists: Sequence[str]) -> Iterator[list[str]]:
    metrics = [name for name in wanted if any(name in row.metrics for row in rows)]
    figures = [name for name in of_lists if any(name in row.lists for row in rows)]
    if not metrics and not figures:
        return
    yield ["system", *map(label, metrics), *map(label, figures)]
    for row in rows:
        cells = [_cell(row.metrics.get(name)) for name in metrics]
        yield [row.system, *cells, *(list_figure(name, row.lists.get(name)) for name in figures)]


def _difference_lines(found: Comparison) -> Iterator[list[str]]:
    """All queries against every system, each slice against the strongest in it."""
    if not found.differences:
        return
    yield ["against", "queries", found.subject, f"{label(HEADLINE)} above", "it is"]
    for one in found.differences:
        yield _difference_line(one.reference, found.queries, _level(found.rows, found.subject), one.metrics[HEADLINE])
    for part in found.slices:
        difference = against(part.differences, part.reference)
        if difference is not None:
            name, level = f"{part.name}: {part.reference}", _level(part.rows, found.subject)
            yield _difference_line(name, part.queries, level, difference)


def _difference_line(name: str, queries: int, level: Interval, difference: Interval) -> list[str]:
    return [name, f"{queries:,}", _cell(level), _difference(difference), verdict(difference)]


def _level(rows: Sequence[Row], system: str) -> Interval:
    return next(row.metrics[HEADLINE] for row in rows if row.system == system)


def _channel_lines(report: Report) -> Iterator[list[str]]:
    """Of all queries, and the recall alone for new shoppers and new items."""
    if not report.channels:
        return
    apart = {name: {one.channel: one.recall for one in found} for name, found in report.cold_start.items() if found}
    yield ["channel", "quota", "recall at quota", "found by it alone", "of shown", *apart]
    for one in report.channels:
        alone = f"{one.alone:,} ({percent(one.alone_share)})"
        recalls = [_cell(found.get(one.channel)) for found in apart.values()]
        yield [one.channel, f"{one.quota:,}", _cell(one.recall), alone, percent(one.shown), *recalls]


def _ablation_lines(rows: Sequence[Ablation]) -> Iterator[list[str]]:
    """What all parts have above all but one."""
    if not rows:
        return
    told = list(dict.fromkeys(name for one in rows for name in one.slices))
    yield ["without", "queries", f"{label(HEADLINE)} lost", *told]
    for one in rows:
        slices = [_difference(one.slices.get(name)) for name in told]
        yield [one.without, f"{one.queries:,}", _difference(one.metrics[HEADLINE]), *slices]


def _cell(figure: Interval | None) -> str:
    return "–" if figure is None else f"{number(figure.mean)} {between(figure)}"


def _difference(figure: Interval | None) -> str:
    return "–" if figure is None else f"{signed(figure.mean)} {between(figure)}"


def list_figure(name: str, value: float | None) -> str:
    """A figure of all lists together; a dash where there is none."""
    if value is None:
        return "–"
    if name.startswith("coverage"):
        return percent(value)
    return f"{value:.2f}" if name.endswith("_ms") else number(value)


def _aligned(rows: list[list[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
