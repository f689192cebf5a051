from core.ids import DAY_MS
from core.settings import TrainingSettings
from jobs.moments import Moments

DAY = 20_000 * DAY_MS


def day_of(moments: Moments, day: int, visits: int) -> int:
    """How many visits of a day are learnt from."""
    assert moments.begins_day(DAY + day * DAY_MS)
    return sum(moments.takes(f"{day}-{n}", f"s{n % 50}") for n in range(visits))


def test_a_day_begins_once() -> None:
    moments = Moments(TrainingSettings())
    told = [moments.begins_day(DAY + hour * DAY_MS // 24) for hour in (0, 1, 23, 24, 20, 49)]
    assert told == [True, False, False, True, False, True]


def test_every_visit_is_taken_where_few_come() -> None:
    moments = Moments(TrainingSettings(max_groups=10_000))
    assert [day_of(moments, day, 10) for day in range(30)] == [10] * 30


def test_of_many_visits_as_many_are_taken_as_are_kept() -> None:
    moments = Moments(TrainingSettings(max_groups=1_000, window_s=10 * 86_400.0))
    taken = [day_of(moments, day, 1_000) for day in range(40)]
    assert taken[0] == 1_000, "nothing is known yet"
    assert 300 < sum(taken[-10:]) < 700, "two lists each"


def test_those_who_wait_are_not_asked_again_and_the_others_by_chance() -> None:
    moments = Moments(TrainingSettings(between=10))
    day_of(moments, 0, 50)
    waiting = {f"s{n}" for n in range(20)}
    moments.begins_day(DAY + DAY_MS)
    drawn = moments.absent(waiting)
    assert len({one.shopper for one in drawn}) == 10
    assert not waiting & {one.shopper for one in drawn}
    assert drawn == moments.absent(waiting)
    moments.begins_day(DAY + 2 * DAY_MS)
    assert {one.shopper for one in moments.absent(waiting)} != {one.shopper for one in drawn}


def test_nobody_is_asked_where_it_is_switched_off_or_nobody_came() -> None:
    assert Moments(TrainingSettings()).absent(()) == []
    moments = Moments(TrainingSettings(between=0))
    day_of(moments, 0, 5)
    assert moments.absent(()) == []
