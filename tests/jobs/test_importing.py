import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import ItemChange
from core.errors import BadInput, Missing
from core.events import Event, Line
from jobs.importing import Layout, Refusals, in_order, read_events, read_items, to_stream
from streams.recorded import read

MONDAY = 1_577_923_200_000  # 2020-01-02T00:00:00Z
SALES = {"user_id": "Customer", "item_id": "Code", "ts": "When", "transaction_id": "Invoice", "price": "Price"}
SALE = {"name": "purchase", "currency": "GBP"}


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def events(path: Path, layout: Layout) -> tuple[list[Event], Refusals]:
    refused = Refusals()
    return list(read_events(path, layout, refused)), refused


def items(path: Path, layout: Layout) -> tuple[list[ItemChange], Refusals]:
    refused = Refusals()
    return list(read_items(path, layout, refused)), refused


def test_rows_of_an_invoice_make_one_purchase_at_its_first_moment(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "s.csv",
        "Invoice,Code,Customer,When,Price,Pieces",
        "7,tea,ida,2020-01-02T00:05:00,3.0,1",
        "8,cup,bo,2020-01-02T00:01:00,2,1",
        "7,cup,ida,2020-01-02T00:00:00,2.5,4",
        "7,tea,ida,2020-01-02T00:05:00,4.0,3",
    )
    found, refused = events(path, Layout(SALES | {"quantity": "Pieces"}, SALE))
    assert refused.count == 0
    assert [(event.ts, event.user_id, event.transaction_id) for event in found] == [
        (MONDAY, "ida", "7"),
        (MONDAY + 60_000, "bo", "8"),
    ]
    assert sorted(found[0].items, key=lambda line: line.item_id) == [Line("cup", 4.0, 2.5), Line("tea", 4.0, 3.75)]
    assert found[0].currency == "GBP"


def test_bad_rows_are_refused_with_their_number_and_the_rest_is_taken(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "s.csv",
        "Invoice,Code,Customer,When,Price",
        "7,tea,ida,2020-01-02,3",
        "7,cup,ida,2020-01-02,dear",
        "7,,ida,2020-01-02,3",
        "8,tea,,2020-01-02,3",
        "9,tea,bo,yesterday,3",
        "9,tea,bo,2020-01-02,3,extra",
        "7,pot,ida,2020-01-02,-3",
        "7,urn,ida,2020-01-02,30",
        ",,,,",
    )
    found, refused = events(path, Layout(SALES, SALE))
    assert [[line.item_id for line in event.items] for event in found] == [["tea", "urn"]]
    reasons = {refusal.row: refusal.reason for refusal in refused.first}
    assert refused.count == len(reasons) == 6
    wanted = {2: "got 'dear'", 3: "item_id", 4: "user_id", 5: "yesterday", 6: "more fields", 7: "0 or more"}
    assert {row: part in reasons[row] for row, part in wanted.items()} == dict.fromkeys(wanted, True)


def test_only_the_first_refusals_are_kept_but_all_are_counted(tmp_path: Path) -> None:
    path = csv(tmp_path / "s.csv", "Invoice,Code,Customer,When,Price", *["7,tea,ida,never,3"] * 150)
    found, refused = events(path, Layout(SALES, SALE))
    assert (found, refused.count, len(refused.first)) == ([], 150, 100)


def test_views_stay_apart_and_come_in_time_order(tmp_path: Path) -> None:
    path = csv(tmp_path / "v.csv", "ts,visitor_id,item_id", f"{MONDAY + 5},v,b", f"{MONDAY},v,a", f"{MONDAY + 5},v,c")
    found, _ = events(path, Layout(defaults={"name": "view_item"}))
    assert [(event.ts - MONDAY, event.items[0].item_id) for event in found] == [(0, "a"), (5, "b"), (5, "c")]
    assert len({event.event_id for event in found}) == 3


