import msgspec
import pytest

from core.errors import FutureLeak
from evaluation.ablation import ablations
from evaluation.bootstrap import Interval
from evaluation.channels import channel_table
from evaluation.compare import compare
from evaluation.provenance import Changed
from evaluation.report import Artefact, Job, Report, from_json, print_table, to_json
from evaluation.slices import COLD_START
from evaluation.wording import between, exceptions, headline, number, verdict
from tests.evaluation.answers import DAY, T, random_answers

GOOD, FAIR, POOR = (random_answers(skill, seed=n) for n, skill in enumerate((0.5, 0.3, 0.0)))
LESS = [msgspec.structs.replace(one, candidates=(), channels={}, latency_ms=None) for one in FAIR]
COMPARISON = compare({"headwater": GOOD, "co-occurrence": FAIR, "text only": POOR}, "headwater", draws=200)


def report(**more: object) -> Report:
    whole = Report(
        stream="P3all",
        split=T,
        comparison=COMPARISON,
        channels=channel_table(GOOD, {"own": 5, "trending": 20}, draws=50),
        cold_start={
            name: channel_table(choose(GOOD), {"trending": 20}, draws=50) for name, choose in COLD_START.items()
        },
        ablations=ablations(GOOD, {"the ranker": LESS}, draws=50),
        jobs=(Job(ts=T + DAY, kind="train ranker", groups=4_000, seconds=12.5, metrics={"ndcg@10": 0.31}),),
        artefacts=(
            Artefact(name="ranker 1", max_event_time=T - 1, first_query=T, last_query=T + 9 * DAY, queries=300),
        ),
        machine="two cores",
        versions={"numpy": "2.4"},
        settings=(Changed("training.trees", "100", "150"),),
        notes=("The times are made up.",),
    )
    return msgspec.structs.replace(whole, **more)


def test_the_json_twin_is_read_back_as_it_was() -> None:
    assert from_json(to_json(report())) == report()


def test_the_json_twin_leads_with_the_headline_and_writes_intervals_as_three_numbers() -> None:
    twin = msgspec.json.decode(to_json(report()))
    assert next(iter(twin)) == "headline"
    assert twin["headline"] == headline(COMPARISON)
    figure = twin["comparison"]["rows"][0]["metrics"]["ndcg@10"]
    assert len(figure) == 3
    assert figure[1] < figure[0] < figure[2]


@pytest.mark.parametrize("newest", [T, T + 1])
def test_an_artefact_that_is_not_older_than_its_query_stops_the_report(newest: int) -> None:
    leaky = Artefact(name="ranker 7", max_event_time=newest, first_query=T, last_query=T + 1, queries=2)
    with pytest.raises(FutureLeak, match=r"ranker 7 .* 2011-11-01 00:00"):
        Report(stream="P1", split=T, comparison=COMPARISON, artefacts=(leaky,))


def test_a_leak_in_a_stored_report_is_refused_too() -> None:
    twin = to_json(report()).replace(str(T - 1).encode(), str(T + DAY).encode())
    with pytest.raises(FutureLeak):
        from_json(twin)


def test_the_headline_says_what_beat_what() -> None:
    told = headline(COMPARISON)
    assert told.startswith("headwater is better than the best baseline, co-occurrence, by +.")
    assert told.endswith("] NDCG@10.")


def test_the_headline_does_not_boast_where_nothing_is_shown() -> None:
    same = compare({"headwater": GOOD, "twin": GOOD, "text only": POOR}, "headwater", draws=50)
    expected = (
        "headwater is not better than the best baseline, twin: +.000 [.000, .000] NDCG@10, an interval that holds 0."
    )
    assert headline(same) == expected


def test_the_headline_admits_a_defeat() -> None:
    lost = compare({"headwater": POOR, "fair": FAIR}, "headwater", draws=50)
    assert headline(lost).startswith("headwater is worse than fair: −.")


def test_the_headline_of_one_system_compares_nothing() -> None:
    alone = compare({"headwater": GOOD}, "headwater", draws=50)
    assert headline(alone).startswith("headwater reaches .")
    assert alone.reference == ""


def test_a_named_reference_is_not_called_the_best() -> None:
    named = compare({"headwater": GOOD, "fair": FAIR, "poor": POOR}, "headwater", reference="poor", draws=50)
    assert headline(named).startswith("headwater is better than poor by +.")


def test_slices_that_lose_are_named() -> None:
    lost = compare({"headwater": POOR, "fair": FAIR}, "headwater", draws=50)
    assert "worse for first-time shoppers, " in exceptions(lost)
    assert exceptions(compare({"headwater": GOOD}, "headwater", draws=50)) == ""


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.001, 0.2, "better"), (-0.2, -0.001, "worse"), (-0.1, 0.1, "not better"), (0, 1, "not better")],
)
def test_only_an_interval_without_zero_decides(low: float, high: float, told: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == told


def test_a_rounded_nothing_has_no_sign() -> None:
    assert number(-0.00001) == ".0000"
    assert number(-0.0) == ".000"


def test_the_table_is_aligned_plain_text() -> None:
    text = print_table(report())
    assert "\x1b" not in text
    for block in (part.splitlines() for part in text.split("\n\n")[1:3]):
        assert [line.split("  ")[0] for line in block] == ["system", "headwater", "co-occurrence", "text only"]
    assert len({line.index("]") for line in text.split("\n\n")[1].splitlines()[1:]}) == 1
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "better" in text


def test_the_table_tells_of_channels_and_of_what_is_lost_without_each_part() -> None:
    tables = {block.split()[0]: block.splitlines() for block in print_table(report()).split("\n\n")}
    assert tables["channel"][0].endswith("first-time shoppers         cold items")
    own, trending = (next(line for line in tables["channel"] if line.startswith(name)) for name in ("own", "trending"))
    assert own.endswith("–")  # it brought nothing for a cold start
    assert trending.endswith("]")
    assert tables["without"][1].startswith("the ranker      300  +.")


def test_the_table_tells_how_good_it_is_in_each_slice() -> None:
    (line,) = [one for one in print_table(report()).splitlines() if one.startswith("cold items: ")]
    part = next(one for one in COMPARISON.slices if one.name == "cold items")
    figure = part.rows[0].metrics["ndcg@10"]
    assert f" {part.queries}  {number(figure.mean)} {between(figure)}  +." in line


def test_the_table_of_one_system_has_no_differences() -> None:
    text = print_table(Report(stream="P1", split=T, comparison=compare({"headwater": GOOD}, "headwater", draws=20)))
    assert "against" not in text
    assert "headwater" in text
