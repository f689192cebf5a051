from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from core.catalogue import Item, parse_change
from core.decision import Request
from core.events import Event
from core.ids import hash64
from core.settings import Settings
from jobs.embedding import Embedder
from jobs.lessons import Lesson
from jobs.rehearsal import Rehearsal
from jobs.retraining import Trained
from ranker import features
from streams.recorded import Entry, Query
from tests.factories import DAY, HOUR, MINUTE, T, event, habits_log, item, session, small_settings

IDS = tuple("abcdef")


def rehearsed(log: Sequence[Entry], settings: Settings | None = None, **more: Any) -> Rehearsal:
    shop = Rehearsal(settings or small_settings(), **({"learn_from_ms": 0} | more))
    for entry in log:
        assert not isinstance(entry, Query)
        shop.accept(entry)
    return shop


def shelf() -> list[Entry]:
    return [item(name, ts=T - 30 * DAY) for name in IDS]


def sale(shopper: str, *items: str, ts: int = T, **more: Any) -> Event:
    return event("purchase", *items, user_id=shopper, ts=ts, **more)


def graded(shop: Rehearsal) -> list[list[int]]:
    """Grades of every lesson, highest first."""
    return [sorted(one.grades.tolist(), reverse=True) for one in shop.lessons]


# ---------------------------------------------------------------------- which lists are made
def test_a_shown_list_is_ranked_as_shown_and_graded_by_what_followed() -> None:
    told = [
        event("view_item_list", *"abcd", recommendation_id="r", ts=T),
        event("select_item", "c", recommendation_id="r", ts=T + 1),
        event("purchase", "b", ts=T + 2),
    ]
    shop = rehearsed([*shelf(), *told])
    shop.finish()
    (lesson,) = shop.lessons
    assert lesson.ts == T
    assert lesson.grades.tolist() == [0, 3, 1, 0]
    assert lesson.features.shape == (4, len(features.names(shop.settings)))


def test_a_visit_is_given_candidates_and_graded_by_what_the_visit_came_to() -> None:
    log = [*shelf(), sale("bob", "a", "b", ts=T - DAY), *session("ida", "s", ["c", "d"], T)]
    shop = rehearsed(log, learn_from_ms=T)
    shop.finish()
    assert graded(shop) == [[3, 1, 0, 0, 0, 0]]


def test_a_visit_of_somebody_who_bought_before_also_asks_for_what_is_new() -> None:
    shop = rehearsed([*shelf(), sale("ida", "a", "b", ts=T - DAY), sale("ida", "a", "c")], learn_from_ms=T)
    shop.finish()
    assert graded(shop) == [[3, 3, 0, 0, 0, 0], [3, 0, 0, 0]]


def test_only_the_beginning_of_a_session_calls_for_a_list() -> None:
    views = [event("view_item", name, ts=T + n * MINUTE) for n, name in enumerate("abc")]
    shop = rehearsed([*shelf(), *views, event("view_item", "a", ts=T + DAY)])
    assert [watched.ts for watched in shop.watch.open.values()] == [T, T + DAY]


@pytest.mark.parametrize(
    "told",
    [
        event("view_item_list", "a"),
        event("search"),
        event("like", "a"),
        event("select_item", "a"),
        event("refund", "a"),
        event("view_item_list", "a", "b", recommendation_id="logged"),
    ],
)
def test_some_events_call_for_no_list(told: Event) -> None:
    shop = rehearsed([*shelf(), told], logged={"logged"})
    assert not shop.watch.open


@pytest.mark.parametrize("since", [None, T + 1])
def test_nothing_is_learnt_before_the_moment_that_is_asked_for(since: int | None) -> None:
    shop = rehearsed([*shelf(), *session("ida", "s", ["c", "d"], T)][:-1], learn_from_ms=since)
    shop.finish()
    assert not shop.lessons


def test_a_lesson_holds_the_features_that_a_request_of_its_moment_would_have() -> None:
    log = [*habits_log(days=3), *session("s0", "last", ["g0-0", "g0-1"], T + 4 * DAY)]
    visit = next(n for n, one in enumerate(log) if isinstance(one, Event) and one.session_id == "last")
    asked = rehearsed(log[:visit]).draft(Request(recommendation_id="any", ts=T + 4 * DAY, shopper="s0"))
    shop = rehearsed(log, small_settings(negatives=1_000))
    shop.finish()
    lesson = next(one for one in shop.lessons if one.ts == T + 4 * DAY)
    assert lesson.features.tobytes() == asked.features.tobytes()