def test_importing_again_gives_the_same_ids_whatever_the_order_of_invoices(tmp_path: Path) -> None:
    rows = ["7,tea,ida,2020-01-02,3", "8,cup,bo,2020-01-02,2"]
    header = "Invoice,Code,Customer,When,Price"
    one, _ = events(csv(tmp_path / "1.csv", header, *rows), Layout(SALES, SALE))
    two, _ = events(csv(tmp_path / "2.csv", header, *reversed(rows)), Layout(SALES, SALE))
    assert one == two
    assert len({event.event_id for event in one}) == 2


def test_an_id_with_leading_zeros_stays_as_it_is(tmp_path: Path) -> None:
    path = csv(tmp_path / "v.csv", "ts,user_id,item_id", f"{MONDAY},0017,007")
    (event,), _ = events(path, Layout(defaults={"name": "view_item"}))
    assert (event.user_id, event.items[0].item_id) == ("0017", "007")


def test_a_refund_keeps_its_own_time_under_the_number_of_the_purchase(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "s.csv",
        "name,transaction_id,item_id,user_id,ts,currency",
        f"refund,7,tea,ida,{MONDAY + 9},EUR",
        f"purchase,7,tea,ida,{MONDAY},EUR",
    )
    found, _ = events(path, Layout())
    assert [(event.name, event.ts - MONDAY) for event in found] == [("purchase", 0), ("refund", 9)]


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("2020-01-02T00:00:00Z", Layout()),
        ("2020-01-02 00:00:00", Layout()),
        ("2020-01-02T01:00:00+01:00", Layout()),
        ("2020-01-02 01:00", Layout(time_zone="Europe/Berlin")),
        ("1/2/2020 0:00", Layout(time_format="%m/%d/%Y %H:%M")),
        ("1/2/2020 1:00", Layout(time_format="%m/%d/%Y %H:%M", time_zone="Europe/Berlin")),
        ("2020-01-02 01:00 +0100", Layout(time_format="%Y-%m-%d %H:%M %z")),
        ("1577923200", Layout()),
        ("1577923200.0", Layout()),
        ("1577923200000", Layout()),
        ("1577923200000000", Layout()),
        ("1577923200000000000", Layout()),
    ],
)
def test_times_in_many_ways_of_writing(tmp_path: Path, text: str, layout: Layout) -> None:
    path = csv(tmp_path / "v.csv", "When,user_id,item_id", f"{text},u,a")
    wanted = Layout({"ts": "When"}, {"name": "view_item"}, "", layout.time_format, layout.time_zone)
    found, refused = events(path, wanted)
    assert refused.first == []
    assert found[0].ts == MONDAY


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    rows = {"Customer": [17850.0, None], "Code": [85123, 1], "Invoice": ["7", "8"], "Price": [2.55, 1.0]}
    frame = pl.DataFrame(rows | {"When": [MONDAY] * 2})
    frame.with_columns(pl.from_epoch("When", "ms")).write_parquet(path)
    (event,), refused = events(path, Layout(SALES, SALE))
    assert (event.user_id, event.ts, event.items) == ("17850", MONDAY, (Line("85123", 1.0, 2.55),))
    assert [refusal.row for refusal in refused.first] == [2]


def test_lines_of_json_may_mix_types_and_be_broken(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"uid": 17, "sku": "007", "at": "2020-01-02", "colour": ["red", "blue"], "size": 4},
        {"uid": "ida", "sku": 8, "at": MONDAY + 1, "colour": "red"},
        [1],
        {"uid": "ida", "at": MONDAY},
    ]
    path = csv(tmp_path / "v.jsonl", *map(json.dumps, rows), "{", "")
    names = {"user_id": "uid", "item_id": "sku", "ts": "at", "attributes.colour": "colour", "attributes.size": "size"}
    found, refused = events(path, Layout(names, {"name": "view_item"}))
    assert [(event.user_id, event.items[0].item_id, event.attributes) for event in found] == [
        ("17", "007", {"colour": ["red", "blue"], "size": 4}),
        ("ida", "8", {"colour": "red"}),
    ]
    assert sorted((refusal.row, refusal.reason[:8]) for refusal in refused.first) == [
        (3, "a row is"),
        (4, "view_ite"),
        (5, "not JSON"),
    ]


