from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from core.catalogue import ItemChange
from core.decision import Decision, Label, Ranked
from core.events import Event
from core.settings import Settings
from jobs.champion import blend
from jobs.checks import Finding, fresh_days, of_lessons, of_records, refused
from jobs.importing import Layout
from jobs.intake import source
from jobs.lessons import Lesson
from jobs.rehearsal import Rehearsal
from jobs.tally import Tally
from jobs.train import run
from ranker import features
from streams.recorded import Entry, Query
from tests.factories import DAY, HOUR, T, event, fill, invented_log, item, shuffled_items, small_settings

RETAIL = Path(__file__).parents[2].parent / "shared/data/online_retail/online_retail_2010_2011.parquet"


@pytest.fixture(scope="module")
def clean() -> list[Entry]:
    """An invented shop of some 50 visits a day."""
    return invented_log(3, items=160, shoppers=300, days=17)


def newest(entries: Iterable[Entry]) -> int:
    return max(entry.ts for entry in entries if isinstance(entry, Event))


def last_day(entries: Sequence[Entry], change: Callable[[Event, int], Entry | None]) -> list[Entry]:
    """The log with something done to each event of the newest 24 hours, which are numbered."""
    end = newest(entries)
    made: list[Entry | None] = []
    for number, entry in enumerate(entries):
        poisoned = isinstance(entry, Event) and end - DAY < entry.ts < end
        made.append(change(entry, number) if poisoned and isinstance(entry, Event) else entry)
    return [entry for entry in made if entry is not None]


def checked(entries: Sequence[Entry], fresh: int = 1) -> list[Finding]:
    messages = [entry for entry in entries if not isinstance(entry, Query)]
    return of_records(Tally(newest(entries)).take(messages), fresh)


def names_of(findings: Sequence[Finding]) -> set[str]:
    return {one.what for one in findings if one.failed}


# ---------------------------------------------------------------------- a poisoned day
@pytest.mark.parametrize("fresh", [1, 7])
def test_a_clean_log_passes(clean: list[Entry], fresh: int) -> None:
    end = newest(clean)
    for days in range(3):
        some = [entry for entry in clean if entry.ts <= end - days * DAY]
        assert checked(some, fresh) == []


def test_a_day_without_most_of_its_rows_is_named(clean: list[Entry]) -> None:
    poisoned = last_day(clean, lambda one, number: one if number % 10 == 0 else None)
    found = checked(poisoned)
    assert "events of a day" in names_of(found)
    (volume,) = [one for one in found if one.what == "events of a day"]
    assert int(volume.got) < 0.2 * float(volume.normal.replace(",", ""))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: msgspec.structs.replace(one, session_id=None), "view_item.session_id"),
        (
            lambda one: msgspec.structs.replace(
                one, items=tuple(msgspec.structs.replace(line, price=None) for line in one.items)
            ),
            "view_item.items.price",
        ),
    ],
)
def test_a_day_on_which_a_field_is_empty_is_named_by_the_field(
    clean: list[Entry], change: Callable[[Event], Event], named: str
) -> None:
    found = checked(last_day(clean, lambda one, _: change(one)))
    assert named in names_of(found)
    assert all(one.what.endswith(named.partition(".")[2]) for one in found)
    (finding,) = [one for one in found if one.what == named]
    assert finding.got == "100% empty on the newest day"
    assert finding.normal.endswith("%")


def test_a_day_that_is_not_the_newest_is_looked_at_where_nothing_was_trained_on_it(clean: list[Entry]) -> None:
    poisoned = last_day(clean, lambda one, _: msgspec.structs.replace(one, session_id=None))
    end = newest(clean)
    later = [msgspec.structs.replace(one, ts=one.ts + DAY) for one in clean if isinstance(one, Event)]
    whole = [*poisoned, *[one for one in later if one.ts > end]]
    assert checked(whole, 1) == []
    assert "100% empty 1 days before the newest" in str([str(one) for one in checked(whole, 2)])


def test_a_catalogue_that_loses_its_titles_is_named(clean: list[Entry]) -> None:
    end = newest(clean)
    emptied = [item(one.item_id, ts=end - HOUR, title="") for one in clean if isinstance(one, ItemChange)]
    assert names_of(checked([*clean, *emptied])) == {"catalogue.title"}


@pytest.fixture(scope="module")
def shuffled(clean: list[Entry]) -> tuple[list[Lesson], int]:
    """Lessons of the log with the items of the newest day drawn anew; and when that day ends."""
    end = newest(clean)
    drawn = {one.event_id: one for one in shuffled_items(clean) if isinstance(one, Event) and one.ts > end - DAY}
    shop = Rehearsal(small_settings(), learn_from_ms=0, train_from_ms=1 << 62)
    for entry in clean:
        found = drawn.get(entry.event_id, entry) if isinstance(entry, Event) else entry
        assert not isinstance(found, Query)
        shop.accept(found)
    shop.finish()
    return list(shop.lessons), end


def looked_at(lessons: Sequence[Lesson], end: int, fresh: int = 1) -> list[Finding]:
    settings = small_settings()
    some = [one for one in lessons if one.ts <= end]
    return of_lessons(some, features.names(settings), blend(settings), end, fresh)


