"""The outcome of a replay as one value, with its JSON twin and its table for a terminal.

The page that people read is made from the same value by `evaluation.page`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from core.errors import FutureLeak
from evaluation.bootstrap import Interval
from evaluation.channels import Channel
from evaluation.compare import HEADLINE, Comparison, Row
from evaluation.provenance import Changed
from evaluation.wording import against, between, exceptions, headline, label, moment, number, percent, signed, verdict

TERMINAL_METRICS: Final = (HEADLINE, "recall@10", "hit@10", "auc")
TERMINAL_FIGURES: Final = ("coverage@10", "p50_ms", "p99_ms")


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
    """Headline, systems, differences and slices in aligned columns of plain text."""
    found = report.comparison
    asked = (
        f"{found.queries:,} queries of {found.shoppers:,} shoppers, {moment(found.first)} to {moment(found.last)} UTC"
    )
    parts = [
        [f"{report.stream}: {headline(found)}", asked],
        _aligned(list(_system_lines(found.rows))),
        _aligned(list(_difference_lines(found))),
    ]
    worse = exceptions(found)
    if worse:
        parts.append([worse])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _system_lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    metrics = [name for name in TERMINAL_METRICS if any(name in row.metrics for row in rows)]
    figures = [name for name in TERMINAL_FIGURES if any(name in row.lists for row in rows)]
    yield ["system", *map(label, metrics), *map(label, figures)]
    for row in rows:
        told = [row.metrics.get(name) for name in metrics]
        cells = ["–" if one is None else f"{number(one.mean)} {between(one)}" for one in told]
        yield [row.system, *cells, *(list_figure(name, row.lists.get(name)) for name in figures)]


def _difference_lines(found: Comparison) -> Iterator[list[str]]:
    """All queries against every system, each slice against the strongest in it."""
    if not found.differences:
        return
    yield ["against", f"{label(HEADLINE)} above", "it is", "queries"]
    for one in found.differences:
        yield _difference_line(one.reference, one.metrics[HEADLINE], found.queries)
    for part in found.slices:
        difference = against(part.differences, part.reference)
        if difference is not None:
            yield _difference_line(f"{part.reference}, {part.name}", difference, part.queries)


def _difference_line(name: str, difference: Interval, queries: int) -> list[str]:
    return [name, f"{signed(difference.mean)} {between(difference)}", verdict(difference), f"{queries:,}"]


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
