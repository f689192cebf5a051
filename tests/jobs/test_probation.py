from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.decision import Decision, Label
from core.settings import Settings
from jobs.history import runs
from jobs.probation import CHANCE, compare, doubt, look
from jobs.recent import recent
from streams.log import EmbeddedLog, Entry, New
from streams.messages import of_decision, of_output
from tests.factories import DAY, HOUR, T, small_settings
from tests.jobs.test_schedule import manifest

SHOPPERS, LISTS = 120, 5


def lived(bundle: str, clicks: float, *, seed: int, since: int = T, shoppers: int = SHOPPERS) -> list[New]:
    """Lists of one bundle over a day, with a chance of a click that differs from shopper to shopper."""
    chance = np.random.default_rng(seed)
    made = []
    for who in range(shoppers):
        mine = float(np.clip(clicks + 0.1 * chance.normal(), 0, 1))
        for n in range(LISTS):
            name, ts = f"{bundle}-{who}-{n}", since + int(chance.integers(0, DAY - HOUR))
            shopper = f"{bundle} {who}"
            made.append(
                of_decision(
                    Decision(
                        recommendation_id=name, ts=ts, shopper=shopper, placement="", bundle=bundle, ranker="", items=()
                    )
                )
            )
            if chance.random() < mine:
                made.append(of_output("labelled", shopper, Label(1, name, "tea", "click", ts + 9, 9, True)))
    return made


def entries(records: Sequence[New]) -> list[Entry]:
    return [Entry(one.topic, 0, n, one.key, one.value, one.ts) for n, one in enumerate(records)]


def worse(now: float, before: float, *, fewest: int = 200, shoppers: int = SHOPPERS, seed: int = 1) -> str:
    found = [*lived("b1", now, seed=seed, shoppers=shoppers), *lived("b0", before, seed=seed + 100, shoppers=shoppers)]
    return compare(entries(found), "b1", "b0", T).worse(fewest)


def test_a_bundle_that_is_clicked_much_less_is_recognised() -> None:
    said = worse(0.2, 0.5)
    assert said.startswith("click rate 0.")
    assert "standard errors" in said


@pytest.mark.parametrize(("now", "before"), [(0.5, 0.5), (0.5, 0.2), (0.47, 0.5)])
def test_one_that_is_as_good_or_nearly_so_stays(now: float, before: float) -> None:
    assert worse(now, before) == ""


def test_by_chance_alone_it_is_seldom_rolled_back() -> None:
    assert sum(bool(worse(0.4, 0.4, seed=1_000 + seed)) for seed in range(60)) <= 1


def alarms(loss: float, *, days: int = 1_000, looks: int = 300) -> float:
    """How often one of many looks at growing samples holds a difference for real; its true size is `loss`."""
    errors = 1 / np.sqrt(np.arange(1, looks + 1))  # of the mean of so many observations of variance 1
    drawn = np.random.default_rng(5).normal(-loss, 1.0, (days, looks)).cumsum(1) * errors**2
    limits = np.array([doubt(error, 0.3) for error in errors.tolist()])
    return float((drawn < -limits).any(1).mean())


def test_looking_again_and_again_does_not_make_chance_look_like_a_loss() -> None:
    assert alarms(0.0) <= CHANCE
    assert alarms(0.5) > 0.95


@pytest.mark.parametrize(("fewest", "shoppers"), [(10_000, SHOPPERS), (10, 20)])
def test_of_too_few_lists_or_shoppers_nothing_is_concluded(fewest: int, shoppers: int) -> None:
    assert worse(0.1, 0.9, fewest=fewest, shoppers=shoppers) == ""


def test_one_shopper_who_asks_all_the_time_is_one_shopper() -> None:
    """A hundred lists of one shopper are no hundred proofs."""
    alike = [one for n in range(40) for one in lived("b0", 0.5, seed=n, shoppers=1)]
    found = compare(entries([*lived("b1", 0.5, seed=3), *alike]), "b1", "b0", T)
    assert found.before["click"].shoppers == 1
    assert found.before["click"].error == 0.0
    assert found.worse(10) == ""


def test_lists_of_before_the_promotion_and_of_other_bundles_do_not_count() -> None:
    found = [*lived("b1", 0.1, seed=1, since=T - 2 * DAY), *lived("b0", 0.9, seed=2), *lived("b9", 0.9, seed=3)]
    assert compare(entries(found), "b1", "b0", T).now["click"].lists == 0


# ---------------------------------------------------------------------- what it does
@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    small = small_settings(tmp_path)
    return msgspec.structs.replace(small, bundles=msgspec.structs.replace(small.bundles, probation_lists=200))


def promoted(settings: Settings) -> tuple[Bundles, str, str]:
    store = Bundles(settings.bundles.path, 5)
    before, now = (manifest(settings.bundles.path, made_ms=T + n).id for n in range(2))
    store.promote(before, T - DAY)
    store.promote(now, T)
    return store, before, now


def record(settings: Settings, records: Sequence[New]) -> None:
    log = EmbeddedLog.open(settings.log)
    log.append(records)
    log.close()


def test_a_worse_bundle_is_rolled_back_and_that_is_written_down(settings: Settings) -> None:
    store, before, now = promoted(settings)
    record(settings, [*lived(now, 0.1, seed=1), *lived(before, 0.5, seed=2)])
    found = look(settings, T + DAY // 2)
    assert found is not None
    assert store.current_id() == before
    (ran,) = runs(settings)
    assert (ran.what, ran.result, ran.bundle) == ("probation", "rolled back", before)
    assert ran.why.startswith(f"{now} is worse: click rate ")
    assert look(settings, T + DAY // 2) is None  # what serves again is on no probation


def test_a_good_bundle_stays_and_is_looked_at_until_its_probation_is_over(settings: Settings) -> None:
    store, before, now = promoted(settings)
    record(settings, [*lived(now, 0.5, seed=1), *lived(before, 0.4, seed=2)])
    assert look(settings, T + DAY // 2) is not None
    assert look(settings, T + DAY + 1) is None
    assert store.current_id() == now
    assert runs(settings) == []


def test_without_bundles_there_is_nothing_to_look_at(settings: Settings) -> None:
    assert look(settings, T) is None


# ---------------------------------------------------------------------- the newest records
def test_recent_records_are_found_without_reading_what_is_older(settings: Settings) -> None:
    record(settings, [New("decisions", b"s", str(n).encode(), T + n * HOUR) for n in range(200)])
    for first in (0, 1, 77, 199, 200):
        found = sorted(one.ts for one in recent(settings, ("decisions",), T + first * HOUR))
        assert found == [T + n * HOUR for n in range(first, 200)]
