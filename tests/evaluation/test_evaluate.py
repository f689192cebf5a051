from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.errors import BadInput, FutureLeak
from core.events import Event
from core.profile import Profile
from core.settings import AttributionSettings, EaseSettings, Settings
from evaluation.bootstrap import Interval
from evaluation.evaluate import Evaluation, run
from evaluation.report import Report
from evaluation.wording import against
from ranker import ease
from ranker.ease import Ease
from streams.recorded import Entry
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    T,
    event,
    habits_log,
    in_time_order,
    item,
    recorded,
    session,
    shuffled_items,
    small_settings,
)

SETTINGS = small_settings(min_groups=60)
IDS = tuple("abcdef")
SPLIT = T + 10 * DAY


def past() -> list[Entry]:
    """Before the split: a shelf, and bob who bought three things of it."""
    return [*[item(name, ts=T) for name in IDS], event("purchase", *"abc", user_id="bob", ts=T + DAY)]


def asked(folder: Path, *entries: Entry, settings: Settings = SETTINGS, most: int = 0) -> dict[str, Any]:
    """The questions about what comes after the split, by id. A search ends the log."""
    end = event("search", user_id="end", ts=SPLIT + 40 * DAY)
    path = recorded(folder, in_time_order(*past(), *entries, end))
    evaluation = Evaluation(path, settings, None, SPLIT, most)
    with suppress(BadInput):  # nothing to report is no reason not to look at what was asked
        evaluation.run(lambda *_: None)
    found = {question.query_id: question for question in evaluation._asked}
    assert len(found) == len(evaluation._asked)
    return found


def visit(shopper: str, name: str, *items: str, ts: int = SPLIT + 1) -> Sequence[Entry]:
    return session(shopper, name, items, ts)


# ---------------------------------------------------------------------- who is asked, and what is right
def test_whoever_comes_back_is_asked_and_what_is_then_bought_is_the_target(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, *visit("ida", "s", "a", "b", "c")).values()
    assert (question.shopper, question.ts, question.session) == ("ida", SPLIT + 1, "s")
    assert question.targets == {"b", "c"}
    assert question.shown is None


def test_nothing_that_follows_is_known_when_the_question_is_asked(tmp_path: Path) -> None:
    known, new = asked(
        tmp_path, event("purchase", "d", user_id="bob", ts=SPLIT + 1), event("purchase", "e", ts=SPLIT + 2)
    ).values()
    assert (known.bought, known.first_time) == ({"a", "b", "c"}, False)
    assert (new.bought, new.first_time) == (frozenset(), True)
    assert new.targets == {"e"}
    assert new.catalogue == len(IDS)


def test_what_lies_before_the_split_is_only_learnt_from(tmp_path: Path) -> None:
    found = asked(tmp_path, *visit("ida", "early", "a", "b", ts=SPLIT - HOUR), *visit("ida", "late", "a", "b"))
    assert [question.session for question in found.values()] == ["late"]


def test_another_session_or_another_day_is_no_target(tmp_path: Path) -> None:
    view = event("view_item", "a", session_id="s", ts=SPLIT + 1)
    other = event("purchase", "b", session_id="t", ts=SPLIT + 2)
    later = event("purchase", "c", session_id="s", ts=SPLIT + 1 + 2 * DAY)
    questions = asked(tmp_path, view, other, later)
    assert [(one.session, one.targets) for one in questions.values()] == [("s", set()), ("t", {"b"})]


def test_the_targets_are_of_the_strongest_kind_that_the_log_has(tmp_path: Path) -> None:
    views = [event("view_item", name, ts=SPLIT + n) for n, name in enumerate("abc", 1)]
    (question,) = asked(tmp_path, *views).values()
    assert question.targets == {"a", "b", "c"}
    (question,) = asked(tmp_path, *views, event("add_to_cart", "f", ts=SPLIT + MINUTE)).values()
    assert question.targets == {"f"}


