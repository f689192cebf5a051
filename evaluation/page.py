"""The report as one page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from evaluation import sections, worth
from evaluation.compare import HEADLINE, Comparison
from evaluation.markup import e, page
from evaluation.report import Report
from evaluation.sections import row_of
from evaluation.wording import (
    against,
    between,
    exceptions,
    headline,
    label,
    moment,
    number,
    signed,
)

STYLE: Final = Path(__file__).with_name("page.css")
KEY_FIGURES: Final = ("retrieval recall@300", "recall@10", "auc")
MOST_CARDS: Final = 4  # before the time an answer takes


def to_html(report: Report) -> str:
    """The whole page; what is not in the report has no section."""
    found = report.comparison
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="color-scheme", content="light dark"),
        e("title", f"{found.subject} on {report.stream}"),
        e("style", STYLE.read_text(encoding="utf-8")),
    )
    main = e(
        "main",
        sections.systems(found),
        sections.differences(found),
        sections.slices(found),
        sections.course(report),
        worth.cold_start(report),
        worth.channels(report),
        worth.ablation(report),
        sections.jobs(report),
        sections.artefacts(report),
        sections.how(report),
    )
    twin = "The JSON twin of this page holds every value on it, unrounded; an interval there is [mean, low, high]."
    return page(e("html", head, e("body", _header(report), main, e("footer", twin)), lang="en"))


def _header(report: Report) -> Element:
    found = report.comparison
    asked = (
        f"{found.queries:,} queries of {found.shoppers:,} shoppers from {moment(found.first)} to {moment(found.last)} "
        f"UTC, each answered with only what had happened before it. In brackets, everywhere: 95 % intervals."
    )
    worse = exceptions(found)
    return e(
        "header",
        e("p", f"headwater · {report.stream}", class_="eyebrow"),
        e("h1", _unbroken(headline(found))),
        e("p", asked, class_="lead"),
        e("p", worse, class_="caution") if worse else None,
        *(e("p", note, class_="note") for note in report.notes),
        _key_figures(found),
    )


def _unbroken(text: str) -> str:
    """Intervals that no line break falls into."""
    return re.sub(r"\[[^]]*]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def _key_figures(found: Comparison) -> Element:
    ours = row_of(found.rows, found.subject)
    difference = against(found.differences, found.reference)
    cards = [_card(label(HEADLINE), number(ours.metrics[HEADLINE].mean), between(ours.metrics[HEADLINE]))]
    if difference is not None:
        cards.append(_card(f"above {found.reference}", signed(difference.mean), between(difference)))
    more = [(label(name), ours.metrics[name]) for name in KEY_FIGURES if name in ours.metrics]
    cards += [_card(name, number(one.mean), between(one)) for name, one in more[: MOST_CARDS - len(cards)]]
    if "p50_ms" in ours.lists:
        cards.append(_card("median answer", f"{ours.lists['p50_ms']:.1f} ms", f"p99 {ours.lists['p99_ms']:.1f} ms"))
    return e("dl", *cards, class_="figures")


def _card(name: str, value: str, detail: str) -> Element:
    return e("div", e("dt", name), e("dd", value, e("small", detail)))
