import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.decision import Decision, Label
from core.errors import Missing
from core.ids import digest
from core.manifest import MANIFEST, Contents, Manifest
from core.settings import Settings
from jobs.comparison import NEWER
from jobs.lessons import Lesson
from jobs.rehearsal import Rehearsal
from jobs.train import Outcome, run
from ranker import features
from ranker.bundle import open_bundle
from streams.log import EmbeddedLog, New
from streams.messages import of_decision, of_output
from streams.recorded import Entry, Query
from tests.factories import DAY, MINUTE, T, event, fill, habits_log, item, shuffled_items, small_settings

SHOPPERS = 16
NOW = T + 40 * DAY
LOG = habits_log(shoppers=SHOPPERS, days=20)
FIRST = [one for one in LOG if one.ts < T + 10 * DAY]
LATER = [one for one in LOG if one.ts >= T + 10 * DAY]


def trained(settings: Settings, *, now_ms: int = NOW, **more: Any) -> Outcome:
    told: list[tuple[str, int, int]] = []
    outcome = run(settings, None, now_ms, lambda *progress: told.append(progress), **more)
    assert told
    assert all(0 <= done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]
    return outcome


def store(settings: Settings) -> Bundles:
    return Bundles(settings.bundles.path, settings.bundles.keep)


def manifest(outcome: Outcome) -> Manifest:
    assert outcome.manifest is not None
    return outcome.manifest


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path, min_groups=60)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with the first days in the log and what was trained on them, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    settings = small_settings(folder, min_groups=60)
    fill(settings, FIRST)
    return folder, trained(settings)


@pytest.fixture
def first(first_run: tuple[Path, Outcome], tmp_path: Path) -> Outcome:
    """The first run, as if it had been in the test's own folder."""
    shutil.copytree(first_run[0], tmp_path, dirs_exist_ok=True)
    return first_run[1]


# ---------------------------------------------------------------------- the first bundles
def test_a_log_with_habits_gives_a_ranker_that_is_better_than_the_blend_and_serves(
    settings: Settings, first: Outcome
) -> None:
    outcome = first
    assert outcome.promoted
    assert outcome.verdict is not None
    assert outcome.verdict.difference[0] > 0
    assert outcome.why.startswith("better: ")
    made = manifest(outcome)
    assert store(settings).current() == made
    assert (made.ranker, made.created_ms, made.max_event_time) == ("lambdarank", NOW, FIRST[-1].ts)
    assert made.metrics["lists"] == outcome.lessons
    opened = open_bundle(store(settings).folder(made.id), store(settings).load(made.id), settings)
    assert opened.ranker is not None
    assert opened.ranker.importance()


def test_a_log_without_habits_teaches_nothing_that_is_sure(settings: Settings) -> None:
    """What must not be learnt: the same log with its items drawn anew."""
    fill(settings, shuffled_items(FIRST))
    outcome = trained(settings)
    assert outcome.verdict is not None
    assert outcome.verdict.difference[1] < 0  # the interval does not lie above 0
    assert outcome.verdict.challenger < 0.4


def test_too_few_lists_give_a_bundle_in_which_the_blend_ranks(settings: Settings) -> None:
    fill(settings, habits_log(shoppers=SHOPPERS, days=2))
    outcome = trained(settings)
    assert (outcome.promoted, outcome.verdict) == (True, None)
    assert "and a ranker is trained from 60 on" in outcome.why
    made = manifest(outcome)
    assert (made.ranker, store(settings).current_id()) == ("blend", made.id)
    assert open_bundle(store(settings).folder(made.id), made, settings).ranker is None


def test_too_few_lists_take_nothing_away_from_what_serves(settings: Settings) -> None:
    fill(settings, habits_log(shoppers=SHOPPERS, days=2))
    first = trained(settings)
    again = trained(settings, now_ms=NOW + 1)
    assert (again.manifest, again.promoted) == (None, False)
    assert store(settings).current_id() == manifest(first).id


@pytest.mark.parametrize("log", [[], [item("tea")]])
def test_a_log_without_events_is_nothing_to_learn_from(settings: Settings, log: list[Entry]) -> None:
    fill(settings, log)
    with pytest.raises(Missing, match="the log holds no events"):
        trained(settings)
    assert store(settings).list() == ()