# ---------------------------------------------------------------------- what came late, or twice
def late(by_ms: int, *more: Event) -> list[int]:
    """Moments of the lists made for a visit of ida at T that arrives when the shop is `by_ms` further."""
    others = [*shelf(), event("search", user_id="bob", ts=T + by_ms), *more]
    shop = rehearsed([*others, event("view_item", "a", session_id="late", ts=T)], learn_from_ms=T)
    return [watched.ts for watched in shop.watch.open.values() if watched.ts >= T and len(watched.lists)]


@pytest.mark.parametrize(("by_ms", "moments"), [(0, [T]), (MINUTE, [T + MINUTE]), (HOUR, []), (20 * DAY, [])])
def test_a_visit_that_arrives_late_is_decided_with_what_is_known_by_then_or_not_at_all(
    by_ms: int, moments: list[int]
) -> None:
    assert late(by_ms) == moments


def test_what_the_shopper_did_since_is_no_secret_to_learn() -> None:
    assert late(MINUTE, event("search", session_id="other", ts=T + MINUTE)) == []


def test_lists_lie_in_order_of_their_time_whatever_comes_late() -> None:
    random = np.random.default_rng(4)
    views = [event("view_item", "a", user_id=f"u{n}", ts=T + n * MINUTE) for n in range(40)]
    order = np.argsort(np.arange(40) + random.normal(size=40) * 8)
    shop = rehearsed([*shelf(), *[views[n] for n in order.tolist()]])
    moments = [watched.ts for watched in shop.watch.open.values()]
    assert moments == sorted(moments)
    assert len(moments) > 5


def test_a_list_that_is_told_twice_is_learnt_once() -> None:
    shown = event("view_item_list", "a", "b", recommendation_id="r", ts=T)
    click = event("select_item", "a", recommendation_id="r", ts=T + 1)
    shop = rehearsed([*shelf(), shown, click, shown, click])
    shop.watch.close(T + 2 * DAY)
    shop.accept(shown)
    shop.finish()
    assert graded(shop) == [[1, 0]]


# ---------------------------------------------------------------------- when a list is a lesson
def test_a_list_becomes_a_lesson_when_its_window_has_passed() -> None:
    shop = rehearsed([*shelf(), *session("ida", "s", ["c", "d"], T)])
    shop.accept(event("view_item", "a", user_id="bob", ts=T + DAY))
    assert len(shop.lessons) == 0
    shop.accept(event("view_item", "a", user_id="eva", ts=T + DAY + 1))
    assert [one.ts for one in shop.lessons] == [T]


def test_it_waits_no_longer_than_what_follows_a_list_takes_to_come() -> None:
    log: list[Entry] = shelf()
    for n in range(210):
        log += [event("view_item_list", "a", "b", recommendation_id=f"r{n}", user_id=f"u{n}", ts=T + n * HOUR)]
        log += [event("select_item", "a", recommendation_id=f"r{n}", user_id=f"u{n}", ts=T + n * HOUR + 3_000)]
    shop = rehearsed(log)
    assert shop.watch.settled_ms() == 4_096
    assert len(shop.lessons) == 209


def test_a_lesson_holds_all_that_was_wanted_and_a_bounded_sample_of_the_rest_in_their_order() -> None:
    log = [*habits_log(days=2), *session("s0", "last", ["g0-0", "g0-1", "g0-2"], T + 3 * DAY)]
    whole, sampled = (rehearsed(log, small_settings(negatives=most)) for most in (1_000, 5))
    for shop in (whole, sampled):
        shop.finish()
    for one, other in zip(whole.lessons, sampled.lessons, strict=True):
        assert np.count_nonzero(other.grades) == np.count_nonzero(one.grades)
        assert len(other.grades) == np.count_nonzero(one.grades) + 5
        rows = [row.tobytes() for row in one.features]
        places = [rows.index(row.tobytes()) for row in other.features]
        assert places == sorted(places)


def test_the_newest_lessons_are_kept() -> None:
    shop = rehearsed(habits_log(days=4), small_settings(max_groups=20))
    shop.finish()
    moments = [one.ts for one in shop.lessons]
    assert len(moments) == 20
    assert min(moments) > T + 0.5 * DAY


