"""The parts of the page on what each part of the system is worth: channels, cold start, ablation."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from evaluation.ablation import Ablation
from evaluation.channels import Channel
from evaluation.charts import Bar, bars, forest
from evaluation.compare import HEADLINE, Slice
from evaluation.markup import e
from evaluation.report import Report
from evaluation.tables import difference_cell, figure, figure_cell, interval_cell, row_head, section, table
from evaluation.wording import label, percent

COLD_FIGURES = (HEADLINE, "recall@10", "recall@100", "hit@10")


def channels(report: Report) -> Element | None:
    """What each retrieval channel brings."""
    if not report.channels:
        return None
    rows = [Bar(one.channel, one.recall, "ours", one.shown) for one in report.channels]
    return section(
        "Where candidates come from",
        figure(
            bars(rows, "Recall at quota by channel"),
            "Bar: recall of the channel's own candidates, before ranking. Thin line below it: share of the first ten "
            "places that the channel had proposed. Channels overlap, so neither adds up to 1.",
        ),
        _channel_table("Each retrieval channel.", report.channels),
    )


def _channel_table(caption: str, found: Sequence[Channel]) -> Element:
    body = [
        [
            row_head(one.channel),
            figure_cell(f"{one.quota:,}"),
            interval_cell(one.recall),
            figure_cell(f"{one.alone:,}", f"{percent(one.alone_share)} of targets"),
            figure_cell(percent(one.shown)),
        ]
        for one in found
    ]
    return table(caption, ["", "quota", "recall at quota", "found by it alone", "share of shown"], body)


def cold_start(report: Report) -> Element | None:
    """New shoppers and new items, each for itself: all systems, and what the channels find."""
    tables = []
    for part in report.comparison.slices:
        if part.name not in report.cold_start:
            continue
        tables.append(_systems_table(part, report.comparison.subject))
        found = report.cold_start[part.name]
        if found:
            tables.append(_channel_table(f"Each retrieval channel, {part.name}.", found))
    about = (
        "What nobody knows yet: shoppers without a past, who are served by trend and context, and items without one, "
    )
    about += "which text and category have to place."
    return section("Cold start", e("p", about), *tables) if tables else None


def _systems_table(part: Slice, subject: str) -> Element:
    heads = [name for name in COLD_FIGURES if any(name in row.metrics for row in part.rows)]
    body = [
        [
            row_head(row.system),
            *(interval_cell(row.metrics.get(n), mark="ours" * (row.system == subject)) for n in heads),
        ]
        for row in part.rows
    ]
    about = f"{part.name.capitalize()}: {part.about}; {part.queries:,} queries of {part.shoppers:,} shoppers."
    return table(about, ["", *map(label, heads)], body)


def ablation(report: Report) -> Element | None:
    """What is lost without each part."""
    rows = report.ablations
    if not rows:
        return None
    told = list(dict.fromkeys(name for one in rows for name in one.slices))
    caption = (
        f"{label(HEADLINE)} of {report.comparison.subject} minus that of the same without the part named, answered "
        f"from the same state. The ranker is not trained anew without a channel: it misses the channel's candidates "
        f"and columns. A filled dot: the interval leaves 0 out. Channels overlap, so the differences do not add up."
    )
    return section(
        "What is lost without each part",
        figure(forest([Bar(one.without, one.metrics[HEADLINE]) for one in rows], "all parts minus all but"), caption),
        table(
            "All parts minus all but one.",
            ["", label(HEADLINE), "recall@10", *(f"{label(HEADLINE)}, {name}" for name in told)],
            [_ablation_row(one, told) for one in rows],
        ),
    )


def _ablation_row(one: Ablation, told: Sequence[str]) -> list[Element]:
    cells = [one.metrics[HEADLINE], one.metrics.get("recall@10"), *(one.slices.get(name) for name in told)]
    return [row_head(f"without {one.without}", f"{one.queries:,} queries"), *map(difference_cell, cells)]
