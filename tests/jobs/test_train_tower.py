"""Whether a learned user vector takes over: on a shop where one item leads to another, and on one where none does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.errors import Missing
from core.ids import DAY_MS, hash64
from core.settings import ChannelSettings, RankingSettings, Settings, TuningSettings
from jobs import train_tower
from jobs.embedding import Embedder
from jobs.pairs import Histories, Touch
from jobs.text_quality import Figure, Gain, Kernel, Question, gains, ranks_by
from jobs.train import run
from jobs.train_tower import (
    EQUALS,
    among_equals,
    by_mean,
    compare,
    counts,
    fit,
    mixed,
    often,
    rules,
    sequences,
    verdict,
)
from models.cache import VectorCache
from models.user_tower import UserTower
from models.vectors import Vectors
from ranker.bundle import open_bundle
from streams.recorded import Entry
from tests.factories import DAY, HOUR, T, event, fill, item, small_settings

ITEMS = 400
ROWS = {f"i{n}": n for n in range(ITEMS)}
SETTINGS = Settings(ranking=RankingSettings(user_items=6), tuning=TuningSettings(held_out=0.2))


def texts() -> Vectors:
    drawn = np.random.default_rng(2).standard_normal((ITEMS, 24))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def shop(*, shuffled: bool = False, shoppers: int = 500) -> Histories:
    """Who took item n takes item n + 1 the day after, though nothing in the texts says so."""
    chance = np.random.default_rng(4)
    found = Histories()
    for who in range(shoppers):
        start, begun = int(chance.integers(ITEMS)), int(chance.integers(20))
        rows = chance.integers(0, ITEMS, 8) if shuffled else (start + np.arange(8)) % ITEMS
        found.touches[f"u{who}"] = [Touch((begun + n) * DAY_MS + who, f"i{row}", 1.0) for n, row in enumerate(rows)]
    found.newest_ms = max(touches[-1].ts for touches in found.touches.values())
    return found


def popular(shoppers: int = 500) -> Histories:
    """Some items are taken by many, whatever was taken before."""
    chance = np.random.default_rng(5)
    share = 1.0 / (np.arange(ITEMS) + 3.0)
    found = Histories()
    for who in range(shoppers):
        rows = chance.choice(ITEMS, 8, replace=False, p=share / share.sum())
        begun = int(chance.integers(20))
        found.touches[f"u{who}"] = [Touch((begun + n) * DAY_MS + who, f"i{row}", 1.0) for n, row in enumerate(rows)]
    found.newest_ms = max(touches[-1].ts for touches in found.touches.values())
    return found


def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    from models import user_training

    plan = user_training.Plan

    def small(**fields: Any) -> user_training.Plan:
        return plan(**fields, width=32, layers=1, batch=16, rounds=4, dropout=0.0, rate=4e-3)

    monkeypatch.setattr(user_training, "Plan", small)


def fitted(found: Histories, monkeypatch: pytest.MonkeyPatch) -> train_tower.Outcome:
    small_plan(monkeypatch)
    ticks = count()
    return fit(found, ROWS, texts(), "space", SETTINGS, lambda: next(ticks) * 1e-3)


def test_where_items_lead_to_others_the_tower_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shop()
    outcome = fitted(found, monkeypatch)
    print(outcome.why)
    assert outcome.tower is not None
    assert outcome.query["all"]["recall@100"].gain.low > 0.1
    assert outcome.by_count["all"]["recall@100"].gain.low > 0.1
    assert (outcome.tower.shape.space_id, outcome.tower.shape.asks) == ("space", True)
    newer = sum(one.ts > outcome.tower.shape.max_event_ms for seen in found.touches.values() for one in seen)
    assert newer == pytest.approx(0.2 * len(found.times()), rel=0.02), "what it is judged by it has not seen"
    assert outcome.questions["all"] == sum(outcome.questions[name] for _, _, name in train_tower.GROUPS)


def test_where_nothing_leads_anywhere_the_mean_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = fitted(shop(shuffled=True), monkeypatch)
    print(outcome.why)
    assert outcome.tower is None
    assert outcome.why.count("the mean stays") == 2


def test_what_is_popular_is_no_merit_of_a_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = popular(), []

    def compared(tower: UserTower, *given: Any) -> Any:
        seen.append((tower, *given))
        return compare(tower, *given)

    monkeypatch.setattr(train_tower, "compare", compared)
    outcome = fitted(found, monkeypatch)
    print(outcome.why)
    assert outcome.tower is None
    tower, vectors, names, asked, taken, items = seen[0]
    share = taken / (taken + train_tower.DOUBT)
    state, mean = rules(tower, vectors, names, asked)[1], by_mean(vectors, Kernel(items))
    learnt = ranks_by(asked, lambda start, some: mixed(state(start, some), mean(start, some), share))
    assert gains(ranks_by(asked, mean), learnt)["recall@100"].gain.low > 0.1, "though the mean alone is far worse"


def test_too_little_to_tell_is_said() -> None:
    with pytest.raises(Missing, match="nothing was recorded"):
        fit(Histories(), ROWS, texts(), "space", SETTINGS, lambda: 0.0)
    with pytest.raises(Missing, match="shoppers came back"):
        fit(shop(shoppers=20), ROWS, texts(), "space", SETTINGS, lambda: 0.0)


def gain(low: float, mean: float, high: float) -> Gain:
    return Gain(Figure(0.2, 0.1, 0.3), Figure(0.2 + mean, 0.1, 0.3), Figure(mean, low, high))


@pytest.mark.parametrize(
    ("every", "rare", "sharp", "better"),
    [
        ((0.01, 0.03, 0.05), (-0.02, 0.0, 0.02), 0.01, True),
        ((-0.01, 0.01, 0.03), (0.01, 0.02, 0.03), 0.01, False),
        ((0.01, 0.03, 0.05), (-0.05, -0.03, -0.01), 0.01, False),
        ((0.01, 0.03, 0.05), (-0.02, 0.0, 0.02), -0.01, False),
    ],
)
def test_it_takes_over_only_if_surely_better_and_no_group_surely_loses(
    every: tuple[float, float, float], rare: tuple[float, float, float], sharp: float, better: bool
) -> None:
    first = gain(sharp - 0.01, sharp, sharp + 0.01)
    figures = {
        "all": {"recall@100": gain(*every), "ndcg@10": first},
        "under 10": {"recall@100": gain(*rare), "ndcg@10": first},
    }
    assert verdict(figures)[0] is better


def test_a_query_that_only_finds_what_is_popular_does_not_take_over() -> None:
    better = {"recall@100": gain(0.01, 0.03, 0.05), "ndcg@10": gain(0.005, 0.01, 0.02)}
    no_better = {"recall@100": gain(0.0, 0.0, 0.0), "ndcg@10": gain(-0.01, 0.01, 0.03)}
    assert verdict({"all": better, EQUALS: better})[0]
    assert not verdict({"all": better, EQUALS: no_better})[0]


def test_equals_were_taken_about_as_often() -> None:
    taken = np.array([0, 1, 2, 3, 5, 9, 4])
    asked = [Question("ann", np.array([0]), np.ones(1, np.float32), target) for target in (3, 5)]
    found = among_equals(lambda _, some: np.tile(np.arange(7.0, dtype=np.float32), (len(some), 1)), taken)(0, asked)
    assert np.isfinite(found).tolist() == [
        [False, False, False, True, True, False, True],
        [False, False, False, False, False, True, False],
    ]


def test_what_is_found_beside_the_text_need_not_help_every_group() -> None:
    sharp = gain(0.0, 0.01, 0.02)
    figures = {
        "all": {"recall@100": gain(0.01, 0.03, 0.05), "ndcg@10": sharp},
        "under 10": {"recall@100": gain(-0.05, -0.03, -0.01), "ndcg@10": sharp},
    }
    assert verdict(figures, groups=False)[0]
    assert not verdict(figures)[0]


def test_histories_become_sequences() -> None:
    found = Histories(
        {
            "ann": [Touch(1, "i3", 1.0), Touch(2, "i3", 5.0), Touch(3, "gone", 1.0), Touch(4, "i5", 1.0)],
            "bob": [Touch(1, "i7", 1.0), Touch(2, "i8", 1.0)],
            "bot": [Touch(1, "i1", 1.0)] * 9,
            "eve": [Touch(1, "gone", 1.0)],
        },
        against={"bob": {"i7": 5}},
        too_quick={"bot": 3},
    )
    told = sequences(found, ROWS)
    assert told.starts.tolist() == [0, 2, 3]
    assert told.rows.tolist() == [3, 5, 8]
    np.testing.assert_allclose(told.amounts, np.log1p([5.0, 1.0, 1.0]), rtol=1e-6)
    assert counts(found, ROWS)[[3, 5, 7, 8, 1]].tolist() == [2, 1, 1, 1, 0]


def test_only_common_items_get_a_residual() -> None:
    touches = {f"u{n}": [Touch(1, "i4", 1.0), Touch(2, f"i{n + 10}", 1.0)] for n in range(train_tower.OFTEN)}
    names, rows = often(Histories(touches), ROWS)
    assert (names, rows.tolist()) == (("i4",), [4])


# ---------------------------------------------------------------------- with the ranker
class Texts:
    """An encoder whose vectors say nothing of what goes together."""

    name, weights_sha256, space_id, dim = "texts", "0", "texts", 24

    def encode(self, texts: Sequence[str], progress: object = None) -> Vectors:
        drawn = np.stack([np.random.default_rng(hash64(one)).standard_normal(self.dim) for one in texts])
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def chains(shoppers: int = 200, days: int = 12) -> list[Entry]:
    """The shop of above as a log: whoever looked at an item looks at the next one the day after."""
    chance = np.random.default_rng(6)
    entries: list[Entry] = [item(f"i{n}", ts=T) for n in range(120)]
    for who in range(shoppers):
        start = int(chance.integers(120))
        for day in range(days):
            ts = T + HOUR + day * DAY + int(chance.integers(DAY // 2))
            entries.append(event("view_item", f"i{(start + day) % 120}", ts=ts, user_id=f"u{who}"))
    return sorted(entries, key=lambda one: one.ts)


@pytest.fixture
def asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    small_plan(monkeypatch)
    settings = small_settings(tmp_path, min_groups=40)
    tuning = msgspec.structs.replace(settings.tuning, user="transformer", held_out=0.2)
    settings = msgspec.structs.replace(settings, tuning=tuning, channels=ChannelSettings())
    fill(settings, chains())
    return settings


def embedder_of(settings: Settings) -> Embedder:
    return Embedder(Texts(), VectorCache(None), settings)  # type: ignore[arg-type]


def test_where_the_settings_ask_for_it_the_bundle_brings_a_tower_and_the_ranker_reads_it(asked_for: Settings) -> None:
    outcome = run(asked_for, embedder_of(asked_for), T + 40 * DAY_MS, lambda *_: None)
    assert outcome.manifest is not None
    assert outcome.manifest.user_vector["rule"] == "causal transformer"
    store = Bundles(asked_for.bundles.path, 3)
    opened = open_bundle(store.folder(outcome.manifest.id), store.load(outcome.manifest.id), asked_for)
    assert opened.tower is not None
    assert opened.ranker is not None
    assert opened.tower.shape.max_event_ms < T + 8 * DAY_MS, "the newer events are left for the ranker"
    assert opened.queries is not None
    assert len(opened.queries) == 200