def test_where_there_are_more_visits_than_are_kept_a_sample_is_learnt_from() -> None:
    many, few = (rehearsed(habits_log(days=6), small_settings(max_groups=most)) for most in (10_000, 40))
    assert many.watch.learnt > 2 * few.watch.learnt > 40
    whole = {one.ts for one in many.lessons}
    assert {one.ts for one in few.lessons} <= whole | {one.ts for one in many.watch.open.values()}


# ---------------------------------------------------------------------- lists between visits
def between(visits: Sequence[float], **training: Any) -> Rehearsal:
    """Ida buys at these days, each time something else; on every day bob looks in."""
    sales = [sale("ida", *pair, ts=round(T + day * DAY)) for day, pair in zip(visits, ("ab", "cd"), strict=False)]
    others = [event("view_item", "c", user_id="bob", ts=T + n * DAY + HOUR) for n in range(20)]
    log = sorted([*sales, *others], key=lambda one: one.ts)
    return rehearsed([*shelf(), *log], small_settings(**({"between": 5} | training)), learn_from_ms=T)


def test_a_list_made_between_visits_is_graded_by_the_next_one() -> None:
    with_it, without = between([0, 9.5]), between([0, 9.5], between=0)
    for shop in (with_it, without):
        shop.finish()
    buys = [one for one in with_it.lessons if one.ts == T + 9.5 * DAY]
    assert len(buys) == len([one for one in without.lessons if one.ts == T + 9.5 * DAY]) + 1
    assert (buys[-1].grades == 3).sum() == 2


def test_a_list_between_visits_is_made_of_what_was_known_then() -> None:
    shop = between([0, 9.5])
    early = between([0]).watch.ahead["ida"]
    shop.finish()
    lesson = [one for one in shop.lessons if one.ts == T + 9.5 * DAY][-1]
    kept = {row.tobytes() for row in early.lists[0].features}
    assert {row.tobytes() for row in lesson.features} <= kept


def test_who_does_not_come_back_is_forgotten() -> None:
    assert "ida" in between([0], between_s=30 * 86_400.0).watch.ahead
    made = between([0], between_s=2 * 86_400.0).watch.ahead
    assert all(one.ts > T + 16 * DAY for one in made.values())


# ---------------------------------------------------------------------- the model of histories
def test_histories_are_fitted_again_on_event_time() -> None:
    shop, seen = Rehearsal(small_settings(), learn_from_ms=T), set[int]()
    for entry in habits_log(days=20):
        assert not isinstance(entry, Query)
        shop.accept(entry)
        ease = shop.snapshot.live.ease
        if ease is not None:
            seen.add(ease.ease.max_event_ms)
            assert ease.ease.max_event_ms <= shop.now_ms
    assert len(seen) in (2, 3)


def test_a_channel_that_is_switched_off_is_not_fitted() -> None:
    assert rehearsed(habits_log(days=3), channels=("own", "trending")).snapshot.live.ease is None


# ---------------------------------------------------------------------- when a ranker is trained
def trained_at(days: Sequence[float], settings: Settings, **more: Any) -> list[Trained]:
    told: list[Trained] = []
    shop, log = Rehearsal(settings, learn_from_ms=T, on_train=told.append, **more), habits_log(shoppers=12, days=10)
    for day in days:
        while log and log[0].ts < T + day * DAY:
            entry = log.pop(0)
            assert not isinstance(entry, Query)
            shop.accept(entry)
        shop.ready(T + round(day * DAY))
        assert (shop.snapshot.ranker is None) == (not told)
    assert told == shop.trained
    return told


def test_a_ranker_is_trained_when_enough_was_learnt_and_again_when_half_as_much_came() -> None:
    found = trained_at([n / 4 for n in range(41)], small_settings(min_groups=50, growth=0.5, every_s=365 * 86_400.0))
    groups = [one.groups for one in found]
    assert len(groups) > 2
    assert 50 <= groups[0] < 70
    assert all(1.5 * one <= other < 2 * one for one, other in pairwise(groups))


def test_a_ranker_is_trained_again_after_its_time() -> None:
    found = trained_at([n / 4 for n in range(41)], small_settings(min_groups=50, every_s=86_400.0, growth=1e9))
    pauses = [(later.ts - one.ts) / DAY for one, later in pairwise(found)]
    assert len(pauses) > 3
    assert all(1 <= pause <= 1.25 for pause in pauses)


