from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.bundle import Bundles
from core.settings import EncoderSettings, Settings, TuningSettings
from jobs.embedding import Embedder
from jobs.gate import verdict_of
from jobs.renewal import READY, Renewed, prune, run
from jobs.train import run as train_ranker
from models.trained import NOTES
from ranker.bundle import encoder_in
from tests.factories import DAY, fill, small_settings
from tests.jobs.test_train_encoder import NOW, SMALL, in_groups
from tests.models.tiny import tiny_encoder


@pytest.fixture(autouse=True)
def few_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.text_quality.FEWEST", 10)
    monkeypatch.setattr("jobs.comparison.NEWER", 5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


def shop(tiny: Path, folder: Path, **tuning: Any) -> Settings:
    small = small_settings(folder, min_groups=30, trees=10)
    return msgspec.structs.replace(
        small,
        encoder=EncoderSettings(
            model=str(tiny), device="cpu", dtype="float32", max_tokens=24, cache=folder / "vectors.sqlite"
        ),
        channels=msgspec.structs.replace(small.channels, text=20),
        tuning=TuningSettings(path=folder / "encoders", **(SMALL | tuning)),
    )


def quiet(what: str, done: int, total: int) -> None:
    pass


def store(settings: Settings) -> Bundles:
    return Bundles(settings.bundles.path, settings.bundles.keep)


def base_of(settings: Settings) -> str:
    """A bundle in the space of the published encoder, that serves."""
    found = train_ranker(settings, Embedder.serving(settings), NOW, quiet, force=True)
    assert found.manifest is not None
    assert found.manifest.encoder.base == ""
    return found.manifest.id


@pytest.fixture(scope="module")
def renewed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, str, Renewed]:
    """A shop that had a bundle, after the whole job; with that bundle's id."""
    patch = pytest.MonkeyPatch()
    patch.setattr("jobs.text_quality.FEWEST", 10)
    patch.setattr("jobs.comparison.NEWER", 5)
    settings = shop(tiny, tmp_path_factory.mktemp("renewed"))
    fill(settings, in_groups(90))
    before = base_of(settings)
    found = run(settings, NOW + 1, quiet)
    patch.undo()
    return settings, before, found


def test_the_whole_job_ends_in_one_bundle_with_the_encoder_in_it(renewed: tuple[Settings, str, Renewed]) -> None:
    settings, before, found = renewed
    assert found.encoder is not None
    assert found.whole is not None
    made = found.whole.manifest
    assert made is not None
    carried = encoder_in(store(settings).folder(made.id))
    assert carried is not None
    assert (carried / NOTES).exists()
    assert made.encoder.name == found.encoder.folder.name  # type: ignore[union-attr]
    assert made.encoder.base == settings.encoder.model
    assert made.space_id != store(settings).load(before).space_id
    assert store(settings).current_id() == (made.id if found.result == "promoted" else before)
    assert not (settings.tuning.path / READY).exists()


def test_it_is_compared_with_what_serves_on_visits_that_its_encoder_has_not_seen(
    renewed: tuple[Settings, str, Renewed],
) -> None:
    settings, before, found = renewed
    assert found.whole is not None
    verdict = found.whole.verdict
    assert verdict is not None
    assert f"against bundle {before} on {verdict.lists} newer lists" in verdict.why
    assert {"ndcg@10", "recall", "popularity", "coverage", "ms"} <= verdict.figures.keys()
    assert {"mean cosine", "effective rank", "twins", "shared neighbours"} <= verdict.health.keys()
    assert found.whole.manifest is not None
    assert verdict_of(store(settings).folder(found.whole.manifest.id)) == verdict


def test_what_the_bundle_carries_is_what_the_next_ranker_is_trained_with(
    renewed: tuple[Settings, str, Renewed],
) -> None:
    settings, _, found = renewed
    assert found.whole is not None
    assert found.whole.manifest is not None
    kept = store(settings).current_id()
    store(settings).promote(found.whole.manifest.id)
    serving = Embedder.serving(settings)
    assert serving is not None
    assert serving.space_id == found.whole.manifest.space_id
    again = train_ranker(settings, serving, NOW + 2, quiet).manifest
    assert again is not None
    assert again.space_id == serving.space_id
    assert encoder_in(store(settings).folder(again.id)) is not None
    assert again.encoder == found.whole.manifest.encoder
    store(settings).promote(str(kept))


def test_a_run_that_was_killed_after_the_encoder_goes_on_with_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shop(tiny, tmp_path)
    fill(settings, in_groups())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jobs.train.run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, NOW, quiet)
    assert (settings.tuning.path / READY).exists()
    with monkeypatch.context() as patch:
        patch.setattr("jobs.train_encoder.run", killed)  # it is not trained again
        found = run(settings, NOW + DAY // 2, quiet)
    assert found.encoder is None
    assert found.whole is not None
    assert found.whole.manifest is not None
    assert encoder_in(store(settings).folder(found.whole.manifest.id)) is not None
    assert not (settings.tuning.path / READY).exists()


def test_an_encoder_that_gains_nothing_ends_the_job(tiny: Path, tmp_path: Path) -> None:
    settings = shop(tiny, tmp_path, learning_rate=1e-9, rounds=1)
    fill(settings, in_groups())
    found = run(settings, NOW, quiet)
    assert (found.result, found.whole) == ("kept", None)
    assert found.why == "no round was better than the encoder before: it stays"
    assert store(settings).list() == ()


def test_only_the_newest_encoders_are_kept_and_the_one_in_use(tiny: Path, tmp_path: Path) -> None:
    settings = shop(tiny, tmp_path, keep=2)
    folders = [settings.tuning.path / name for name in "abcd"]
    for at, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / NOTES).write_text("{}")
        os.utime(folder / NOTES, (at, at))
    (settings.tuning.path / ".removing-z").mkdir()
    named = msgspec.structs.replace(settings, encoder=EncoderSettings(model=str(folders[0])))
    assert prune(named) == [folders[1]]
    assert sorted(one.name for one in settings.tuning.path.iterdir()) == ["a", "c", "d"]
