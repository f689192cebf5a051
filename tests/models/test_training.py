from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from core.errors import BadSettings, Missing
from core.settings import EncoderSettings, TextSettings, TuningSettings
from models.encoder import Encoder
from models.pairs import Pairs
from models.tower import Tower
from models.trained import Notes, notes_of, write
from models.training import Fitted, Run
from models.vectors import Vectors
from tests.models.tiny import tiny_encoder

GROUPS, WIDTH = 4, 10
RUNGS = ("full", "top", "lora", "head")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


def tuning(rung: str = "top", **given: Any) -> TuningSettings:
    small = {"layers": 2, "rank": 4, "pairs": 8, "rounds": 6, "patience": 99, "hard": 2, "learning_rate": 2e-3}
    return TuningSettings(rung=rung, **(small | given))


def settings(folder: Path) -> EncoderSettings:
    return EncoderSettings(model=str(folder), device="cpu", dtype="float32", max_tokens=24)


def texts() -> list[str]:
    """Of each group one letter tells which it is; the others mean nothing."""
    chance = np.random.default_rng(3)
    noise = np.array(list("mnopqrstuvwxyz"))
    return [" ".join([*chance.choice(noise, 5), "abcd"[n // WIDTH]]) for n in range(GROUPS * WIDTH)]


def in_groups(shuffled: bool = False) -> Pairs:
    """Neighbours within a group, leaving the last two of each group unseen."""
    found = [(g * WIDTH + a, g * WIDTH + b) for g in range(GROUPS) for a in range(8) for b in range(a) if a - b < 4]
    one, other = np.array(found).T
    if shuffled:
        other = np.random.default_rng(0).permutation(other)
    return Pairs.of(GROUPS * WIDTH, one, other, np.ones(len(one), np.float32))


def found_group(vectors: Vectors) -> float:
    """How often the nearest among the seen of an unseen item is of its group."""
    group = np.arange(GROUPS * WIDTH) // WIDTH
    unseen = np.arange(GROUPS * WIDTH) % WIDTH >= 8
    near = (vectors[unseen] @ vectors[~unseen].T).argsort(axis=1)[:, -5:]
    return float((group[~unseen][near] == group[unseen][:, None]).mean())


def always_better() -> Callable[[Vectors], float]:
    numbers = count()
    return lambda vectors: float(next(numbers))


def run(folder: Path, how: TuningSettings, pairs: Pairs | None = None, **more: Any) -> Run:
    tower = Tower(settings(folder), how, texts())
    ticks: Iterator[int] = iter(range(10**9))
    seconds = more.pop("seconds", lambda: float(next(ticks)))
    judge = more.pop("judge", found_group)
    return Run(tower, in_groups() if pairs is None else pairs, judge, how, seed=5, seconds=seconds, **more)


def fitted(folder: Path, how: TuningSettings, **more: Any) -> Fitted:
    return run(folder, how, **more).fit()


@pytest.mark.parametrize("rung", RUNGS)
def test_each_rung_learns_what_the_groups_are(folder: Path, rung: str) -> None:
    found = fitted(folder, tuning(rung, rounds=25, dropout=0.0))
    assert found.best > found.before + 0.25
    assert found.best == pytest.approx(found_group(found.vectors))


def test_shuffled_pairs_teach_nothing(folder: Path) -> None:
    how = tuning("full", rounds=25, dropout=0.0)
    shuffled, learnt = (fitted(folder, how, pairs=in_groups(shuffled=one)) for one in (True, False))
    ends = [np.mean([score for _, score, _ in one.rounds[-5:]]) for one in (shuffled, learnt)]
    assert ends[0] < shuffled.before + 0.1
    assert ends[1] > learnt.before + 0.25


@pytest.mark.parametrize("rung", RUNGS)
def test_before_the_first_step_vectors_are_those_of_the_encoder(folder: Path, rung: str) -> None:
    wanted = Encoder.open(settings(folder), TextSettings()).encode(texts())
    assert Tower(settings(folder), tuning(rung), texts()).every() == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("rung", RUNGS)
def test_the_folder_that_is_written_gives_the_vectors_that_were_learnt(folder: Path, tmp_path: Path, rung: str) -> None:
    training = run(folder, tuning(rung, rounds=3))
    found = training.fit()
    notes = Notes(base="tiny", base_sha256="0", rung=rung, seed=5, max_event_ms=7, figures={"gain": 0.5})
    into = write(training._tower, tmp_path, notes)
    opened, before = (Encoder.open(settings(one), TextSettings()) for one in (into, folder))
    assert opened.encode(texts()) == pytest.approx(found.vectors, abs=3e-3)
    assert np.abs(opened.encode(texts()) - before.encode(texts())).max() > 0.02
    assert opened.space_id != before.space_id
    assert notes_of(into) == notes
    assert all(one.stat().st_mode & 0o044 == 0o044 for one in into.rglob("*"))
    assert notes_of(folder) is None
    assert [one.name for one in tmp_path.iterdir()] == [into.name]


@pytest.mark.parametrize("rung", ["full", "head"])
def test_an_encoder_that_was_trained_is_trained_further(folder: Path, tmp_path: Path, rung: str) -> None:
    first = run(folder, tuning("head", rounds=3))
    found = first.fit()
    notes = Notes(base="tiny", base_sha256="0", rung="head", seed=5, max_event_ms=7, figures={})
    again = Tower(settings(write(first._tower, tmp_path, notes)), tuning(rung), texts())
    assert again.every() == pytest.approx(found.vectors, abs=3e-3)


class Killed(Exception):
    pass


@pytest.mark.parametrize("rung", ["top", "lora"])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    folder: Path, tmp_path: Path, rung: str, at: int
) -> None:
    how = tuning(rung, rounds=4, save_s=1e-6)
    whole = fitted(folder, how)

    def kill(what: str, done: int, total: int) -> None:
        if done == at:
            raise Killed

    file = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        fitted(folder, how, file=file, mark="m", progress=kill)
    steps: list[int] = []
    again = fitted(folder, how, file=file, mark="m", progress=lambda what, done, total: steps.append(done))
    assert np.array_equal(again.vectors, whole.vectors)
    assert [one[:2] for one in again.rounds] == [one[:2] for one in whole.rounds]
    assert steps[0] == at  # the step that was lost is done again, no other


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_begun_anew(folder: Path, tmp_path: Path) -> None:
    how, file = tuning(rounds=1), tmp_path / "run.safetensors"
    first = fitted(folder, how, file=file, mark="one")
    steps: list[int] = []
    fitted(folder, how, file=file, mark="two", progress=lambda what, done, total: steps.append(done))
    assert steps[0] == 1
    file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(fitted(folder, how, file=file, mark="two").vectors, first.vectors)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(folder: Path) -> None:
    how = tuning(rounds=2)
    one, same = (fitted(folder, how).vectors for _ in range(2))
    assert np.array_equal(one, same)
    other = Run(Tower(settings(folder), how, texts()), in_groups(), found_group, how, seed=6, seconds=lambda: 0.0)
    assert np.abs(other.fit().vectors - one).max() > 1e-3


@pytest.mark.parametrize("negatives", [10, 1_000])
def test_gradients_in_parts_are_those_of_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, negatives: int
) -> None:
    monkeypatch.setattr("models.training.GROUP", 4)
    slopes = []
    for gradients in (1_000, 4):
        one = run(folder, tuning("full", gradients=gradients, pairs=10, negatives=negatives))
        one._open()
        monkeypatch.setattr(one, "_move", lambda: None)
        one.step()
        slopes.append([p.grad.clone() for p in one._learning.values() if p.grad is not None])
    assert len(slopes[0]) == len(slopes[1]) > 10
    for whole, parts in zip(*slopes, strict=True):
        assert torch.allclose(whole, parts, atol=1e-5)


def test_training_stops_when_newer_events_gain_nothing_and_keeps_the_best(folder: Path) -> None:
    scores = iter([0.1, 0.2, 0.5, 0.4, 0.3, 0.9])
    kept: list[Vectors] = []

    def judge(vectors: Vectors) -> float:
        kept.append(vectors)
        return next(scores)

    found = fitted(folder, tuning(rounds=20, patience=2), judge=judge)
    assert (found.before, found.best, len(found.rounds)) == (0.1, 0.5, 4)
    assert found.vectors == pytest.approx(kept[2], abs=1e-6)


def test_what_never_gains_leaves_the_encoder_as_it_was(folder: Path) -> None:
    scores = iter([0.5, 0.4, 0.3])
    found = fitted(folder, tuning(patience=2), judge=lambda vectors: next(scores))
    wanted = Encoder.open(settings(folder), TextSettings()).encode(texts())
    assert found.vectors == pytest.approx(wanted, abs=2e-3)
    assert found.best == found.before


def test_training_ends_when_its_time_is_up(folder: Path) -> None:
    found = fitted(folder, tuning(rounds=100, limit_s=7.0))
    assert 1 <= found.steps <= 8
    assert len(found.rounds) >= 1


def test_further_training_stays_near_what_the_encoder_was(folder: Path) -> None:
    free, held = (
        fitted(folder, tuning("full", rounds=8, weight_decay=decay, dropout=0.0), base=True, judge=always_better())
        for decay in (0.0, 100.0)
    )
    start = Encoder.open(settings(folder), TextSettings()).encode(texts())
    moved = [float(np.linalg.norm(one.vectors - start)) for one in (free, held)]
    assert moved[1] < 0.7 * moved[0]


def test_only_what_the_rung_names_learns(folder: Path) -> None:
    names = {rung: set(Tower(settings(folder), tuning(rung), texts()).learning()) for rung in RUNGS}
    assert names["head"] == {"head.turn"}
    assert all(name.startswith(("encoder.layer.1.", "encoder.layer.2.")) for name in names["top"])
    assert all(name.endswith((".down", ".up")) for name in names["lora"])
    assert any(name.startswith("embeddings.") for name in names["full"])
    assert not any(name.startswith("pooler.") for name in names["full"])


def test_fewer_layers_than_the_model_has_must_learn(folder: Path) -> None:
    with pytest.raises(BadSettings, match=r"tuning\.layers must be below the 3 layers"):
        Tower(settings(folder), tuning(layers=3), texts())


def test_no_pairs_are_missing(folder: Path) -> None:
    nothing = Pairs.of(len(texts()), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with pytest.raises(Missing, match="no pairs"):
        run(folder, tuning(), nothing)


def test_what_shoppers_did_not_want_counts_against_a_pair(folder: Path) -> None:
    one, other = np.array([0, 10, 20]), np.array([1, 11, 21])
    unwanted = (np.array([0, 0, 1, 1]), np.array([5, 6, 5, 6]))
    ends = []
    for against in (None, unwanted):
        pairs = Pairs.of(len(texts()), one, other, np.ones(3, np.float32), against)
        training = run(folder, tuning("full", hard=0, dropout=0.0), pairs)
        training._open()
        ends.append(training.step())
    assert ends[1] > ends[0] + 0.01


@pytest.mark.parametrize("name", ["drop_words", "drop_fields"])
def test_dropping_changes_what_is_learnt_and_not_how_the_encoder_is_used(folder: Path, name: str) -> None:
    plain, dropped = (
        Tower(settings(folder), tuning(augment=names, dropout=0.0), ["a b c | d e f | g h", "ab cd"])
        for names in ((), (name,))
    )
    rows = np.array([0, 1])
    assert torch.equal(plain.vectors(rows), dropped.vectors(rows))
    seen = [dropped.vectors(rows, drop_seed=seed) for seed in range(12)]
    assert any(not torch.allclose(one, plain.vectors(rows, drop_seed=0)) for one in seen)
    assert torch.equal(dropped.vectors(rows, drop_seed=3), seen[3])
    assert msgspec.structs.asdict(tuning(augment=(name,)))["augment"] == (name,)