def test_shuffled_labels_are_recognised_by_an_order_that_means_nothing(shuffled: tuple[list[Lesson], int]) -> None:
    lessons, end = shuffled
    found = looked_at(lessons, end)
    assert "labels look shuffled" in names_of(found)
    assert "the blend's NDCG@10 is" in refused(found)


def test_lessons_of_clean_days_pass(shuffled: tuple[list[Lesson], int]) -> None:
    lessons, end = shuffled
    for days in (1, 2, 3):
        assert names_of(looked_at(lessons, end - days * DAY)) == set()


@pytest.mark.parametrize(("columns", "failed"), [(1, False), (60, True)])
def test_features_that_are_others_now_are_named_and_many_of_them_are_a_failure(
    shuffled: tuple[list[Lesson], int], columns: int, failed: bool
) -> None:
    lessons, end = shuffled
    cut = end - 4 * DAY
    names = features.names(small_settings())
    first = names.index("price")
    broken = []
    for one in lessons:
        moved = one.features.copy()
        if one.ts > cut - DAY:
            moved[:, first - columns + 1 : first + 1] = 1e6
        broken.append(Lesson(one.ts, moved, one.grades))
    (found,) = [one for one in looked_at(broken, cut) if one.what == "features"]
    assert found.failed == failed
    assert columns > 1 or "price " in found.got


# ---------------------------------------------------------------------- what it does to a training
@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path, min_groups=10_000)


def test_a_refused_training_writes_nothing_and_says_why(settings: Settings, clean: list[Entry]) -> None:
    fill(settings, last_day(clean, lambda one, number: one if number % 10 == 0 else None))
    outcome = run(settings, None, newest(clean), lambda *_: None)
    assert (outcome.result, outcome.manifest) == ("refused", None)
    assert outcome.why.startswith("the data of the newest days cannot be trusted: events of a day: ")
    assert outcome.why.endswith("--force trains all the same")


def test_who_insists_gets_a_training(settings: Settings) -> None:
    log = [entry for entry in invented_log(3, items=60, shoppers=60, days=12)]
    fill(settings, last_day(log, lambda one, _: msgspec.structs.replace(one, session_id=None)))
    assert run(settings, None, newest(log), lambda *_: None).result == "refused"
    assert run(settings, None, newest(log), lambda *_: None, force=True).result == "promoted"


# ---------------------------------------------------------------------- lists that were served
def served(days: int, *, followed: Callable[[int], int]) -> list[Event | Decision | Label]:
    """Forty lists a day, so many of which are followed by a click within a minute."""
    made: list[Event | Decision | Label] = []
    for day in range(days):
        for n in range(40):
            ts, name = T + day * DAY + n * HOUR // 2, f"r{day}-{n}"
            made.append(
                Decision(
                    recommendation_id=name, ts=ts, shopper=f"s{n}", placement="home", bundle="b", ranker="blend",
                    items=(Ranked("tea", 1.0),),
                )
            )  # fmt: skip
            made.append(event("view_item", "tea", ts=ts + 60_000, user_id=f"s{n}", recommendation_id=name))
            if n < followed(day):
                made.append(Label(1, name, "tea", "click", ts + 60_000, 60_000, True))
    return made


def findings(messages: Sequence[Event | Decision | Label]) -> list[Finding]:
    end = max(one.ts for one in messages if isinstance(one, Event))
    return of_records(Tally(end).take(messages), 1)


def test_a_day_on_which_little_follows_a_list_is_named() -> None:
    assert findings(served(20, followed=lambda day: 18 + day % 5)) == []
    (found,) = findings(served(20, followed=lambda day: 3 if day == 19 else 18 + day % 5))
    assert found.what == "labels of a list"
    assert "±" in found.normal


def test_acts_that_name_lists_which_nobody_made_are_named() -> None:
    log = served(20, followed=lambda day: 20)
    lost = [one for one in log if not (isinstance(one, Decision) and one.ts >= T + 19 * DAY)]
    assert "acts that name no known list" in names_of(findings(lost))
    assert "labels whose list is not known" in names_of(findings(lost))


@pytest.mark.parametrize(("days", "expected"), [(0.2, 1), (1.0, 1), (1.1, 2), (40, 7)])
def test_what_was_trained_on_is_not_looked_at_again(days: float, expected: int) -> None:
    assert fresh_days(T, T - round(days * DAY)) == expected
    assert fresh_days(T, -1) == 1


# ---------------------------------------------------------------------- a real shop
@pytest.mark.skipif(not RETAIL.exists(), reason="Online Retail is not there")
def test_closed_saturdays_and_christmas_are_no_failure() -> None:
    found = source(str(RETAIL), "online-retail", "events", Layout({}, {}, "", "", "UTC"))
    entries = [entry for entry in found.entries if not isinstance(entry, Query)]
    end = newest(entries)
    ends = [end - days * DAY for days in (0, 1, 2, 3, 4, 5, 6, 20, 60, 120)]
    assert all(a > b for a, b in pairwise(ends))
    for cut in ends:
        some = [entry for entry in entries if entry.ts <= cut]
        tally = Tally(newest(some)).take(some)
        for fresh in (1, 7):
            assert [str(one) for one in of_records(tally, fresh)] == []