def test_a_shown_list_is_ordered_anew_and_its_clicks_are_the_targets(tmp_path: Path) -> None:
    told = [
        event("view_item_list", *"dab", recommendation_id="r", ts=SPLIT + 1),
        event("select_item", "b", recommendation_id="r", ts=SPLIT + 2),
        event("select_item", "f", recommendation_id="other", ts=SPLIT + 3),
    ]
    questions = asked(tmp_path, *told)
    assert questions.keys() == {"list:r"}
    assert questions["list:r"].targets == {"b"}
    assert sorted(questions["list:r"].lists["headwater"]) == ["a", "b", "d"]
    assert questions["list:r"].shown == ("a", "b", "d")


def test_an_event_that_comes_twice_asks_once(tmp_path: Path) -> None:
    shown = event("view_item_list", *"dab", recommendation_id="r", ts=SPLIT + 1)
    sale = event("purchase", "b", ts=SPLIT + 2)
    assert len(asked(tmp_path, shown, shown, sale, sale)) == 2


def test_all_systems_answer_the_same_questions(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, *visit("bob", "s", "a", "b")).values()
    assert question.lists.keys() == {"headwater", "recent popularity", "own repeat purchases", "co-occurrence"}
    for listed in question.lists.values():
        assert sorted(listed) == sorted(IDS)
    assert question.lists["own repeat purchases"][:3] == ("a", "b", "c")


@pytest.mark.parametrize("name", ["s", None])
def test_about_as_many_are_asked_as_are_wanted(tmp_path: Path, name: str | None) -> None:
    told = [
        event("view_item", item, user_id=f"u{n}", session_id=name, ts=SPLIT + n * MINUTE)
        for n in range(100)
        for item in "abc"
    ]
    assert len(asked(tmp_path, *told)) == 100
    assert 10 <= len(asked(tmp_path, *told, most=20)) <= 30


def test_a_visit_that_is_not_asked_gives_its_targets_to_no_other(tmp_path: Path) -> None:
    """Of many sessions without names few are asked, and each target belongs to the session it was bought in."""
    visits = [event("purchase", IDS[n % 6], ts=SPLIT + 1 + n * HOUR) for n in range(200)]
    questions = asked(tmp_path, *visits, most=40)
    assert 20 < len(questions) < 60
    assert all(len(question.targets) == 1 for question in questions.values())


def test_the_window_is_that_of_attribution(tmp_path: Path) -> None:
    base = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__}
    short = Settings(**(base | {"attribution": AttributionSettings(window_s=60.0)}))
    told = [event("view_item", "a", ts=SPLIT + 1), event("purchase", "b", ts=SPLIT + 1 + 2 * MINUTE)]
    assert [one.targets for one in asked(tmp_path, *told).values()] == [{"b"}]
    assert [one.targets for one in asked(tmp_path, *told, settings=short).values()] == [set()]


@pytest.mark.parametrize("moment", [T, T - 1, SPLIT + 99 * DAY])
def test_a_split_outside_the_log_is_refused(tmp_path: Path, moment: int) -> None:
    path = recorded(tmp_path, in_time_order(*past(), *visit("ida", "s", "a", "b")))
    with pytest.raises(BadInput, match="test-from must lie within the log"):
        run(path, SETTINGS, None, test_from_ms=moment)


def test_a_log_in_which_nothing_can_be_asked_says_so(tmp_path: Path) -> None:
    path = recorded(tmp_path, [*past(), event("search", ts=SPLIT), event("search", ts=SPLIT + 1)])
    with pytest.raises(BadInput, match="nothing after the split begins a session or shows a list"):
        run(path, SETTINGS, None, test_from_ms=SPLIT)


# ---------------------------------------------------------------------- whole logs
def evaluated(folder: Path, log: Sequence[Entry], settings: Settings = SETTINGS, ablate: int = 0) -> Report:
    return run(recorded(folder, log), settings, None, ablate=ablate)