def test_an_item_is_told_at_its_first_row_and_when_it_changes(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "i.csv",
        "sku;name;cat;price;stock;ts",
        f"a;Tea;Drinks > Tea;3;yes;{MONDAY + 2}",
        f"a;Tea;Drinks > Tea;3;yes;{MONDAY}",
        f"a;Tea;Drinks > Tea;2;no;{MONDAY + 9}",
        f'b;"Cup; blue";["Kitchen > Cups", "Gifts"];;true;{MONDAY + 1}',
    )
    names = {"item_id": "sku", "title": "name", "categories": "cat", "in_stock": "stock"}
    found, refused = items(path, Layout(names))
    assert refused.count == 0
    assert found == [
        ItemChange(item_id="a", ts=MONDAY, title="Tea", categories=("Drinks > Tea",), price=3.0, in_stock=True),
        ItemChange(
            item_id="b", ts=MONDAY + 1, title="Cup; blue", categories=("Kitchen > Cups", "Gifts"), in_stock=True
        ),
        ItemChange(item_id="a", ts=MONDAY + 9, title="Tea", categories=("Drinks > Tea",), price=2.0, in_stock=False),
    ]


def test_items_without_a_time_take_the_default(tmp_path: Path) -> None:
    path = csv(tmp_path / "i.tsv", "item_id\ttitle", "a\tTea")
    found, _ = items(path, Layout(defaults={"ts": MONDAY}))
    assert found == [ItemChange(item_id="a", ts=MONDAY, title="Tea")]


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout({"user_id": "Kunde"}), "no column 'Kunde' for user_id; there are Invoice, Code"),
        (Layout({"userid": "Code"}), "cannot map 'userid'"),
        (Layout(format="xls"), "csv, parquet or jsonl, got 'xls'"),
        (Layout({"ts": "When"}, time_zone="Mars/Base"), "Mars/Base"),
        (Layout(format="parquet"), "cannot read"),
    ],
)
def test_a_wrong_layout_is_told_before_any_row(tmp_path: Path, layout: Layout, reason: str) -> None:
    path = csv(tmp_path / "s.csv", "Invoice,Code,When", "7,tea,2020-01-02")
    with pytest.raises(BadInput, match=reason):
        events(path, layout)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no file at"):
        events(tmp_path / "none.csv", Layout())


def test_an_empty_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "s.csv").touch()
    with pytest.raises(BadInput):
        events(tmp_path / "s.csv", Layout())


def test_items_come_before_events_of_the_same_moment_in_the_stream(tmp_path: Path) -> None:
    item = ItemChange(item_id="a", ts=MONDAY, title="Tea")
    event = Event(name="view_item", event_id="e", ts=MONDAY, user_id="u", items=(Line("a"),))
    counts = to_stream(in_order([item], [event]), tmp_path / "s.jsonl")
    assert list(read(tmp_path / "s.jsonl")) == [item, event]
    assert counts == {"item": 1, "event": 1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 50)), max_size=30))
def test_no_piece_is_lost_or_added(tmp_path_factory: pytest.TempPathFactory, sales: list[tuple[int, int, int]]) -> None:
    path = tmp_path_factory.mktemp("sales") / "s.csv"
    rows = [f"{invoice},item{item},u{invoice},{MONDAY + late},1" for invoice, item, late in sales]
    found, refused = events(csv(path, "Invoice,Code,Customer,When,Price", *rows), Layout(SALES, SALE))
    assert refused.count == 0
    assert sum(line.quantity for event in found for line in event.items) == len(sales)
    assert len(found) == len({invoice for invoice, _, _ in sales})
    assert [event.ts for event in found] == sorted(event.ts for event in found)
