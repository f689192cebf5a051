"""The pictures of a report, as SVG that grows with the page while its text keeps its size.

Positions along the horizontal are percentages, those along the vertical pixels; colours are
classes of page.css, so that the page's light and dark palettes apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from evaluation.bootstrap import Interval
from evaluation.compare import Window
from evaluation.markup import e
from evaluation.wording import between, moment, number, signed, verdict

ROW: Final = 46  # pixels of one bar with its label
AXIS: Final = 26
COURSE_HEIGHT: Final = 240
COLOURS: Final = 6  # classes c0 to c5 of page.css


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart: what it is of, and how it is told apart (a class of page.css)."""

    label: str
    interval: Interval
    colour: str = "other"
    share: float | None = None  # a second, thin bar


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` along the whole width."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self) -> list[float]:
        return [self.low + n * self.step for n in range(round((self.high - self.low) / self.step) + 1)]


def scale(values: Sequence[float], parts: int = 4) -> Scale:
    """Round numbers around all values and 0: an axis that does not start at 0 makes small things big.

    >>> scale([0.21, 0.318])
    Scale(low=0.0, high=0.4, step=0.1)
    """
    low, high = min(0.0, *values), max(0.0, *values)
    high = high if high > low else 1.0
    rough = (high - low) / parts
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * unit for unit in (1, 2, 2.5, 5, 10) if size * unit >= rough * 0.999)
    bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(round(bottom * step, 12), round(top * step, 12), round(step, 12))


def bars(rows: Sequence[Bar], title: str) -> Element:
    """A bar from 0 for every row, with its interval across the end."""
    axis = scale([max(row.interval.high, row.share or 0.0) for row in rows])
    parts: list[Element] = list(_grid(axis, len(rows), number))
    for n, row in enumerate(rows):
        y = n * ROW
        parts += _label(row, y, f"{number(row.interval.mean)} {between(row.interval)}")
        parts.append(
            e("rect", x=0, y=y + 23, width=axis.at(row.interval.mean), height=13, rx=2, class_=f"bar {row.colour}")
        )
        if row.share is not None:
            parts.append(e("rect", x=0, y=y + 38, width=axis.at(row.share), height=3, class_="thin"))
        parts += _whisker(row.interval, axis, y + 29.5)
    told = "; ".join(f"{row.label} {number(row.interval.mean)} {between(row.interval)}" for row in rows)
    return _svg(parts, len(rows) * ROW + AXIS, f"{title}: {told}")


def forest(rows: Sequence[Bar], title: str) -> Element:
    """Differences around a line at 0; a dot is filled only where its interval leaves 0 out."""
    axis = scale([bound for row in rows for bound in (row.interval.low, row.interval.high)])
    parts: list[Element] = list(_grid(axis, len(rows), signed))
    for n, row in enumerate(rows):
        y = n * ROW
        told = verdict(row.interval)
        parts += _label(row, y, f"{signed(row.interval.mean)} {between(row.interval)}")
        parts += _whisker(row.interval, axis, y + 29.5)
        parts.append(
            e("circle", cx=axis.at(row.interval.mean), cy=y + 29.5, r=5.5, class_=f"dot {told.replace(' ', '-')}")
        )
    told = "; ".join(f"{row.label} {signed(row.interval.mean)} {between(row.interval)}" for row in rows)
    return _svg(parts, len(rows) * ROW + AXIS, f"{title}: {told}")


def lines(
    windows: Sequence[Window], colours: Mapping[str, str], marks: Sequence[tuple[int, str]], title: str
) -> Element:
    """A line for every system over time, an interval at every point, and a mark for every job.

    Args:
        windows: in time order, at least two.
        colours: system → class of page.css; the order is the order of drawing.
        marks: (time in ms, what happened), below the axis; those outside the windows are left out.
        title: what a screen reader says first.
    """
    axis = scale([found.high for window in windows for found in window.systems.values()])
    times = [(window.start + window.end) / 2 for window in windows]
    first, last = windows[0].start, windows[-1].end

    def x(ts: float) -> float:
        return 9 + 88 * (ts - first) / max(last - first, 1)  # the left 9 % hold the axis' numbers

    def y(value: float) -> float:
        return 14 + (COURSE_HEIGHT - 14) * (1 - value / axis.high)

    parts = [
        part
        for tick in axis.ticks()
        for part in (
            e("line", x1="0", x2="100%", y1=_px(y(tick)), y2=_px(y(tick)), class_="grid" if tick else "zero"),
            e("text", number(tick) if tick else "0", x=0, y=_px(y(tick) - 4), class_="tick"),
        )
    ]
    for n, (system, colour) in enumerate(colours.items()):
        points = [
            (x(ts) + 0.5 * (n - (len(colours) - 1) / 2), w.systems[system])
            for ts, w in zip(times, windows, strict=True)
        ]
        path = " ".join(f"{a:.2f},{y(i.mean):.2f}" for a, i in points)
        line = e("polyline", points=path, class_=f"line {colour}", vector_effect="non-scaling-stroke")
        parts.append(
            e(
                "svg",
                line,
                width="100%",
                height=COURSE_HEIGHT,
                viewBox=f"0 0 100 {COURSE_HEIGHT}",
                preserveAspectRatio="none",
            )
        )
        for a, i in points:
            at = f"{a:.2f}%"
            parts.append(e("line", x1=at, x2=at, y1=_px(y(i.low)), y2=_px(y(i.high)), class_=f"span {colour}"))
            parts.append(e("circle", cx=at, cy=_px(y(i.mean)), r=3.5, class_=f"point {colour}"))
    parts += [_mark(f"{x(ts):.2f}%", text) for ts, text in marks if first <= ts <= last]
    for anchor, ts in (("start", first), ("end", last)):
        parts.append(e("text", moment(ts), x=f"{x(ts):.2f}%", y=COURSE_HEIGHT + 30, text_anchor=anchor, class_="tick"))
    return _svg(parts, COURSE_HEIGHT + 36, title)


def swatch(colour: str) -> Element:
    """The key of a line, for a legend."""
    line = e("line", x1=0, x2=26, y1=7, y2=7, class_=f"line {colour}")
    return e(
        "svg", line, e("circle", cx=13, cy=7, r=3.5, class_=f"point {colour}"), width=26, height=14, aria_hidden="true"
    )


def _svg(parts: Sequence[Element], height: float, told: str) -> Element:
    """`told` says in words what the picture shows."""
    return e("svg", *parts, width="100%", height=_px(height), role="img", aria_label=told, class_="chart")


def _grid(axis: Scale, rows: int, write: Callable[[float], str]) -> Iterator[Element]:
    """Lines at round numbers; the one at 0 leaves the labels of the rows free."""
    ticks = axis.ticks()
    for n, tick in enumerate(ticks):
        at, zero = axis.at(tick), abs(tick) < axis.step / 2
        anchor = "start" if n == 0 else "end" if n == len(ticks) - 1 else "middle"
        parts = [(row * ROW + 20, (row + 1) * ROW) for row in range(rows)] if zero else [(0, rows * ROW)]
        for top, bottom in parts:
            yield e("line", x1=at, x2=at, y1=top, y2=bottom, class_="zero" if zero else "grid")
        yield e("text", "0" if zero else write(tick), x=at, y=rows * ROW + 17, text_anchor=anchor, class_="tick")


def _label(row: Bar, y: float, told: str) -> Iterator[Element]:
    yield e("text", row.label, x=0, y=_px(y + 16), class_="label")
    yield e("text", told, x="100%", y=_px(y + 16), text_anchor="end", class_="value")


def _whisker(interval: Interval, axis: Scale, y: float) -> Iterator[Element]:
    low, high = axis.at(interval.low), axis.at(interval.high)
    yield e("line", x1=low, x2=high, y1=_px(y), y2=_px(y), class_="whisker")
    for at in (low, high):
        yield e("line", x1=at, x2=at, y1=_px(y - 5), y2=_px(y + 5), class_="whisker")


def _mark(at: str, text: str) -> Element:
    shape = e("path", e("title", text), d="M0 2 L5 11 L-5 11 z", class_="mark")
    return e("svg", shape, x=at, y=COURSE_HEIGHT, width=1, height=12, overflow="visible")


def _px(value: float) -> str:
    return f"{value:g}"
