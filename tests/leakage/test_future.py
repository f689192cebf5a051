"""Whatever comes after a moment of a log, nothing that was answered, learnt or kept before it may differ."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from core.decision import Request
from core.errors import FutureLeak
from core.settings import Settings
from evaluation.evaluate import Evaluation
from evaluation.replay import replay
from jobs.rehearsal import Rehearsal
from jobs.retraining import Retraining, Trained
from ranker.user_vector import Transformer
from streams.recorded import Entry, Query
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
from tests.towers import chains, embedder_of, small_towers, tower_settings

SETTINGS = small_settings(min_groups=60)
BEGIN = T + 5 * DAY  # from then on there are queries
LOG = habits_log(shoppers=16, days=10)
MOMENT = T + 8 * DAY  # what comes from here on is another future
ASKED = [
    Query(query_id=f"q{n}", ts=BEGIN + n * 2 * HOUR, shopper=f"s{n % 20}", exclude_bought=n % 3 == 0) for n in range(50)
]


def reversed_in_time(future: Sequence[Entry]) -> list[Entry]:
    """The same acts at the mirrored times."""
    first, last = future[0].ts, future[-1].ts
    return [msgspec.structs.replace(one, ts=first + last - one.ts) for one in reversed(future)]


def craze(future: Sequence[Entry]) -> list[Entry]:
    """As many lines as before, all of them about an item that nobody had heard of."""
    told = [event("purchase", "craze", ts=one.ts, user_id=f"n{n % 5}") for n, one in enumerate(future[1:])]
    return [item("craze", ts=future[0].ts), *told]


FUTURES: dict[str, Callable[[Sequence[Entry]], list[Entry]]] = {
    "shuffled": lambda future: shuffled_items([*habits_log(days=0), *future])[len(habits_log(days=0)) :],
    "reversed": reversed_in_time,
    "craze": craze,
}


def with_future(name: str, log: Sequence[Entry]) -> list[Entry]:
    """A log that is the same before MOMENT, and has as many lines after it."""
    past, future = [one for one in log if one.ts < MOMENT], [one for one in log if one.ts >= MOMENT]
    other = FUTURES[name](future)
    assert len(other) == len(future)
    assert other != future
    return [*past, *other]


def log_with_queries(log: Sequence[Entry]) -> list[Entry]:
    return in_time_order(*ASKED, *log)


# ---------------------------------------------------------------------- the rehearsal
class Seen(NamedTuple):
    """Everything that a rehearsal let out, as bytes."""

    lists: list[tuple[tuple[str, ...], bytes, bytes]]
    lessons: list[tuple[int, bytes, bytes]]
    states: dict[str, dict[bytes, bytes | None]]
    rankers: list[tuple[int, int, int, dict[str, float]]]


def seen_until(moment: int, log: Sequence[Entry]) -> Seen:
    shop = Rehearsal(SETTINGS, learn_from_ms=T, train_from_ms=BEGIN)
    lists = []
    for entry in log:
        if entry.ts >= moment:
            break
        if not isinstance(entry, Query):
            shop.accept(entry)
            continue
        draft = shop.draft(Request(recommendation_id=entry.query_id, ts=entry.ts, shopper=entry.shopper))
        ids = tuple(shop.snapshot.live.ids[row] for row in draft.rows[draft.places].tolist())
        lists.append((ids, draft.features.tobytes(), draft.scores.tobytes()))
    shop.finish()
    lessons = [(one.ts, one.features.tobytes(), one.grades.tobytes()) for one in shop.lessons]
    states = {name: table.take_dirty() for name, table in shop.runner.tables.items()}
    trained = [(one.ts, one.groups, one.max_event_ms, one.ranker.importance()) for one in shop.trained]
    return Seen(lists, lessons, states, trained)


@pytest.fixture(scope="module")
def known() -> Seen:
    found = seen_until(MOMENT, log_with_queries(LOG))
    assert len(found.lists) > 20
    assert len(found.lessons) > 100
    assert found.rankers
    return found


def test_a_rehearsal_lets_out_the_same_before_another_future(known: Seen) -> None:
    assert seen_until(MOMENT, log_with_queries(with_future("shuffled", LOG))) == known


def test_a_rehearsal_that_went_on_into_the_future_had_let_out_the_same_before(known: Seen) -> None:
    whole = seen_until(MOMENT + 2 * DAY, log_with_queries(with_future("craze", LOG)))
    assert whole.lists[: len(known.lists)] == known.lists
    assert whole.rankers[: len(known.rankers)] == known.rankers


def answered_with_user_vectors(log: Sequence[Entry], until: int) -> tuple[list[tuple[int, int, bytes]], list[int]]:
    """Time, newest event of the user vector and features of each answer before MOMENT; when vectors were learnt."""
    settings = tower_settings()
    shop = Rehearsal(settings, embedder_of(settings), learn_from_ms=T + 4 * DAY, learn_user=True)
    answers = []
    for entry in log:
        if entry.ts >= until:
            break
        if not isinstance(entry, Query):
            shop.accept(entry)
            continue
        draft = shop.draft(Request(recommendation_id=entry.query_id, ts=entry.ts, shopper=f"u{entry.shopper[1:]}"))
        user = shop.snapshot.user
        newest = user.tower.shape.max_event_ms if isinstance(user, Transformer) else 0
        if entry.ts < MOMENT:
            answers.append((entry.ts, newest, draft.features.tobytes()))
    return answers, [one.ts for one in shop.users]


def test_user_vectors_learnt_on_the_way_know_nothing_of_another_future(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)
    log = chains(shoppers=20, days=9)
    here, learnt = answered_with_user_vectors(log_with_queries(log), MOMENT)
    there, later = answered_with_user_vectors(log_with_queries(with_future("craze", log)), MOMENT + DAY)
    assert len(here) > 20
    assert all(0 < newest < ts for ts, newest, _ in here)
    assert len({newest for _, newest, _ in here}) == len(learnt) == 2
    assert there == here
    assert later[:2] == learnt


def rehearsed(log: Sequence[Entry], settings: Settings = SETTINGS) -> Rehearsal:
    shop = Rehearsal(settings, learn_from_ms=T)
    for entry in log:
        if not isinstance(entry, Query):
            shop.accept(entry)
    return shop


def test_an_event_moves_no_feature_of_the_list_that_is_made_for_it() -> None:
    at, whole_lists = T + 4 * DAY, small_settings(negatives=1_000)
    first = []
    for bought in ("g0-0", "g1-0"):
        shop = rehearsed([*habits_log(days=3), *session("s0", "new", ["g0-1", bought], at)], whole_lists)
        shop.finish()
        first.append(next(one for one in shop.lessons if one.ts == at))
    assert first[0].features.tobytes() == first[1].features.tobytes()
    assert first[0].grades.tolist() != first[1].grades.tolist()


def test_an_item_that_appears_with_its_first_sale_is_no_candidate_of_that_moment() -> None:
    at = T + 4 * DAY
    shop = rehearsed([*habits_log(days=3), item("arrival", ts=at), *session("s0", "new", ["g0-1", "arrival"], at)])
    watched = shop.watch.open[next(reversed(shop.watch.open))]
    assert watched.ts == at
    for one in watched.lists:
        assert len(one.items) > 50
        assert "arrival" not in one.items


@pytest.mark.parametrize("late_ms", [1, MINUTE, DAY])
def test_a_moment_before_the_newest_event_cannot_be_asked_about(late_ms: int) -> None:
    shop = Rehearsal(SETTINGS)
    shop.accept(item("tea", ts=T))
    shop.accept(event("view_item", "tea", ts=T + DAY))
    ask = Request(recommendation_id="r", ts=T + DAY, shopper="ida")
    assert len(shop.draft(ask).rows) == 1
    past = msgspec.structs.replace(ask, ts=T + DAY - late_ms)
    with pytest.raises(FutureLeak, match=f"asked as of {T + DAY - late_ms}, but the state has seen {T + DAY}"):
        shop.draft(past)
    with pytest.raises(FutureLeak):
        shop.draft_with(past, replace(shop.snapshot, channels=("trending",)))


@pytest.mark.parametrize("newest", [event("search", ts=T + DAY), item("tea", ts=T + DAY)])
def test_whatever_is_newest_counts_and_not_only_what_an_item_shows(newest: Entry) -> None:
    shop = Rehearsal(SETTINGS)
    assert not isinstance(newest, Query)
    shop.accept(newest)
    with pytest.raises(FutureLeak):
        shop.draft(Request(recommendation_id="r", ts=T, shopper="ida"))


def test_no_ranker_is_trained_for_a_question_that_is_refused() -> None:
    shop = rehearsed(habits_log(days=4), small_settings(min_groups=10))
    with pytest.raises(FutureLeak):
        shop.draft(Request(recommendation_id="r", ts=shop.now_ms - 1, shopper="s1"))
    assert shop.trained == []


def test_a_ranker_has_seen_only_what_is_older_than_the_question_it_is_trained_for() -> None:
    shop = rehearsed(habits_log(days=4), small_settings(min_groups=10))
    shop.draft(Request(recommendation_id="r", ts=shop.now_ms, shopper="s1"))
    assert shop.trained == []  # at that very moment it would not be older
    shop.draft(Request(recommendation_id="r", ts=shop.now_ms + 1, shopper="s1"))
    assert [one.max_event_ms for one in shop.trained] == [shop.now_ms]


# ---------------------------------------------------------------------- replay and evaluation of whole streams
def test_a_replay_answers_the_same_before_another_future(tmp_path: Path) -> None:
    def answers(log: list[Entry]) -> list[tuple[str, tuple[str, ...]]]:
        found = replay(recorded(tmp_path, log_with_queries(log)), SETTINGS, None)
        return [(one.query.query_id, one.items) for one in found.answers if one.query.ts < MOMENT]

    before, other = answers(LOG), answers(with_future("craze", LOG))
    assert len(before) > 20
    assert before == other


def questions(path: Path) -> dict[str, Any]:
    evaluation = Evaluation(path, SETTINGS, None, BEGIN, 0)
    evaluation.run(lambda *_: None)
    parts = ("shopper", "ts", "bought", "first_time", "lists", "candidates", "channels", "catalogue")
    return {q.query_id: [getattr(q, part) for part in parts] for q in evaluation._asked if q.ts < MOMENT}


def test_an_evaluation_asks_and_answers_the_same_before_another_future(tmp_path: Path) -> None:
    before, other = questions(recorded(tmp_path, LOG)), questions(recorded(tmp_path, with_future("reversed", LOG)))
    assert len(before) > 20
    assert before == other


def test_an_evaluation_whose_ranker_has_seen_the_future_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Retraining.train

    def ahead(self: Retraining, now_ms: int, newest_ms: int) -> Trained | None:
        return honest(self, now_ms, newest_ms + DAY)

    monkeypatch.setattr(Retraining, "train", ahead)
    evaluation = Evaluation(recorded(tmp_path, LOG), SETTINGS, None, BEGIN, 0)
    with pytest.raises(FutureLeak, match="ranker 1 must have seen only events before"):
        evaluation.run(lambda *_: None)
