import gc
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadInput, Missing
from evaluation.replay import Replay, first_query, replay, steady_memory, write_answers
from streams.recorded import Entry, Query
from tests.factories import DAY, HOUR, T, event, habits_log, in_time_order, item, recorded, small_settings
from tests.towers import chains, embedder_of, small_towers, tower_settings

SETTINGS = small_settings(min_groups=60)
_numbers = count()


def query(shopper: str = "ida", *, ts: int = T, **more: Any) -> Query:
    return Query(query_id=f"q{next(_numbers)}", ts=ts, shopper=shopper, **more)


def shelf(*names: str) -> list[Entry]:
    return [item(name, ts=T - 30 * DAY) for name in names]


def played(folder: Path, entries: Sequence[Entry], **more: Any) -> Replay:
    return replay(recorded(folder, entries), SETTINGS, None, **more)


def lists(folder: Path, *entries: Entry, **more: Any) -> list[tuple[str, ...]]:
    return [one.items for one in played(folder, entries, **more).answers]


# ---------------------------------------------------------------------- what an answer may know
def test_a_query_is_answered_with_the_lines_above_it_and_no_other(tmp_path: Path) -> None:
    before, after = lists(
        tmp_path, *shelf(*"abc"), event("purchase", "b", user_id="bob", ts=T - DAY),
        query(), event("purchase", "c", user_id="bob"), item("d", ts=T), query(ts=T),
    )  # fmt: skip
    assert before[0] == "b"
    assert set(before) == {"a", "b", "c"}
    assert after[0] == "c"
    assert set(after) == {"a", "b", "c", "d"}


def test_a_basket_that_is_told_line_by_line_is_whole_before_a_query_of_its_time(tmp_path: Path) -> None:
    line = {"kind": "event", "type": "purchase", "user_id": "ida", "session_id": "s", "ts": T}
    rows = [
        *[{"kind": "item", "item_id": name, "ts": T - DAY} for name in "abc"],
        *[line | {"event_id": f"s-{name}", "item_id": name} for name in "ab"],
        {"kind": "query", "query_id": "q", "user_id": "ida", "ts": T, "exclude_bought": True},
    ]
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = replay(path, SETTINGS, None)
    assert [one.items for one in found.answers] == [("c",)]
    assert (found.lines, found.events) == (5, 5)


def test_what_was_bought_is_left_out_where_the_query_says_so(tmp_path: Path) -> None:
    bought = [event("purchase", "a", "b", ts=T - DAY), event("purchase", "c", ts=T - HOUR)]
    with_them, without = lists(
        tmp_path, *shelf(*"abcde"), *bought, query(), query(exclude_bought=True)
    )  # fmt: skip
    assert set(with_them) == set("abcde")
    assert set(without) == set("de")


def test_what_others_bought_is_not_left_out(tmp_path: Path) -> None:
    (found,) = lists(
        tmp_path, *shelf(*"ab"), event("purchase", "a", user_id="bob", ts=T - 1), query(exclude_bought=True)
    )
    assert found == ("a", "b")


def test_items_that_are_to_be_ranked_are_all_answered_and_no_others(tmp_path: Path) -> None:
    entries = [*shelf(*"abcdef"), event("view_item", "d", ts=T - 1), event("purchase", "a", ts=T - 1)]
    asked = [query(items=("f", "d", "b"), k=1), query(items=("a", "b", "never heard of"), exclude_bought=True)]
    first, second = lists(tmp_path, *entries, *asked)
    assert first[0] == "d"
    assert sorted(first) == ["b", "d", "f"]
    assert sorted(second) == ["a", "b", "never heard of"]


@pytest.mark.parametrize(("k", "names", "answered"), [(2, "abcd", 2), (10, "abcd", 4), (3, "a", 1), (10, "", 0)])
def test_as_many_are_answered_as_are_wanted_and_there_are(tmp_path: Path, k: int, names: str, answered: int) -> None:
    (found,) = lists(tmp_path, *shelf(*names), query("nobody we know", k=k))
    assert len(found) == len(set(found)) == answered