def test_no_ranker_is_trained_that_nobody_asks() -> None:
    assert [one.ts for one in trained_at([8, 9], small_settings(), train_from_ms=T + 9 * DAY)] == [T + 9 * DAY]
    assert trained_at([8, 9], small_settings(min_groups=10_000)) == []


def test_old_lessons_are_not_trained_on() -> None:
    shop = rehearsed(habits_log(days=6), small_settings(window_s=2 * 86_400.0))
    shop.finish()
    result = shop.train(shop.now_ms)
    assert result is not None
    assert 40 <= result.groups < len(shop.lessons) * 0.6
    assert shop.train(shop.now_ms + 30 * DAY) is None
    shop.ready(shop.now_ms + 30 * DAY)
    assert shop.trained == [result]


def test_the_same_log_trains_the_same_ranker() -> None:
    rankers = []
    for _ in range(2):
        shop = rehearsed(habits_log(days=4))
        shop.finish()
        result = shop.train(shop.now_ms)
        assert result is not None
        rankers.append(result.ranker.score(shop.lessons[0].features).tobytes())
    assert rankers[0] == rankers[1]


# ---------------------------------------------------------------------- the catalogue and its vectors
class Words:
    """An embedder of titles, a word a direction, that counts what it encodes."""

    space_id, dim = "words", 16

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def vectors(self, items: Sequence[Item], progress: object = None) -> NDArray[np.float32]:
        self.encoded += [one.item_id for one in items]
        made = np.zeros((len(items), self.dim), np.float32)
        for row, one in zip(made, items, strict=True):
            row[hash64(one.title) % self.dim] = 1.0
        return made


def text_shop() -> tuple[Rehearsal, Words]:
    words = Words()
    settings = msgspec.structs.replace(Settings(), training=small_settings().training)
    return Rehearsal(settings, cast(Embedder, words), channels=("text",)), words


def test_items_have_vectors_when_somebody_asks() -> None:
    shop, words = text_shop()
    for name in "abc":
        shop.accept(item(name, title="green tea" if name != "c" else "mug"))
    assert words.encoded == []
    shop.accept(event("view_item", "a", ts=T))
    draft = shop.draft(Request(recommendation_id="r", ts=T + 1, shopper="ida"))
    assert sorted(words.encoded) == ["a", "b", "c"]
    rows, scores = draft.found["text"]
    found = dict(zip([shop.snapshot.live.ids[row] for row in rows.tolist()], scores.tolist(), strict=True))
    assert found["b"] == pytest.approx(1.0, abs=0.01)
    shop.accept(parse_change({"item_id": "b", "ts": T + 2, "removed": True}))
    shop.accept(item("d", ts=T + 2, title="green tea"))
    draft = shop.draft(Request(recommendation_id="r", ts=T + 3, shopper="ida"))
    rows, _ = draft.found["text"]
    assert {"b", "d"} & {shop.snapshot.live.ids[row] for row in rows.tolist()} == {"d"}
    assert words.encoded[3:] == ["d"]


def test_a_change_of_the_catalogue_waits_for_the_decisions_of_its_own_moment() -> None:
    shop = rehearsed([*shelf(), item("new", ts=T)], learn_from_ms=T)
    assert "new" not in shop.snapshot.live.rows
    shop.accept(event("view_item", "a", ts=T))
    (watched,) = shop.watch.open.values()
    assert sorted(watched.lists[0].items) == list(IDS)
    shop.accept(event("view_item", "a", user_id="bob", ts=T))
    assert "new" in shop.watch.open[next(reversed(shop.watch.open))].lists[0].items


def test_whoever_asks_by_a_recorded_line_is_answered_from_all_lines_above() -> None:
    shop = rehearsed([*shelf(), item("new", ts=T)])
    draft = shop.draft(Request(recommendation_id="r", ts=T))
    assert "new" in {shop.snapshot.live.ids[row] for row in draft.rows.tolist()}


def test_at_the_end_everything_is_settled() -> None:
    shop = rehearsed([*shelf(), *session("ida", "s", ["c", "d"], T), item("new", ts=T + DAY)])
    shop.finish()
    assert not shop.watch.open
    assert "new" in shop.snapshot.live.rows
    assert all(isinstance(one, Lesson) for one in shop.lessons)
