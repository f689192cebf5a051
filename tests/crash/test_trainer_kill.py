"""SIGKILL of a training at any moment: what serves is whole, nothing half can be opened, and the next run ends well."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.bundle import Bundles
from core.settings import EncoderSettings, Settings, TuningSettings
from core.settings_page import as_toml
from jobs.embedding import Embedder
from jobs.history import PROGRESS, runs
from jobs.train import run as train_ranker
from models.encoder import Encoder
from ranker.bundle import encoder_in, open_bundle
from tests.crash.trainer_child import begin
from tests.factories import fill, small_settings
from tests.jobs.test_train_encoder import NOW, SMALL, in_groups
from tests.models.tiny import tiny_encoder

WITHIN_S = 300.0  # a run ends in seconds; on a busy machine in minutes
ALL = ("train", "encoder", "--force")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A shop with a log, a tiny encoder and settings in a file."""
    small = small_settings(tmp_path, min_groups=30, trees=10)
    tiny = tiny_encoder(tmp_path / "tiny")
    settings = msgspec.structs.replace(
        small,
        encoder=EncoderSettings(
            model=str(tiny), device="cpu", dtype="float32", max_tokens=24, cache=tmp_path / "vectors.sqlite"
        ),
        channels=msgspec.structs.replace(small.channels, text=20),
        tuning=TuningSettings(
            path=tmp_path / "encoders", **(SMALL | {"save_s": 0.2, "rounds": 12, "patience": 12, "window_s": 1e9})
        ),
    )
    (tmp_path / "headwater.toml").write_text(as_toml(settings))
    fill(settings, in_groups())
    return settings


def start(settings: Settings, *verb: str) -> BaseProcess:
    toml = settings.bundles.path.with_name("headwater.toml")
    return begin((*verb, "--settings", str(toml)))


def ends(settings: Settings, *verb: str) -> None:
    child = start(settings, *verb)
    child.join(WITHIN_S)
    assert child.exitcode == 0


def kill_when(settings: Settings, reached: Callable[[], bool], then_s: float = 0.0) -> bool:
    """Kill a run a little after something is true; False where it ended before."""
    child, until = start(settings, *ALL), time.monotonic() + WITHIN_S
    while child.is_alive() and not reached():
        assert time.monotonic() < until
        time.sleep(0.002)
    time.sleep(then_s)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def works_on(settings: Settings, what: str) -> Callable[[], bool]:
    path = settings.bundles.path / PROGRESS
    return lambda: path.exists() and f'"work":"{what}"'.encode() in path.read_bytes()


def check_whole(settings: Settings) -> None:
    """Whatever has a name can be opened, and what serves is there."""
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    for one in store.list():
        manifest = store.load(one.id)
        opened = open_bundle(store.folder(one.id), manifest, settings)
        assert (opened.ranker is not None) == (manifest.ranker != "blend")
        if encoder_in(store.folder(one.id)) is not None:
            embedder = Embedder.of_bundle(settings, opened, manifest)
            assert embedder is not None
            assert embedder.space_id == manifest.space_id
    current = store.current_id()
    assert current is None or current in {one.id for one in store.list()}
    for folder in settings.tuning.path.iterdir() if settings.tuning.path.exists() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            Encoder.open(msgspec.structs.replace(settings.encoder, model=str(folder)), settings.text)


def check_goes_on(settings: Settings, kills: int | None = None) -> None:
    """The next run makes a bundle that serves, and cleans up."""
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    before = {one.id for one in store.list()}
    ends(settings, *ALL)
    check_whole(settings)
    current = store.current_id()
    assert current is not None
    assert current not in before
    assert [path.name for path in settings.bundles.path.glob(".writing*")] == []
    results = [one.result for one in runs(settings)]
    assert results[0] == "promoted"
    assert kills is None or results.count("killed") == kills  # None: some were killed before they had begun


@pytest.mark.timeout(400)
def test_a_training_that_is_killed_in_each_of_its_parts_leaves_nothing_half(settings: Settings) -> None:
    train_ranker(settings, Embedder.serving(settings), NOW, lambda *_: None, force=True)
    first = Bundles(settings.bundles.path, 5).current_id()
    known = {path.name for path in settings.bundles.path.iterdir()}

    def writing() -> bool:
        return any(path.is_dir() and any(path.iterdir()) for path in settings.bundles.path.glob(".writing-*"))

    def written() -> bool:
        return any(path.name[0].isdigit() and path.name not in known for path in settings.bundles.path.iterdir())

    moments = [
        (works_on(settings, "training the encoder"), 0.3),
        (works_on(settings, "rehearsing the log"), 0.0),
        (writing, 0.1),
        (written, 0.0),
    ]
    kills = 0
    for reached, then_s in moments:
        kills += kill_when(settings, reached, then_s)
        check_whole(settings)
        if not written():
            assert Bundles(settings.bundles.path, 5).current_id() == first
    assert kills == len(moments)
    check_goes_on(settings, kills)


@pytest.mark.slow
@pytest.mark.timeout(2_400)
def test_ten_kills_at_random_moments_leave_nothing_half(settings: Settings) -> None:
    begun = time.monotonic()
    ends(settings, *ALL)
    whole_s = time.monotonic() - begun
    chance, kills, begun_runs = np.random.default_rng(11), 0, 0
    while kills < 10:
        begun_runs += 1
        assert begun_runs <= 25  # a run that goes on with what was ready is shorter, and may end before its moment
        after = time.monotonic() + float(chance.uniform(0.1, 1.0)) * whole_s
        works: list[bytes] = []

        def reached(after: float = after, works: list[bytes] = works) -> bool:
            path = settings.bundles.path / PROGRESS
            if path.exists():
                works[:] = [path.read_bytes()]
            return time.monotonic() > after

        killed = kill_when(settings, reached)
        kills += killed
        print(f"kill {kills}: {'killed' if killed else 'had ended'} while {works}")
        check_whole(settings)
    check_goes_on(settings)