def difference(report: Report, reference: str) -> Interval:
    found = against(report.comparison.differences, reference)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def habits(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return evaluated(tmp_path_factory.mktemp("habits"), habits_log(days=16), ablate=1_000)


def test_where_shoppers_have_tastes_the_product_beats_every_baseline(habits: Report) -> None:
    for reference in ("recent popularity", "own repeat purchases", "co-occurrence"):
        assert difference(habits, reference).low > 0.05, reference


def test_where_nobody_has_a_taste_nothing_is_better_than_anything(tmp_path: Path) -> None:
    """What must not be learnt: the same log with its items drawn anew. One draw in twenty looks better by chance."""
    better: Counter[str] = Counter()
    for seed in (1, 2, 3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        report = evaluated(folder, shuffled_items(habits_log(shoppers=20, days=11), seed))
        better.update(one.reference for one in report.comparison.differences if one.metrics["ndcg@10"].low > 0)
    assert all(draws < 2 for draws in better.values()), better


def test_a_report_tells_how_it_came_about(habits: Report) -> None:
    assert T + 12 * DAY < habits.split < T + 14 * DAY
    assert [job.ts for job in habits.jobs] == sorted(job.ts for job in habits.jobs)
    assert habits.jobs
    kinds = {one.name.rpartition(" ")[0] for one in habits.artefacts}
    assert kinds == {"ranker", "model of histories"}
    for kind in kinds:
        some = [one for one in habits.artefacts if one.name.startswith(kind)]
        assert sum(one.queries for one in some) <= habits.comparison.asked
        assert [one.name for one in some] == [f"{kind} {n}" for n in range(1, len(some) + 1)]
    assert all(one.max_event_time < one.first_query <= one.last_query for one in habits.artefacts)
    assert {one.channel for one in habits.channels} >= {"own", "bought", "trending"}
    assert not {"text", "next"} & {one.channel for one in habits.channels}
    assert habits.notes == (
        "Targets of a visit are the items of its purchase events; of a shown list, what was clicked.",
    )
    assert "training.min_groups" in {one.name for one in habits.settings}


def test_what_each_part_is_worth_is_told(habits: Report) -> None:
    lost = {one.without: one for one in habits.ablations}
    assert lost.keys() == {"the ranker", *(one.channel for one in habits.channels)}
    assert lost["the ranker"].metrics["ndcg@10"].low > 0
    assert lost["the ranker"].queries == habits.comparison.queries  # few enough for all to be asked


def test_a_model_that_has_seen_what_it_is_asked_about_stops_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that fits from events that are still to come, as one with a wrong clock would."""
    honest = ease.fit

    def ahead(profiles: Iterable[Profile], now_ms: int, settings: EaseSettings) -> Ease | None:
        found = honest(profiles, now_ms, settings)
        return found and replace(found, max_event_ms=now_ms + DAY)

    monkeypatch.setattr("ranker.ease.fit", ahead)
    daily = msgspec.structs.replace(SETTINGS, ease=EaseSettings(every_s=DAY / 1000))
    with pytest.raises(FutureLeak, match="model of histories 1 must have seen only events before"):
        evaluated(tmp_path, habits_log(days=6), daily)


def test_shoppers_who_are_there_for_the_first_time_are_told_apart(tmp_path: Path) -> None:
    """In the newest days everybody is somebody else, of whom nothing is known."""
    log = [
        msgspec.structs.replace(one, user_id=f"new-{one.user_id}-{one.ts // DAY}")
        if isinstance(one, Event) and one.ts > T + 6 * DAY
        else one
        for one in habits_log(days=8)
    ]
    report = evaluated(tmp_path, log)
    assert {one.channel for one in report.cold_start["first-time shoppers"]} == {"trending", "new"}
    assert report.cold_start["cold items"] == ()


def test_two_runs_give_the_same_figures(tmp_path: Path) -> None:
    log = habits_log(days=6)
    one, other = (evaluated(tmp_path, log, ablate=20) for _ in range(2))
    assert [row.metrics for row in one.comparison.rows] == [row.metrics for row in other.comparison.rows]
    assert one.channels == other.channels
    assert one.ablations == other.ablations


def test_categories_are_not_counted_among_the_items(tmp_path: Path) -> None:
    """Their events would halve every item's share, and so raise the novelty of all lists."""
    plain, placed = (
        [*[item(f"g{g}-{n}", ts=T, **more) for g in range(8) for n in range(8)], *habits_log(days=6)[64:]]
        for more in ({}, {"category": "All"})
    )
    novelty = []
    for log in (plain, placed):
        rows = {row.system: row for row in evaluated(tmp_path, log).comparison.rows}
        novelty.append(rows["own repeat purchases"].metrics["novelty@10"].mean)
    assert novelty[0] == pytest.approx(novelty[1])
