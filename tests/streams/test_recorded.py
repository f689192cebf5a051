import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange
from core.errors import BadInput, Missing
from core.events import NO_CURRENCY, Event, Line
from streams.recorded import Query, first_of, moment_before, read, span, write

T = 1_600_000_000_000


def stream(*lines: dict[str, Any] | str) -> io.BytesIO:
    return io.BytesIO("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines).encode())


def bought(item: str, *, invoice: str = "536365", shopper: str = "ida", ts: int = T, **more: Any) -> dict[str, Any]:
    line = {
        "kind": "event",
        "type": "purchase",
        "event_id": f"{invoice}-{item}",
        "user_id": shopper,
        "session_id": invoice,
    }
    return line | {"item_id": item, "ts": ts, "quantity": 2.0, "price": 3.5} | more


def test_lines_of_one_basket_become_one_purchase() -> None:
    (event,) = read(stream(bought("tea"), bought("cup")))
    assert event == Event(
        name="purchase", event_id="536365-tea", ts=T, user_id="ida", session_id="536365", transaction_id="536365",
        currency=NO_CURRENCY, items=(Line("tea", 2.0, 3.5), Line("cup", 2.0, 3.5)),
    )  # fmt: skip


@pytest.mark.parametrize("other", [{"invoice": "2"}, {"shopper": "bo"}, {"ts": T + 1}])
def test_another_invoice_shopper_or_moment_is_another_basket(other: dict[str, Any]) -> None:
    assert len(list(read(stream(bought("tea"), bought("cup", **other))))) == 2


def test_without_grouping_every_line_is_an_event() -> None:
    assert len(list(read(stream(bought("tea"), bought("cup")), group=False))) == 2


def test_a_query_between_two_lines_of_a_basket_sees_the_first_only() -> None:
    query = {"kind": "query", "query_id": "q", "user_id": "ida", "ts": T}
    kinds = [type(entry).__name__ for entry in read(stream(bought("tea"), query, bought("cup")))]
    assert kinds == ["Event", "Query", "Event"]


def test_a_repeated_line_of_a_basket_counts_once() -> None:
    (event,) = read(stream(bought("tea"), bought("cup"), bought("tea")))
    assert isinstance(event, Event)
    assert [line.item_id for line in event.items] == ["tea", "cup"]


def test_a_shown_list_and_its_clicks_carry_the_ranking_as_recommendation() -> None:
    shown = {"kind": "event", "type": "impression", "ranking_id": "r1", "user_id": "ida", "ts": T, "items": ["a", "b"]}
    click = {"kind": "event", "type": "click", "ranking_id": "r1", "user_id": "ida", "ts": T + 5, "item_id": "b"}
    first, second = read(stream(shown, click))
    assert first == Event(
        name="view_item_list", event_id="i-r1", ts=T, user_id="ida", recommendation_id="r1",
        items=(Line("a", index=0), Line("b", index=1)),
    )  # fmt: skip
    assert second == Event(
        name="select_item", event_id="c-r1-b", ts=T + 5, user_id="ida", recommendation_id="r1", items=(Line("b"),)
    )


@pytest.mark.parametrize(("short", "name"), [("view", "view_item"), ("cart", "add_to_cart"), ("like", "like")])
def test_short_names_stand_for_ours(short: str, name: str) -> None:
    line = {"kind": "event", "type": short, "event_id": "e", "visitor_id": "v", "item_id": "a", "ts": T}
    (event,) = read(stream(line))
    assert event == Event(name=name, event_id="e", visitor_id="v", ts=T, items=(Line("a"),))


def test_a_cart_and_a_click_from_one_list_keep_different_ids() -> None:
    line = {"kind": "event", "ranking_id": "r1", "user_id": "ida", "ts": T, "item_id": "b"}
    ids = {
        event.event_id
        for event in read(stream(line | {"type": "click"}, line | {"type": "cart"}))
        if isinstance(event, Event)
    }
    assert len(ids) == 2


def test_numbers_for_ids_and_unknown_keys_are_taken_the_slow_way() -> None:
    quick = bought("71053", invoice="9", shopper="17")
    slow = quick | {"item_id": 71053, "session_id": 9, "user_id": 17, "till": 3}
    (one,), (two,) = read(stream(quick)), read(stream(slow))
    assert isinstance(one, Event)
    assert isinstance(two, Event)
    assert two.attributes == {"till": 3}
    assert (one.items, one.transaction_id, one.user_id) == (two.items, two.transaction_id, two.user_id)


def test_a_missing_event_id_is_derived_and_stays_the_same() -> None:
    line = {"kind": "event", "type": "view", "user_id": "ida", "item_id": "a", "ts": T}
    (one,), (two,) = read(stream(line)), read(stream(line))
    assert isinstance(one, Event)
    assert one.event_id.startswith("h-")
    assert one == two


def test_fields_of_an_item_find_their_places_and_the_rest_are_attributes() -> None:
    fields = {
        "title": "GoldenEye",
        "genres": ["action", "thriller"],
        "description": "A spy.",
        "runtime": 130,
        "tags": ["007"],
    }
    (item,) = read(stream({"kind": "item", "item_id": "10", "title": "GoldenEye", "fields": fields, "ts": T}))
    assert item == ItemChange(
        item_id="10", ts=T, title="GoldenEye", description="A spy.", categories=("action", "thriller"),
        attributes={"runtime": 130.0, "tags": ["007"]},
    )  # fmt: skip


def test_genres_stay_an_attribute_where_there_are_categories() -> None:
    fields = {"category": "Films > Crime", "genres": ["action"], "price": 9.5, "brand": "Eon"}
    (item,) = read(stream({"kind": "item", "item_id": "10", "fields": fields, "ts": T}))
    assert item == ItemChange(
        item_id="10", ts=T, categories=("Films > Crime",), price=9.5, brand="Eon", attributes={"genres": ["action"]}
    )


def test_a_query_that_names_items_wants_all_of_them_ranked() -> None:
    line = {"kind": "query", "query_id": "q", "user_id": "ida", "ts": T}
    plain, of_items = read(stream(line | {"k": 5, "exclude_bought": True}, line | {"items": ["a", "b", "c"]}))
    assert plain == Query(query_id="q", ts=T, shopper="ida", k=5, exclude_bought=True)
    assert of_items == Query(query_id="q", ts=T, shopper="ida", k=3, items=("a", "b", "c"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ('{"kind": "event", "type": 5, ', "not JSON"),
        ("[1]", "an object, got list|a JSON object, got list"),
        ({"kind": "thing", "ts": T}, "kind must be item, event or query, got 'thing'"),
        (bought("tea", ts=T - 1), f"got {T - 1}, wanted {T} or more"),
        (bought("tea") | {"ts": "soon"}, "got 'soon'"),
        (bought("tea", quantity=0), "quantity of 'tea' must be above 0"),
        ({"kind": "event", "type": "teleport", "event_id": "e", "user_id": "u", "item_id": "a", "ts": T}, "'teleport'"),
        ({"kind": "event", "type": "view", "event_id": "e", "item_id": "a", "ts": T}, "needs a user_id"),
        ({"kind": "item", "ts": T}, "needs an item_id"),
        ({"kind": "item", "item_id": "a", "fields": [1], "ts": T}, "fields must be an object"),
        ({"kind": "query", "query_id": "q", "user_id": "u", "ts": T, "top": 3}, "top"),
        ({"kind": "query", "query_id": "q", "user_id": "u", "ts": T, "k": 0}, "k must be 1 or more, got 0"),
    ],
)
def test_a_bad_line_is_named_with_what_was_got(tmp_path: Path, line: dict[str, Any] | str, reason: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(stream(bought("tea"), "", line).getvalue())
    with pytest.raises(BadInput, match=reason) as caught:
        list(read(path))
    assert f"{path}, line 3: " in str(caught.value)


def test_a_broken_gzip_file_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress(stream(*[bought(str(n)) for n in range(500)]).getvalue())[:-20])
    with pytest.raises(BadInput, match="gzip"):
        list(read(path))


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no recorded stream"):
        list(read(tmp_path / "none.jsonl"))


def test_text_files_can_be_read_too() -> None:
    assert len(list(read(io.StringIO(json.dumps(bought("tea")) + "\n")))) == 1


ids = st.text('abcé"\\\n', min_size=1, max_size=5)
lines_of = st.builds(Line, item_id=ids, quantity=st.floats(0.5, 9), price=st.none() | st.floats(0, 99))
events = st.builds(
    Event,
    name=st.just("purchase"),
    event_id=ids,
    ts=st.just(T),
    user_id=st.none() | ids,
    visitor_id=ids,
    items=st.lists(lines_of, min_size=1, max_size=3).map(tuple),
    currency=st.just("EUR"),
    transaction_id=ids,
    attributes=st.none() | st.just({"till": 3}),
)
items = st.builds(
    ItemChange,
    item_id=ids,
    ts=st.just(T),
    title=ids,
    price=st.none() | st.floats(0, 99),
    categories=st.just(("A > B",)),
    attributes=st.just({"hue": 3.0, "tags": ["x"]}),
)
queries = st.builds(
    Query, query_id=ids, ts=st.just(T), shopper=ids, k=st.integers(1, 9), items=st.none() | st.just(("a",))
)


@given(st.lists(events | items | queries, max_size=8))
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Event | ItemChange | Query]
) -> None:
    path = tmp_path_factory.mktemp("written") / "s.jsonl.gz"
    counts = write(path, entries)
    assert list(read(path)) == entries
    assert sum(counts.values()) == len(entries)


