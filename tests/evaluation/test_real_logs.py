"""The replay on a real log: RankLens, lists of films that were shown and what of them was clicked."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from core.events import Event
from evaluation.compare import compare
from evaluation.metrics import Answered
from evaluation.replay import Answer, replay
from evaluation.wording import against
from streams.recorded import Query, read
from tests.factories import recorded, small_settings

SHARED = Path(__file__).parents[2].parent / "shared"
BEFORE, ASKED = 6_000, 250  # lines learnt from, and lists asked
SETTINGS = small_settings(min_groups=200, trees=60, leaves=15)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"real logs are read from {SHARED}, which is not there"),
]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All items, the last lines before the first query, and what follows up to the last query that is asked."""
    folder = tmp_path_factory.mktemp("P4t")
    export = [sys.executable, str(SHARED / "bench/export_stream.py"), "--protocol", "P4t", "--out", str(folder)]
    done = subprocess.run(export, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the stream cannot be exported: {done.stderr.strip().splitlines()[-1]}")
    entries = list(read(folder / "stream.jsonl"))
    queries = [place for place, entry in enumerate(entries) if isinstance(entry, Query)]
    items = [entry for entry in entries if not isinstance(entry, Event | Query)]
    acts = [entry for entry in entries[: queries[0]] if isinstance(entry, Event)]
    return recorded(folder, [*items, *acts[-BEFORE:], *entries[queries[0] : queries[ASKED]]], "part.jsonl")


@pytest.fixture(scope="module")
def clicked(part: Path) -> dict[str, frozenset[str]]:
    """What was clicked of each list."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in read(part):
        if isinstance(entry, Event) and entry.name == "select_item":
            found[str(entry.recommendation_id)] |= {line.item_id for line in entry.items}
    return {name: frozenset(items) for name, items in found.items()}


def answered(answers: list[Answer], clicked: dict[str, frozenset[str]]) -> list[Answered]:
    return [
        Answered(
            query_id=one.query.query_id, shopper=one.query.shopper, ts=one.query.ts, items=one.items,
            targets=clicked.get(one.query.query_id, frozenset()), shown=one.query.items,
        )
        for one in answers
    ]  # fmt: skip


def test_shown_lists_are_ordered_better_than_by_popularity(part: Path, clicked: dict[str, frozenset[str]]) -> None:
    ours = replay(part, SETTINGS, None)
    popular = replay(part, SETTINGS, None, channels=("trending",), ranker=False)
    assert len(ours.answers) == ASKED
    assert ours.trained
    systems = {"headwater": answered(ours.answers, clicked), "popularity": answered(popular.answers, clicked)}
    found = compare(systems, "headwater")
    assert found.queries > ASKED // 2
    difference = against(found.differences, "popularity")
    assert difference is not None
    assert difference.low > 0, difference


def test_every_list_holds_what_was_shown_once(part: Path) -> None:
    found = replay(part, SETTINGS, None, ranker=False)
    assert all(sorted(one.items) == sorted(one.query.items or ()) for one in found.answers)


def test_a_second_run_gives_the_same_lists(part: Path) -> None:
    def lists() -> list[tuple[str, ...]]:
        return [one.items for one in replay(part, SETTINGS, None).answers]

    assert lists() == lists()