def test_what_the_dead_letter_log_has_is_passed_over(settings: Settings) -> None:
    fill(settings, habits_log(shoppers=SHOPPERS, days=2))
    append(settings, [New(topic, b"x", b"\xff{", T) for topic in ("clickstream", "items", "decisions", "labelled")])
    assert trained(settings).manifest is not None


# ---------------------------------------------------------------------- the next ones
def test_a_second_run_on_the_same_log_compares_nothing_and_promotes_nothing(settings: Settings, first: Outcome) -> None:
    """On lists that it has learnt from, what serves would always look better, or be judged by its memory."""
    again = trained(settings, now_ms=NOW + 1)
    assert (again.promoted, again.verdict) == (False, None)
    assert f"0 lists are newer than bundle {manifest(first).id}, and it takes {NEWER}" in again.why
    assert store(settings).current_id() == manifest(first).id


def test_a_run_after_new_lists_is_judged_on_those_alone(settings: Settings, first: Outcome) -> None:
    fill(settings, LATER)
    again = trained(settings, now_ms=NOW + 1)
    assert again.verdict is not None
    assert f"against bundle {manifest(first).id}" in again.why
    newer = again.lessons - first.lessons
    assert NEWER <= again.verdict.lists <= newer
    assert manifest(again).max_event_time == LATER[-1].ts
    assert store(settings).current_id() == manifest(again if again.promoted else first).id


def test_whoever_insists_gets_the_new_one(settings: Settings, first: Outcome) -> None:
    again = trained(settings, now_ms=NOW + 1, force=True)
    assert again.promoted
    assert store(settings).current_id() == manifest(again).id
    assert store(settings).rollback() == manifest(first).id


def test_the_same_log_at_the_same_time_gives_the_same_bundle(tmp_path: Path) -> None:
    made = []
    for name in "ab":
        settings = small_settings(tmp_path / name, min_groups=60)
        fill(settings, habits_log(shoppers=SHOPPERS, days=5))
        made.append(manifest(trained(settings)))
    assert made[0] == made[1]


def test_a_damaged_bundle_is_no_champion(settings: Settings, first: Outcome) -> None:
    before = manifest(first)
    (store(settings).folder(before.id) / "ranker.txt").write_text("tree")
    again = trained(settings, now_ms=NOW + 1)
    assert again.verdict is not None
    assert "against the blend" in again.why


def test_a_ranker_of_another_space_is_no_champion(settings: Settings, first: Outcome) -> None:
    before = manifest(first)
    bundles, source = store(settings), store(settings).folder(before.id)
    fields = {name: getattr(before, name) for name in Contents.__struct_fields__}
    elsewhere = Contents(**(fields | {"space_id": "other", "created_ms": NOW + 1}))
    bundles.promote(bundles.write(elsewhere, lambda to: _copy(source, to)).id)
    again = trained(settings, now_ms=NOW + 2)
    assert "against the blend" in again.why
    assert again.promoted


def _copy(source: Path, to: Path) -> None:
    for path in source.iterdir():
        if path.name != MANIFEST:
            (to / path.name).write_bytes(path.read_bytes())


# ---------------------------------------------------------------------- what was really served
def append(settings: Settings, records: Sequence[New]) -> None:
    log = EmbeddedLog.open(settings.log)
    try:
        log.append(records)
    finally:
        log.close()


def served(settings: Settings, name: str, lesson: Lesson, *, ts: int, shopper: str = "s0") -> list[New]:
    """The records of a list with the features of a lesson, and of what followed, as the lesson's grades have it."""
    pool = tuple(f"p{n}" for n in range(len(lesson.grades)))
    decision = Decision(
        recommendation_id=name, ts=ts, shopper=shopper, placement="home", bundle="b", ranker="blend", items=(),
        pool=pool, schema=features.schema(settings), features=lesson.features.tobytes(),
    )  # fmt: skip
    outcome = {1: "view", 2: "cart", 3: "buy"}
    labels = [
        Label(1, name, one, outcome[grade], ts + 1, 1, True)
        for one, grade in zip(pool, lesson.grades.tolist(), strict=True)
        if grade
    ]
    return [of_decision(decision), *[of_output("labelled", shopper, label) for label in labels]]