def test_channels_can_be_chosen(tmp_path: Path) -> None:
    others = [event("view_item", "a", user_id=f"u{n}", ts=T - 1) for n in range(9)]
    entries = [*shelf(*"abc"), event("purchase", "c", ts=T - 2 * DAY), *others]
    assert lists(tmp_path, *entries, query(k=1), channels=("own",)) == [("c",)]
    assert lists(tmp_path, *entries, query(k=1), channels=("trending",), ranker=False) == [("a",)]


# ---------------------------------------------------------------------- a whole run
def habits(days: int = 10) -> list[Entry]:
    asked = [query(f"s{n % 24}", ts=T + 6 * DAY + n * HOUR) for n in range(40)]
    return in_time_order(*asked, *habits_log(days=days))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("habits"), habits())


def test_a_second_run_gives_the_same_lists(stream: Path) -> None:
    one, other = replay(stream, SETTINGS, None), replay(stream, SETTINGS, None)
    assert len(one.answers) == 40
    assert one.trained
    assert [(a.query, a.items) for a in one.answers] == [(a.query, a.items) for a in other.answers]


def test_user_vectors_are_learnt_where_the_settings_ask_for_them_and_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_towers(monkeypatch)
    asked = [query(f"u{n}", ts=T + 6 * DAY + n * HOUR) for n in range(20)]
    path, settings = recorded(tmp_path, in_time_order(*asked, *chains(days=8))), tower_settings()
    one, other = (replay(path, settings, embedder_of(settings)) for _ in range(2))
    assert [made.max_event_ms < made.ts for made in one.users] == [True] * len(one.users)
    assert one.users
    assert [a.items for a in one.answers] == [a.items for a in other.answers]
    plain = replay(path, tower_settings(user="mean"), embedder_of(settings))
    assert plain.users == []
    assert [a.items for a in plain.answers] != [a.items for a in one.answers]


def test_rankers_are_trained_on_event_time_from_the_first_query_on_or_not_at_all(stream: Path) -> None:
    first = first_query(stream)
    assert first == T + 6 * DAY
    trained = replay(stream, SETTINGS, None).trained
    assert all(first <= made.ts <= T + 10 * DAY and made.max_event_ms < made.ts for made in trained)
    assert replay(stream, SETTINGS, None, ranker=False).trained == []


def test_a_stream_without_queries_is_taken_in_and_nothing_trained(tmp_path: Path) -> None:
    path = recorded(tmp_path, habits_log(days=6))
    found = replay(path, SETTINGS, None)
    assert first_query(path) is None
    assert (found.answers, found.trained) == ([], [])
    assert found.lines == len(habits_log(days=6))


def test_progress_is_told_now_and_then(stream: Path) -> None:
    told: list[int] = []
    found = replay(stream, SETTINGS, None, ranker=False, progress=told.append)
    assert told == [1_000]
    assert found.lines == len(habits())
    assert found.seconds > 0
    assert all(0 < one.seconds < found.seconds for one in found.answers)


def test_an_answer_s_time_is_not_that_of_the_training_before_it(stream: Path) -> None:
    found = replay(stream, SETTINGS, None)
    training = min(made.seconds for made in found.trained)
    assert min(one.seconds for one in found.answers[:1]) < training


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            ['{"kind": "query", "query_id": "q", "ts": 2}', '{"kind": "item", "item_id": "a", "ts": 1}'],
            "line 2: .*back",
        ),
        (['{"kind": "query", "query_id": "q", "ts": 2}', '{"kind": "wish", "ts": 3}'], "line 2: kind must be"),
        (["[]"], "line 1: wanted an object"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, rows: list[str], reason: str) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(BadInput, match=reason):
        replay(path, SETTINGS, None)


def test_a_stream_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        replay(tmp_path / "none.jsonl", SETTINGS, None)


def test_answers_are_written_a_line_a_query_as_the_scorer_reads_them(tmp_path: Path, stream: Path) -> None:
    found, path = replay(stream, SETTINGS, None, ranker=False), tmp_path / "recs.jsonl"
    write_answers(path, found.answers)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"query_id": one.query.query_id, "items": list(one.items)} for one in found.answers]
    assert [file.name for file in tmp_path.iterdir()] == ["recs.jsonl"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_afterwards(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with suppress(KeyError), steady_memory():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