def test_writing_refuses_to_go_back_in_time_and_leaves_no_file(tmp_path: Path) -> None:
    late, early = Query(query_id="a", ts=T, shopper="u"), Query(query_id="b", ts=T - 1, shopper="u")
    with pytest.raises(BadInput, match="entry 2"):
        write(tmp_path / "s.jsonl", [late, early])
    assert not (tmp_path / "s.jsonl").exists()


def test_the_span_counts_lines_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    query = {"kind": "query", "query_id": "q", "user_id": "ida", "ts": T + 9}
    path.write_bytes(stream({"kind": "item", "item_id": "a", "ts": T - 5}, bought("a"), bought("b"), query).getvalue())
    found = span(path)
    assert (found.first, found.last, dict(found.counts)) == (T - 5, T + 9, {"item": 1, "event": 2, "query": 1})


def test_an_empty_stream_has_no_span(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="empty"):
        span(tmp_path / "s.jsonl")


def test_the_first_line_of_a_kind_is_found_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text('{"kind": "item", "ts": 1}\n\n{"kind": "query", "ts": 2}\n{"kind": "query", "ts": 3}\nnot JSON\n')
    assert (first_of(path, "item"), first_of(path, "query")) == (1, 2)
    with pytest.raises(BadInput, match="line 5: wanted an object with kind and ts"):
        first_of(path, "event")


def test_a_kind_that_no_line_has_is_found_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text('{"kind": "item", "ts": 1}\n')
    assert first_of(path, "query") is None


def test_the_nth_newest_moment_before_a_time_is_found(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    times = (10, 20, 20, 30, 40, 50)
    path.write_text("".join(f'{{"kind": "event", "ts": {ts}}}\n{{"kind": "item", "ts": {ts}}}\n' for ts in times))
    assert moment_before(path, "event", 50, 1) == 40
    assert moment_before(path, "event", 50, 3) == 20, "lines of one time are one moment"
    assert moment_before(path, "event", 50, 4) == 10
    assert moment_before(path, "event", 50, 5) is None
    assert moment_before(path, "query", 50, 1) is None