def rehearsed_lessons(settings: Settings, log: Sequence[Entry]) -> list[Lesson]:
    shop = Rehearsal(settings, learn_from_ms=T)
    for entry in log:
        assert not isinstance(entry, Query)
        shop.accept(entry)
    shop.finish()
    return list(shop.lessons)


def test_lists_that_were_served_are_learnt_from_as_they_were_logged(settings: Settings) -> None:
    few = habits_log(shoppers=SHOPPERS, days=2)
    fill(settings, few)
    made = rehearsed_lessons(settings, few)
    append(settings, [one for n in range(50) for one in served(settings, f"r{n}", made[n % len(made)], ts=few[-1].ts)])
    assert trained(settings).lessons == len(made) + 50


def test_a_list_that_was_served_is_not_rehearsed_as_well(settings: Settings) -> None:
    few = habits_log(shoppers=SHOPPERS, days=2)
    at = few[-1].ts + DAY
    told = [
        event("view_item_list", "g0-0", "g0-1", recommendation_id="r", user_id="s0", session_id="new", ts=at),
        event("select_item", "g0-0", recommendation_id="r", user_id="s0", session_id="new", ts=at + MINUTE),
    ]
    fill(settings, [*few, *told])
    lesson = rehearsed_lessons(settings, few)[0]
    before = trained(settings).lessons
    append(settings, served(settings, "r", lesson, ts=at))
    assert trained(settings, now_ms=NOW + 1).lessons == before


def test_served_lists_that_are_older_than_the_window_are_not_learnt_from(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, min_groups=60, window_s=5 * 86_400.0)
    few = habits_log(shoppers=SHOPPERS, days=2)
    fill(settings, few)
    lesson = rehearsed_lessons(settings, few)[0]
    append(settings, [one for n in range(80) for one in served(settings, f"r{n}", lesson, ts=T - 9 * DAY)])
    assert trained(settings).lessons < 60


def test_poisoned_features_do_not_take_over(settings: Settings, first: Outcome) -> None:
    made = rehearsed_lessons(settings, FIRST)
    records = []
    for n in range(2 * len(made)):
        good = made[n % len(made)]
        bad = Lesson(good.ts, good.features, np.where(good.grades > 0, 0, 3).astype(np.int8))
        records += served(settings, f"r{n}", bad, ts=FIRST[-1].ts + 1 + n)
    append(settings, records)
    fill(settings, LATER)
    again = trained(settings, now_ms=NOW + 1)
    assert again.lessons > 2 * first.lessons
    assert again.verdict is not None
    assert not again.promoted
    assert again.verdict.challenger <= again.verdict.champion
    assert store(settings).current_id() == manifest(first).id


def test_features_without_bounds_stop_nothing(settings: Settings) -> None:
    few = habits_log(shoppers=SHOPPERS, days=3)
    fill(settings, few)
    good = rehearsed_lessons(settings, few)[0]
    records = []
    for n, value in enumerate([np.inf, -np.inf, np.nan, 3e38] * 20):
        bad = Lesson(good.ts, np.full_like(good.features, value), good.grades)
        records += served(settings, f"r{n}", bad, ts=few[-1].ts)
    append(settings, records)
    verdict = trained(settings).verdict
    assert verdict is not None
    assert np.isfinite([verdict.challenger, verdict.champion, *verdict.difference]).all()


def test_decisions_of_another_schema_are_rehearsed_instead(settings: Settings) -> None:
    other = msgspec.structs.replace(
        settings, popularity=msgspec.structs.replace(settings.popularity, half_lives_s=(86_400.0, 172_800.0))
    )
    few = habits_log(shoppers=SHOPPERS, days=2)
    fill(settings, few)
    lesson = rehearsed_lessons(settings, few)[0]
    append(settings, [one for n in range(80) for one in served(other, f"r{n}", lesson, ts=few[-1].ts)])
    assert digest(*features.names(other)) != features.schema(settings)
    assert trained(settings).lessons < 60
