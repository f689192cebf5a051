"""Verbs on a small invented log: each does what the function behind it does, and says so."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from core.bundle import Bundles
from core.settings import load
from streams.log import EmbeddedLog
from streams.messages import Letter, of_letter
from streams.recorded import Query, write
from tests.cli.conftest import Run
from tests.factories import DAY, invented_log


@pytest.fixture
def stream(folder: Path) -> Path:
    """An invented log with a query a day in its last week."""
    entries = invented_log()
    end = entries[-1].ts
    queries = [Query(query_id=f"q{n}", ts=end - n * DAY, shopper="ada-001") for n in range(7)]
    path = folder / "log.jsonl"
    write(path, sorted([*entries, *queries], key=lambda one: one.ts))
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MIN_GROUPS", 40), ("TREES", 20), ("LEAVES", 7), ("NEGATIVES", 20)):
        monkeypatch.setenv(f"HEADWATER_TRAINING__{name}", str(value))


def test_a_replay_writes_its_answers_and_tells_its_figures(headwater: Run, stream: Path, folder: Path) -> None:
    code, said, _ = headwater("replay", stream, "--recommendations", "out.jsonl")
    assert code == 0
    assert re.search(r"out.jsonl: 7 queries answered, p50 [\d.]+ ms, p99 [\d.]+ ms", said)
    assert re.search(r"[\d,]+ lines in [\d.]+ s, [\d,]+ events/s", said)
    assert re.search(r"trained at 2025-01-\d\d \S+Z on [\d,]+ lists", said)
    lines = [msgspec.json.decode(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]
    assert [line["query_id"] for line in lines] == [f"q{n}" for n in range(6, -1, -1)]
    assert all(len(line["items"]) == 10 for line in lines)


def test_a_replay_without_a_ranker_trains_none(headwater: Run, stream: Path) -> None:
    only = ("--no-ranker", "--channels", "trending,own")
    _, said, _ = headwater("replay", stream, "--recommendations", "out.jsonl", *only)
    assert "trained" not in said


def test_an_evaluation_writes_the_page_and_its_twin(headwater: Run, stream: Path, folder: Path) -> None:
    code, said, _ = headwater(
        "evaluate", stream, "--report", "reports/r.html", "--test-from", "2025-01-20", "--ablate", "20"
    )
    assert code == 0
    assert "recent popularity" in said
    assert "reports/r.html, reports/r.json" in said
    assert (folder / "reports" / "r.html").read_text().startswith("<!doctype html>")
    assert "headline" in msgspec.json.decode((folder / "reports" / "r.json").read_bytes())


def test_training_makes_a_bundle_and_says_what_the_gate_said(headwater: Run, stream: Path) -> None:
    headwater("import", stream, "--format", "stream")
    code, said, _ = headwater("train", "ranker", "--force")
    assert code == 0
    store = Bundles(load().bundles.path, 5)
    assert said.startswith(f"{store.current_id()}, promoted; ")
    assert re.search(r"; [\d,]+ lists; .*NDCG@10 ", said)
    assert re.search(r" ranker +\d+ s +promoted +\S+ +.*NDCG@10 ", headwater("train", "status")[1])
    code, said, _ = headwater("train", "ranker")
    assert code == 3
    assert re.search(r"^\S+, held; .* 0 lists are newer than bundle ", said)
    assert "makes it serve all the same" in said


def test_what_cannot_be_trained_is_said(headwater: Run, stream: Path) -> None:
    code, _, errors = headwater("train", "encoder", "--stream", stream)
    assert (code, "say --only too" in errors) == (2, True)
    code, _, errors = headwater("train", "search", "--ranker", "--encoder")
    assert (code, "got both" in errors) == (2, True)
    code, _, errors = headwater("train", "ranker")
    assert (code, "the log holds no events" in errors) == (1, True)
    assert " failed " in headwater("train", "status")[1]


def test_dead_letters_are_listed_newest_first(headwater: Run) -> None:
    log = EmbeddedLog.open(load().log)
    log.append([of_letter(Letter(f"reason {n}", "gateway", 1_700_000_000_000 + n, "{" + "x" * n)) for n in range(300)])
    log.close()
    code, said, _ = headwater("dead-letters", "list", "--limit", "2")
    assert code == 0
    first, raw, second, _ = said.splitlines()
    assert first == "2023-11-14 22:13:20Z  gateway  reason 299"
    assert raw == f"    {'{' + 'x' * 159 + '…'!r}"
    assert second.endswith("reason 298")


def test_a_log_without_dead_letters_says_so(headwater: Run) -> None:
    EmbeddedLog.open(load().log).close()
    assert headwater("dead-letters", "list") == (0, "no dead letters\n", "")
