"""The parts of the page under their headings, each from its part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from evaluation.charts import COLOURS, Bar, bars, forest, lines, swatch
from evaluation.compare import HEADLINE, Comparison, Row, Slice
from evaluation.markup import e
from evaluation.report import Report, list_figure
from evaluation.tables import (
    MISSING,
    details,
    difference_cell,
    facts,
    figure,
    figure_cell,
    interval_cell,
    row_head,
    section,
    table,
)
from evaluation.wording import (
    against,
    duration,
    label,
    meaning,
    moment,
    more_is_better,
    number,
)


def systems(found: Comparison) -> Element:
    """Every system, the best first."""
    ranked = sorted(found.rows, key=lambda row: -row.metrics[HEADLINE].mean)
    chart = bars([Bar(r.system, r.metrics[HEADLINE], _mark(r, found) or "other") for r in ranked], label(HEADLINE))
    return section(
        "All systems on the same queries",
        figure(chart, f"{label(HEADLINE)}: {meaning(HEADLINE)}. The line across the end of a bar is its interval."),
        _metric_table(ranked, found),
    )


def _metric_table(rows: Sequence[Row], found: Comparison) -> Element:
    body = [
        [row_head(label(name)), *(interval_cell(row.metrics.get(name), mark=_mark(row, found)) for row in rows)]
        for name in dict.fromkeys(name for row in rows for name in row.metrics)
    ]
    body += [
        [
            row_head(label(name)),
            *(figure_cell(list_figure(name, row.lists.get(name)), mark=_mark(row, found)) for row in rows),
        ]
        for name in dict.fromkeys(name for row in rows for name in row.lists)
    ]
    answered = [figure_cell(f"{row.answered:,}", mark=_mark(row, found)) for row in rows]
    body.append([row_head(f"answered, of {found.queries:,}"), *answered])
    about = "All figures. An unanswered query scores 0. What has no interval describes these lists only."
    return table(about, ["", *(row.system for row in rows)], body, ours=found.subject)


def differences(found: Comparison) -> Element | None:
    """What the subject has above each of the others."""
    if not found.differences:
        return None
    rows = sorted(found.differences, key=lambda one: -one.metrics[HEADLINE].mean)
    body = [
        [row_head(label(m)), *(difference_cell(one.metrics.get(m), judged=more_is_better(m)) for one in rows)]
        for m in dict.fromkeys(name for one in rows for name in one.metrics)
    ]
    about = f"{found.subject} minus the system of the column."
    return section(
        f"How far {found.subject} is above each",
        figure(
            forest([Bar(one.reference, one.metrics[HEADLINE]) for one in rows], f"{found.subject} minus"),
            f"{label(HEADLINE)} of {found.subject} minus that of the system named, query by query. A filled dot: the "
            f"interval leaves 0 out. A hollow one: no difference is shown.",
        ),
        details("Differences in every figure", table(about, ["", *(f"− {one.reference}" for one in rows)], body)),
    )


def slices(found: Comparison) -> Element | None:
    """The same for some of the queries, or of the targets."""
    if not found.slices:
        return None
    told = [(part.name, against(part.differences, part.reference)) for part in found.slices]
    chart = [Bar(name, difference) for name, difference in told if difference is not None]
    caption = (
        f"{label(HEADLINE)} of {found.subject} minus that of the strongest other system in the slice. "
        f"A filled dot: the interval leaves 0 out."
    )
    heads = ["", *(row.system for row in found.rows), *(["above the strongest other"] if chart else [])]
    about = {part.name: f"{part.about}; {part.shoppers:,} shoppers" for part in found.slices}
    return section(
        "For whom, and for what",
        figure(forest(chart, f"{found.subject} minus the strongest other system"), caption) if chart else None,
        table(f"{label(HEADLINE)} by slice.", heads, [_slice_row(part, found) for part in found.slices], found.subject),
        facts(about),
    )


def _slice_row(part: Slice, found: Comparison) -> list[Element]:
    rows = [row_of(part.rows, row.system) for row in found.rows]
    cells = [interval_cell(row.metrics[HEADLINE], mark=_mark(row, found)) for row in rows]
    difference = against(part.differences, part.reference)
    if difference is not None:
        cells.append(difference_cell(difference, f"to {part.reference}"))
    return [row_head(part.name, f"{part.queries:,} queries"), *cells]


def course(report: Report) -> Element | None:
    """Successive stretches of time; nothing where all was asked at one moment."""
    windows = report.comparison.windows
    if not windows:
        return None
    colours = _line_colours(report.comparison)
    marks = [(job.ts, f"{job.kind}, {moment(job.ts)}") for job in report.jobs]
    title = f"{label(HEADLINE)} over {len(windows)} stretches of time; the values are in the table below"
    keys = sorted(colours.items(), key=lambda one: one[1])
    legend = e("ul", *(e("li", swatch(colour), name) for name, colour in keys), class_="legend")
    body = [
        [
            row_head(moment(window.start), f"to {moment(window.end)}"),
            figure_cell(f"{window.queries:,}"),
            *(interval_cell(window.systems[name]) for name in colours),
        ]
        for window in windows
    ]
    triangles = " A triangle below the axis is a job that fired." if marks else ""
    return section(
        "Over time",
        figure(
            lines(windows, colours, marks, title),
            f"{label(HEADLINE)} of successive queries, drawn at the middle of each stretch, with intervals.{triangles}",
            legend,
        ),
        details("The values", table("Each stretch of time.", ["from, UTC", "queries", *colours], body)),
    )


def jobs(report: Report) -> Element | None:
    """What was trained, when."""
    body = [
        [
            row_head(moment(job.ts)),
            e("td", job.kind, e("small", job.note) if job.note else None),
            figure_cell(f"{job.groups:,}" if job.groups else MISSING),
            figure_cell(f"{job.seconds:.1f}"),
            e("td", ", ".join(f"{label(name)} {number(value)}" for name, value in job.metrics.items()) or MISSING),
        ]
        for job in report.jobs
    ]
    heads = ["event time, UTC", "job", "lists learnt from", "seconds", "its own figures"]
    about = "Periodic jobs, fired by the time of the events."
    return section("Jobs that fired", table(about, heads, body)) if body else None


def artefacts(report: Report) -> Element | None:
    """How old what was learnt was when it was used."""
    body = [
        [
            row_head(one.name),
            figure_cell(moment(one.max_event_time)),
            figure_cell(moment(one.first_query)),
            figure_cell(f"{one.queries:,}"),
            figure_cell(duration(one.first_query - one.max_event_time)),
            figure_cell(duration(one.last_query - one.max_event_time)),
        ]
        for one in report.artefacts
    ]
    heads = ["", "newest event seen", "first query", "queries", "age at the first", "age at the last"]
    about = "What was learnt, and how old it was when it answered. Anything newer than a query stops the report."
    return section("Nothing from the future", table(about, heads, body)) if body else None


def how(report: Report) -> Element:
    """What is needed to make the figures again."""
    found = report.comparison
    method = (
        f"percentile bootstrap over shoppers, {found.draws:,} draws, seed {found.seed}; all systems meet the same "
        f"draws; not corrected for the number of comparisons"
    )
    told = {
        "Stream": report.stream,
        "Split": f"{moment(report.split)} UTC",
        "Queries": f"{found.queries:,} of {found.asked:,} have a target and are scored",
        "Intervals": method,
        "Machine": report.machine,
        "Versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "Settings": "" if report.settings else "all at their defaults",
    }
    names = dict.fromkeys(name for row in found.rows for name in (*row.metrics, *row.lists))
    changed = [[row_head(one.name), e("td", one.value), e("td", one.default)] for one in report.settings]
    return section(
        "How it was measured",
        facts(told),
        table("Settings that are not at their default.", ["", "here", "default"], changed) if changed else None,
        details("What the figures mean", facts({label(name): meaning(name) for name in names})),
    )


def row_of(rows: Sequence[Row], system: str) -> Row:
    """The row of one system."""
    return next(row for row in rows if row.system == system)


def _mark(row: Row, found: Comparison) -> str:
    return "ours" if row.system == found.subject else ""


def _line_colours(found: Comparison) -> dict[str, str]:
    """The subject last, on top of the others; where there are more systems than colours, the last is shared."""
    others = [row.system for row in found.rows if row.system != found.subject]
    return {name: f"c{min(n, COLOURS - 1)}" for n, name in enumerate(others, 1)} | {found.subject: "c0"}
