from __future__ import annotations

from pathlib import Path

import pytest

from core.catalogue import ItemChange
from core.events import Event
from core.settings import load
from streams.log import EmbeddedLog
from streams.messages import messages
from streams.recorded import read
from streams.topology import SOURCES
from tests.cli.conftest import Run

EVENTS = """\
when,what,who,product,price,order
2024-03-01T10:00:00Z,view_item,ida,tea-1,,
2024-03-01T10:02:00Z,purchase,ida,tea-1,4.50,o1
2024-03-01T10:02:00Z,purchase,ida,tea-2,3.00,o1
2024-03-02T09:00:00Z,vieuw_item,ida,tea-2,,
yesterday,view_item,ida,tea-2,,
"""
ITEMS = """\
item_id,ts,title,category,price
tea-1,1700000000,Green tea,Tea > Green,4.5
tea-2,1700000000,Black tea,Tea > Black,3.0
"""
MAPPED = ("--map", "ts=when", "name=what", "user_id=who", "item_id=product", "transaction_id=order")
ARGUMENTS = (*MAPPED, "--set", "currency=EUR")


@pytest.fixture(autouse=True)
def _files(folder: Path) -> None:
    (folder / "events.csv").write_text(EVENTS)
    (folder / "items.csv").write_text(ITEMS)


def logged() -> list[object]:
    log = EmbeddedLog.open(load().log)
    try:
        return [message for entry in log.read_all(SOURCES, {}, 1_000) for message in messages(entry)]
    finally:
        log.close()


def test_a_table_of_events_comes_into_the_log(headwater: Run) -> None:
    code, said, _ = headwater("import", "events.csv", *ARGUMENTS)
    assert code == 0
    assert said.splitlines() == [
        "data/log.sqlite: 2 events, 0 item changes; 0 were there",
        "refused: 2 rows",
        "    row 5: not a time: yesterday",
        "    row 4: unknown event name 'vieuw_item'; known names are view_item_list, select_item, view_item, "
        "add_to_cart, remove_from_cart, add_to_wishlist, begin_checkout, purchase, refund, search, rating, like, "
        "dislike, hide, satisfaction",
    ]
    view, sale = logged()
    assert isinstance(view, Event)
    assert isinstance(sale, Event)
    assert (view.name, view.shopper, view.items[0].item_id) == ("view_item", "ida", "tea-1")
    assert [(line.item_id, line.price) for line in sale.items] == [("tea-1", 4.5), ("tea-2", 3.0)]


def test_what_was_imported_before_is_not_taken_again(headwater: Run) -> None:
    headwater("import", "events.csv", *ARGUMENTS)
    headwater("import", "items.csv", "--kind", "items")
    before = logged()
    _, events, _ = headwater("import", "events.csv", *ARGUMENTS)
    _, items, _ = headwater("import", "items.csv", "--kind", "items")
    assert "0 events, 0 item changes; 2 were there" in events
    assert "0 events, 0 item changes; 2 were there" in items
    assert logged() == before
    assert len(before) == 4


def test_a_catalogue_without_times_was_always_there(headwater: Run, folder: Path) -> None:
    (folder / "plain.csv").write_text("item_id,title\ntea-1,Green tea\n")
    assert "0 events, 1 item changes" in headwater("import", "plain.csv", "--kind", "items", "--set", "price=2")[1]
    (change,) = logged()
    assert isinstance(change, ItemChange)
    assert (change.ts, change.price) == (0, 2.0)


def test_values_may_be_times(headwater: Run, folder: Path) -> None:
    (folder / "plain.csv").write_text("item_id,user_id\ntea-1,ida\n")
    headwater("import", "plain.csv", "--set", "name=like", "ts=2024-03-01T10:00:00Z")
    (event,) = logged()
    assert isinstance(event, Event)
    assert event.ts == 1_709_287_200_000
    code, _, errors = headwater("import", "plain.csv", "--set", "ts=soon")
    assert (code, errors) == (2, "headwater: --set: wanted a time such as 2011-10-01T08:00:00Z, got 'soon'\n")


def test_many_refused_rows_are_told_by_their_number(headwater: Run, folder: Path) -> None:
    (folder / "bad.csv").write_text("name,user_id,item_id,ts\n" + "bake,u,i,1700000000\n" * 9)
    _, said, _ = headwater("import", "bad.csv")
    lines = said.splitlines()
    assert lines[1] == "refused: 9 rows"
    assert [line.split(":")[0] for line in lines[2:7]] == [f"    row {n}" for n in range(1, 6)]
    assert lines[7:] == ["    and 4 more"]


def test_a_table_can_become_a_recorded_stream_and_that_can_be_imported(headwater: Run, folder: Path) -> None:
    code, said, _ = headwater("import", "events.csv", *ARGUMENTS, "--to-stream", "out.jsonl")
    assert code == 0
    assert said.startswith("out.jsonl: 2 events, 0 item changes\n")
    assert not (folder / "data").exists()
    entries = list(read(folder / "out.jsonl"))
    _, said, _ = headwater("import", "out.jsonl", "--format", "stream")
    assert "2 events, 0 item changes; 0 were there" in said
    assert logged() == entries


def test_a_preset_says_whose_data_it_is_and_what_it_leaves_out(headwater: Run, folder: Path) -> None:
    (folder / "retail.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
        "536365,85123A,WHITE HEART,6,2010-12-01 08:26:00,2.55,17850\n"
        "536366,POST,POSTAGE,1,2010-12-01 08:28:00,18.00,12583\n"
    )
    _, said, _ = headwater("import", "retail.csv", "--preset", "online-retail")
    assert "1 events, 1 item changes" in said
    assert "left out, postage, fees or another line that is no product: 1 rows" in said
    assert "data: Chen, D. (2015). Online Retail." in said


def test_the_presets_are_listed_with_their_licences(headwater: Run) -> None:
    code, said, _ = headwater("import", "--list")
    assert code == 0
    assert "online-retail: " in said
    assert said.count("    licence: ") == said.count("\n") / 2
