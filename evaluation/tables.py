"""Pieces that the page is put together from: tables that scroll, cells with intervals, figures."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from evaluation.bootstrap import Interval
from evaluation.markup import e
from evaluation.wording import between, number, signed, verdict

MISSING = "–"


def table(caption: str, heads: Sequence[str], body: Sequence[Sequence[Element]], ours: str = "") -> Element:
    """A table that scrolls sideways in a narrow window, also by keyboard.

    Args:
        caption: what it is a table of.
        heads: of the columns, the first one often empty; a column of numbers stands to the right.
        body: rows of cells, each beginning with its head; at least one row.
        ours: the column that is marked.
    """
    top = [_head(head, cell, "ours" if head == ours else "") for head, cell in zip(heads, body[0], strict=True)]
    rows = e("tbody", *(e("tr", *row) for row in body))
    whole = e("table", e("caption", e("span", caption)), e("thead", e("tr", *top)), rows)
    return e("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _head(text: str, below: Element, mark: str) -> Element:
    if not text:
        return e("td")
    side = "n" if below.get("class", "").startswith("n") else ""
    return e("th", text, scope="col", class_=f"{side} {mark}".strip() or None)


def row_head(text: str, small: str = "") -> Element:
    """The first cell of a row."""
    return e("th", text, e("small", small) if small else None, scope="row")


def figure_cell(text: str, *smalls: str, mark: str = "") -> Element:
    """A number to the right, with smaller lines below it; `mark` is a class of page.css."""
    return e("td", text, *(e("small", small) for small in smalls), class_=f"n {mark}".strip())


def interval_cell(interval: Interval | None, *, mark: str = "") -> Element:
    """A mean with its interval; a dash where there is none."""
    if interval is None:
        return figure_cell(MISSING, mark=mark)
    return figure_cell(number(interval.mean), between(interval), mark=mark)


def difference_cell(interval: Interval | None, *smalls: str, judged: bool = True) -> Element:
    """A difference with its interval; coloured where it is `judged` and leaves 0 out."""
    if interval is None:
        return figure_cell(MISSING)
    mark = verdict(interval).replace(" ", "-") if judged else ""
    return figure_cell(signed(interval.mean), between(interval), *smalls, mark=mark)


def facts(pairs: dict[str, str]) -> Element:
    """Names with what is to be said of them; those with nothing are left out."""
    parts = [part for name, text in pairs.items() if text for part in (e("dt", name), e("dd", text))]
    return e("dl", *parts, class_="facts")


def figure(chart: Element, caption: str, legend: Element | None = None) -> Element:
    """A picture with its caption."""
    return e("figure", legend, chart, e("figcaption", caption))


def details(summary: str, content: Element) -> Element:
    """What is there for who wants it, closed at first."""
    return e("details", e("summary", summary), content)


def section(title: str, *parts: Element | None) -> Element:
    """A part of the page under its heading."""
    return e("section", e("h2", title), *parts)
