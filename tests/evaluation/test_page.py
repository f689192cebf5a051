import re
from html.parser import HTMLParser

import msgspec
import pytest

from evaluation.ablation import ablations
from evaluation.bootstrap import Interval
from evaluation.channels import channel_table
from evaluation.charts import Bar, bars, forest, scale
from evaluation.compare import compare
from evaluation.markup import page
from evaluation.page import to_html
from evaluation.provenance import Changed
from evaluation.report import Artefact, Job, Report
from tests.evaluation.answers import DAY, T, random_answers

VOID = {"meta", "br", "link", "img", "hr", "input"}
NASTY = "<script>alert('x')</script> & \"co\""
GOOD, FAIR = (random_answers(skill, seed=n) for n, skill in enumerate((0.5, 0.3)))
BARE = [msgspec.structs.replace(one, candidates=(), channels={}, latency_ms=None) for one in GOOD]


def report(name: str = "co-occurrence") -> Report:
    return Report(
        stream=f"P3all {name}",
        split=T,
        comparison=compare({"headwater": GOOD, name: FAIR}, "headwater", popularity={"i1": 9.0}, draws=100),
        channels=tuple(
            msgspec.structs.replace(one, channel=f"{one.channel} {name}")
            for one in channel_table(GOOD, {"own": 5, "trending": 20}, draws=20)
        ),
        cold_start={"cold items": channel_table(GOOD, {"trending": 20}, draws=20), "first-time shoppers": ()},
        ablations=tuple(msgspec.structs.replace(one, without=name) for one in ablations(BARE, {"own": BARE}, draws=20)),
        jobs=(Job(ts=T + DAY, kind=f"train {name}", groups=9, seconds=1.5, metrics={name: 0.3}, note=name),),
        artefacts=(Artefact(name=name, max_event_time=T - 1, first_query=T, last_query=T + DAY, queries=3),),
        machine=name,
        versions={"numpy": name},
        settings=(Changed("text.template", name, name),),
        notes=(name,),
    )


class Reader(HTMLParser):
    """Fails on tags that are not closed in order; keeps tags and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


HTML = to_html(report())
PAGE = read(HTML)


def test_the_page_is_well_formed_and_says_its_language() -> None:
    assert HTML.startswith('<!doctype html>\n<html lang="en">')
    assert PAGE.every("html") == [{"lang": "en"}]
    assert len(PAGE.every("h1")) == 1


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in PAGE.tags}
    assert "url(" not in HTML
    assert "@import" not in HTML
    assert not [a for _, a in PAGE.tags if {"src", "href", "onclick", "onload"} & a.keys()]


def test_every_picture_says_in_words_what_it_shows_and_has_a_caption() -> None:
    pictures = [a for a in PAGE.every("svg") if a.get("role") == "img"]
    assert len(pictures) == len(PAGE.every("figure")) == len(PAGE.every("figcaption")) == 6
    assert all(a.get("aria-label") for a in pictures)
    assert "headwater ." in (pictures[0]["aria-label"] or "")


def test_new_shoppers_and_new_items_have_tables_of_their_own() -> None:
    captions = re.findall(r"<caption><span>(.*?)</span>", HTML)
    assert [one.partition(":")[0] for one in captions if one.startswith(("First-time", "Cold"))] == [
        "First-time shoppers",
        "Cold items",
    ]
    assert "Each retrieval channel, cold items." in captions
    assert "Each retrieval channel, first-time shoppers." not in captions  # none of them brought anything


def test_every_table_has_a_caption_and_heads_with_a_scope() -> None:
    assert len(PAGE.every("table")) == len(PAGE.every("caption")) == 12
    assert all(a.get("scope") in ("row", "col") for a in PAGE.every("th"))


def test_every_row_of_a_table_is_as_long_as_its_head() -> None:
    for table in re.findall(r"<table>.*?</table>", HTML, re.DOTALL):
        lengths = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)}
        assert len(lengths) == 1


def test_light_and_dark_and_a_phone_are_provided_for() -> None:
    assert "prefers-color-scheme: dark" in HTML
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in PAGE.every("meta")


def test_text_from_outside_never_becomes_markup() -> None:
    html = to_html(report(NASTY))
    nasty = read(html)
    assert "<script>" not in html
    assert nasty.text.count(NASTY) > 10
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in PAGE.tags]


def test_the_headline_stands_first_and_intervals_do_not_break() -> None:
    heading = re.search(r"<h1>(.*?)</h1>", HTML)
    assert heading is not None
    assert heading[1].startswith("headwater is better than co-occurrence by +.")
    assert ",\N{NO-BREAK SPACE}" in heading[1]


def test_a_report_with_little_in_it_has_only_those_parts() -> None:
    same_moment = [msgspec.structs.replace(a, ts=T, bought=frozenset(), first_time=False) for a in GOOD[:20]]
    alone = [msgspec.structs.replace(a, cold_targets=frozenset()) for a in same_moment]
    little = read(to_html(Report(stream="P1", split=T, comparison=compare({"x": alone}, "x", draws=20))))
    assert len(little.every("h2")) == 2
    assert "all at their defaults" in little.text


def test_bars_begin_at_zero_and_end_at_their_mean_with_the_interval_across() -> None:
    chart = page(bars([Bar("x", Interval(0.2, 0.1, 0.4))], "NDCG@10"), doctype=False)
    assert re.search(r'<rect x="0" [^>]*width="50.00%"', chart)
    assert re.search(r'<line x1="25.00%" x2="100.00%" [^>]*class="whisker"', chart)


def test_a_difference_is_filled_only_where_its_interval_leaves_zero_out() -> None:
    rows = [Bar("a", Interval(0.2, 0.1, 0.3)), Bar("b", Interval(0.1, -0.1, 0.3)), Bar("c", Interval(-0.2, -0.3, -0.1))]
    chart = page(forest(rows, "minus"), doctype=False)
    assert re.findall(r'class="dot ([a-z-]+)"', chart) == ["better", "not-better", "worse"]


@pytest.mark.parametrize("values", [[0.3], [0.0], [-0.2, -0.1], [-0.01, 0.4], [1e-9], [12.0, 300.0]])
def test_a_scale_always_holds_zero_and_every_value(values: list[float]) -> None:
    axis = scale(values)
    assert axis.low <= min(0.0, *values)
    assert axis.high >= max(0.0, *values)
    assert 2 <= len(axis.ticks()) <= 8
