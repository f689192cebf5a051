import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.catalogue import ItemChange, apply_change
from core.errors import BadSettings, Missing
from core.events import Event
from core.settings import EncoderSettings, Settings, TextSettings, TuningSettings
from evaluation.invented import OPENED_MS, InventedShop
from jobs.train_encoder import BEGUN, CHECKPOINT, Outcome, lines, run
from models.encoder import Encoder
from models.text import item_text
from models.trained import notes_of
from models.vectors import Vectors
from streams.recorded import Entry
from tests.factories import DAY, MINUTE, T, event, fill, item, recorded, shuffled_items
from tests.models.tiny import tiny_encoder

DAYS, GROUPS, WIDTH = 20, 4, 10
NOW = T + DAYS * DAY
SMALL: dict[str, Any] = {
    "rung": "top", "layers": 2, "pairs": 8, "rounds": 4, "patience": 9, "learning_rate": 2e-3, "hard": 0,
    "dropout": 0.0, "held_out": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_questions_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.text_quality.FEWEST", 10)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


def shop(tiny: Path, folder: Path, **tuning: Any) -> Settings:
    return Settings(
        log=msgspec.structs.replace(Settings().log, path=folder / "log.sqlite"),
        encoder=EncoderSettings(model=str(tiny), device="cpu", dtype="float32", max_tokens=24),
        tuning=TuningSettings(path=folder / "encoders", **(SMALL | tuning)),
    )


def in_groups(shoppers: int = 60, seed: int = 1) -> list[Entry]:
    """Shoppers who each look at one group of items; one letter of a title tells the group."""
    chance = np.random.default_rng(seed)
    noise = np.array(list("mnopqrstuvwxyz"))
    titles = [" ".join([*chance.choice(noise, 4), "abcd"[n // WIDTH]]) for n in range(GROUPS * WIDTH)]
    entries: list[Entry] = [item(f"i{n:02}", ts=T, title=title) for n, title in enumerate(titles)]
    for number in range(shoppers):
        mine = chance.permutation(WIDTH) + WIDTH * (number % GROUPS)
        for day, one in zip(sorted(chance.choice(DAYS, 6, replace=False).tolist()), mine.tolist(), strict=False):
            ts = T + day * DAY + int(chance.integers(MINUTE, DAY))
            entries.append(event("view_item", f"i{one:02}", ts=ts, user_id=f"s{number}", event_id=f"{number}-{day}"))
    return sorted(entries, key=lambda entry: entry.ts)


def quiet(what: str, done: int, total: int) -> None:
    pass


def ticking() -> Any:
    ticks = count()
    return lambda: float(next(ticks))


def trained(settings: Settings, entries: Sequence[Entry], folder: Path, now_ms: int = NOW, **more: Any) -> Outcome:
    stream = recorded(folder, entries, f"{len(entries)}.jsonl")
    return run(settings, now_ms, more.pop("progress", quiet), stream=stream, seconds=ticking(), **more)


def test_an_encoder_learns_from_a_log_and_can_be_opened(tiny: Path, tmp_path: Path) -> None:
    settings = shop(tiny, tmp_path)
    entries = in_groups()
    fill(settings, entries)
    outcome = run(settings, NOW, quiet, seconds=ticking())
    assert outcome.folder is not None
    gain = outcome.figures["all"]["recall@10"]
    assert gain.gain.low > 0
    assert gain.after.mean == pytest.approx(gain.before.mean + gain.gain.mean)
    opened = Encoder.open(msgspec.structs.replace(settings.encoder, model=str(outcome.folder)), settings.text)
    assert opened.space_id != Encoder.open(settings.encoder, settings.text).space_id
    notes = notes_of(outcome.folder)
    assert notes is not None
    assert notes.max_event_ms == max(entry.ts for entry in entries)
    assert [one.name for one in settings.tuning.path.iterdir()] == [outcome.folder.name]
    assert any(str(outcome.folder) in line for line in lines(outcome))
    assert trained(shop(tiny, tmp_path / "again"), entries, tmp_path).folder.name == outcome.folder.name  # type: ignore[union-attr]


CUT_MS = NOW - 2 * DAY


def before_the_cut() -> list[Entry]:
    return [entry for entry in in_groups() if entry.ts < CUT_MS]


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What comes of what was recorded before the cut."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.text_quality.FEWEST", 10)
        found = trained(shop(tiny, folder), before_the_cut(), folder, CUT_MS).folder
    assert found is not None
    return found.name


def test_what_happens_from_now_on_changes_nothing(tiny: Path, tmp_path: Path, whole: str) -> None:
    found = trained(shop(tiny, tmp_path), in_groups(), tmp_path, CUT_MS).folder
    assert found is not None
    assert found.name == whole


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [3, 70])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_come_since(
    tiny: Path, tmp_path: Path, whole: str, at: int
) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if what == "training the encoder" and done == at:
            raise Killed

    settings = shop(tiny, tmp_path / "killed", save_s=1e-3)
    with pytest.raises(Killed):
        trained(settings, before_the_cut(), tmp_path, CUT_MS, progress=kill)
    assert (settings.tuning.path / BEGUN).exists()
    (settings.tuning.path / ".writing").mkdir()  # as one that was killed a little later leaves it
    steps: list[int] = []

    def told(what: str, done: int, total: int) -> None:
        if what == "training the encoder":
            steps.append(done)

    again = trained(settings, in_groups(), tmp_path, NOW, progress=told)
    assert again.folder is not None
    assert again.folder.name == whole
    assert steps[0] == at
    assert [one.name for one in settings.tuning.path.iterdir()] == [again.folder.name]


@pytest.mark.slow  # tests/crash/test_trainer_kill.py kills the whole job, in this part too
def test_after_a_sigkill_there_is_nothing_half_and_the_next_run_ends_well(tiny: Path, tmp_path: Path) -> None:
    settings = shop(tiny, tmp_path, save_s=0.05, rounds=400)
    stream = recorded(tmp_path, in_groups())
    code = (
        "import sys, msgspec, jobs.text_quality, jobs.train_encoder as job\nfrom pathlib import Path\n"
        "from core.settings import Settings\n"
        "jobs.text_quality.FEWEST = 10\nhook = lambda kind, value: Path(value)\n"
        "settings = msgspec.json.decode(sys.argv[1], type=Settings, dec_hook=hook)\n"
        f"job.run(settings, {NOW}, lambda *told: None, stream=Path(sys.argv[2]))"
    )
    given = msgspec.json.encode(settings, enc_hook=str).decode()
    child = subprocess.Popen([sys.executable, "-c", code, given, str(stream)], cwd=Path(__file__).parents[2])
    until = time.monotonic() + 120
    while not (settings.tuning.path / CHECKPOINT).exists():
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not [one for one in settings.tuning.path.iterdir() if one.is_dir()]
    (settings.tuning.path / ".writing").mkdir()  # as one that was killed a little later leaves it
    short = msgspec.structs.replace(settings, tuning=msgspec.structs.replace(settings.tuning, rounds=3))
    outcome = run(short, NOW, quiet, stream=stream)
    assert outcome.folder is not None
    Encoder.open(msgspec.structs.replace(settings.encoder, model=str(outcome.folder)), settings.text)
    assert [one.name for one in settings.tuning.path.iterdir()] == [outcome.folder.name]


def test_a_trained_encoder_is_trained_further_and_measured_on_what_is_older(tiny: Path, tmp_path: Path) -> None:
    entries, cut_ms = in_groups(), NOW - 8 * DAY
    first = trained(shop(tiny, tmp_path, rounds=2), entries, tmp_path, cut_ms)
    assert set(first.figures) <= {"all", "cold"}
    again = trained(shop(first.folder or tiny, tmp_path), entries, tmp_path)
    assert again.questions["older"] >= 10
    assert again.figures["older"]["recall@100"].after.mean > 0


def test_what_gains_nothing_is_not_written(tiny: Path, tmp_path: Path) -> None:
    settings = shop(tiny, tmp_path, learning_rate=1e-9, rounds=1)
    outcome = trained(settings, in_groups(), tmp_path)
    assert outcome.folder is None
    assert outcome.why == "no round was better than the encoder before: it stays"
    assert list(settings.tuning.path.iterdir()) == []


def test_too_little_today_does_not_stop_tomorrow(tiny: Path, tmp_path: Path) -> None:
    settings, entries = shop(tiny, tmp_path), in_groups()
    with pytest.raises(Missing):
        trained(settings, entries, tmp_path, T + DAY)
    assert trained(settings, entries, tmp_path).folder is not None


def test_what_cannot_be_trained_is_said(tiny: Path, tmp_path: Path) -> None:
    off = msgspec.structs.replace(shop(tiny, tmp_path), encoder=EncoderSettings(model="none"))
    with pytest.raises(BadSettings, match="there is no encoder to train"):
        run(off, NOW, quiet)
    with pytest.raises(BadSettings, match=r"tuning\.augment may hold drop_fields, .*, got 'shout'"):
        run(shop(tiny, tmp_path, augment=("shout",)), NOW, quiet)
    with pytest.raises(Missing, match="nothing was recorded"):
        run(shop(tiny, tmp_path), NOW, quiet)
    with pytest.raises(Missing, match="shoppers came back"):
        trained(shop(tiny, tmp_path), in_groups(5), tmp_path)


@pytest.mark.parametrize("option", ["drop_fields", "drop_words", "crop", "reorder"])
def test_with_each_augmentation_it_learns_too(tiny: Path, tmp_path: Path, option: str) -> None:
    outcome = trained(shop(tiny, tmp_path, augment=(option,), rounds=2), in_groups(), tmp_path)
    assert outcome.figures["all"]["recall@10"].gain.mean > 0.1


# ---------------------------------------------------------------------- a shop whose tastes are known
UNTIL = OPENED_MS + 45 * DAY


@pytest.fixture(scope="module")
def invented() -> tuple[InventedShop, list[Entry]]:
    from core.catalogue import parse_change
    from core.events import parse

    known = InventedShop(3, items=160, shoppers=300)
    entries: list[Entry] = [parse_change(body) for body in known.catalogue(UNTIL)]
    return known, sorted([*entries, *(parse(body) for body in known.events(UNTIL))], key=lambda one: one.ts)


def real(folder: Path) -> Settings:
    few = TuningSettings(
        path=folder, layers=1, pairs=16, rounds=5, patience=9, learning_rate=1e-4, hard=0, held_out=0.3
    )
    return Settings(encoder=EncoderSettings(device="cpu", max_tokens=32), tuning=few)


def kinship(model: str, entries: Sequence[Entry], known: InventedShop) -> float:
    """Of the ten nearest items of each, how many are of its group of taste."""
    items = [apply_change(None, one) for one in entries if isinstance(one, ItemChange)]
    encoder = Encoder.open(EncoderSettings(model=model, device="cpu", max_tokens=32), TextSettings())
    vectors: Vectors = encoder.encode([item_text(one, TextSettings()) for one in items if one])
    near = vectors @ vectors.T - 9 * np.eye(len(vectors))
    group = np.array([known.true_group(one.item_id) for one in items if one])
    return float((group[near.argsort(axis=1)[:, -10:]] == group[:, None]).mean())


@pytest.mark.slow
def test_learned_vectors_recover_the_tastes_of_an_invented_shop(
    invented: tuple[InventedShop, list[Entry]], tmp_path: Path
) -> None:
    known, entries = invented
    outcome = run(real(tmp_path / "encoders"), UNTIL, quiet, stream=recorded(tmp_path, entries))
    assert outcome.folder is not None
    before, after = (kinship(one, entries, known) for one in (EncoderSettings().model, str(outcome.folder)))
    print(f"nearest ten of one's group: {before:.3f} before, {after:.3f} after; {outcome.why}")
    assert after > before + 0.03


@pytest.mark.slow
def test_shuffled_events_teach_nothing(invented: tuple[InventedShop, list[Entry]], tmp_path: Path) -> None:
    _, entries = invented
    shuffled = shuffled_items(one for one in entries if isinstance(one, Event | ItemChange))
    outcome = run(real(tmp_path / "encoders"), UNTIL, quiet, stream=recorded(tmp_path, shuffled))
    gain = outcome.figures["all"]["ndcg@10"].gain
    print(f"NDCG@10 of shuffled events: {outcome.figures['all']['ndcg@10']}")
    assert gain.low <= 0
