"""Data files as frames with our own column names: csv, parquet and jsonl, read in batches.

A frame has, beside the mapped columns, `#row` (from 1, the header not counted), `#flaw` (why the
row cannot be read, else null) and `ts` (ms since 1970, null where the row has none).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import polars as pl

from core.errors import BadInput, Missing

_FORMATS: Final = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_NO_FLAW: Final = pl.lit(None, pl.String).alias("#flaw")
JSON_MARK: Final = "\0"  # stands before a cell that holds JSON, not text
_MORE: Final = "#more"  # takes what stands behind the last column of a csv header


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is to be read.

    `columns` maps our names (fields of an event or item, `item_id`, `attributes.<name>`) to the
    table's; a column that has our name already needs no entry. `defaults` stand in for what a row lacks.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""  # csv, parquet or jsonl; "" goes by the file's name
    time_format: str = ""  # as strptime has it; "" takes ISO 8601 and numbers since 1970 (s, ms, µs or ns by size)
    time_zone: str = "UTC"  # of times that name none


def open_table(path: Path, layout: Layout, names: Sequence[str]) -> pl.LazyFrame:
    """The table with those of `names` and of the layout's that it has.

    Raises:
        BadInput: a column that is not there, a name that is not ours, an unknown format or time zone.
        Missing: there is no such file.
    """
    if not path.is_file():
        raise Missing(f"no file at {path}")
    columns = {name: layout.columns.get(name, name) for name in (*names, *layout.columns)}
    for name in columns:
        if name not in names and not name.startswith("attributes."):
            raise BadInput(f"cannot map {name!r}; there are {', '.join(names)} and attributes.<name>")
    try:
        return _renamed(_scan(path, layout.format, sorted(set(columns.values()))), columns, layout)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def _scan(path: Path, form: str, wanted: Sequence[str]) -> pl.LazyFrame:
    form = form or _FORMATS.get(_suffix(path), "")
    if form == "csv":
        return _csv(path)
    if form == "parquet":
        return pl.scan_parquet(path).with_row_index("#row", offset=1).with_columns(_NO_FLAW)
    if form == "jsonl":
        return _jsonl(path, wanted)
    raise BadInput(f"format must be csv, parquet or jsonl, got {form or path.name!r}")


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _csv(path: Path) -> pl.LazyFrame:
    """Everything as text: "007" stays an id. A row with more fields than the header has a flaw."""
    separator = _separator(path)
    names = pl.scan_csv(
        path, separator=separator, infer_schema=False, n_rows=1, truncate_ragged_lines=True
    ).collect_schema()
    frame = pl.scan_csv(
        path,
        separator=separator,
        schema=dict.fromkeys((*names, _MORE), pl.String),
        missing_columns="insert",
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        row_index_name="#row",
        row_index_offset=1,
    )
    flaw = pl.when(pl.col(_MORE).is_not_null()).then(pl.lit(f"more fields than the {len(names)} of the header"))
    return frame.with_columns(flaw.alias("#flaw")).drop(_MORE)


def _separator(path: Path) -> str:
    header = pl.scan_lines(path, name="line", n_rows=1).collect()["line"]
    if header.is_empty():
        raise BadInput(f"{path} is empty; wanted a header")
    return max(",;\t|", key=header[0].count)


def _jsonl(path: Path, wanted: Sequence[str]) -> pl.LazyFrame:
    """One object a line; texts as they are and other values as marked JSON, so that a column may hold anything."""
    struct = pl.Struct(dict.fromkeys((*wanted, "#flaw"), pl.String))

    def decoded(lines: pl.Series) -> pl.Series:
        return pl.Series([_texts(line, wanted) for line in lines], dtype=struct)

    frame = pl.scan_lines(path, name="#line", row_index_name="#row", row_index_offset=1)
    objects = pl.col("#line").map_batches(decoded, return_dtype=struct, is_elementwise=True)
    return frame.select("#row", objects.alias("#object")).unnest("#object")


def _texts(line: str, wanted: Sequence[str]) -> dict[str, str]:
    if not line.strip():
        return {}
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return {"#flaw": f"not JSON: {error}"}
    if not isinstance(raw, dict):
        return {"#flaw": f"a row is a JSON object, got {type(raw).__name__}"}
    return {name: _text(raw[name]) for name in wanted if raw.get(name) is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else JSON_MARK + msgspec.json.encode(value).decode()


def _renamed(frame: pl.LazyFrame, columns: Mapping[str, str], layout: Layout) -> pl.LazyFrame:
    schema = frame.collect_schema()
    for name, column in layout.columns.items():
        if column not in schema:
            raise BadInput(f"no column {column!r} for {name}; there are {', '.join(c for c in schema if c[0] != '#')}")
    chosen = {name: pl.col(column) for name, column in columns.items() if column in schema}
    frame = frame.select("#row", "#flaw", **chosen)
    if "ts" not in chosen:
        return frame.with_columns(pl.lit(layout.defaults.get("ts"), pl.Int64).alias("ts"))
    time = milliseconds(schema[columns["ts"]], layout.time_format, layout.time_zone)
    unreadable = pl.col("ts").is_not_null() & time.is_null() & pl.col("#flaw").is_null()
    flaw = pl.format("not a time: {}", pl.col("ts").cast(pl.String, strict=False).str.strip_chars(JSON_MARK))
    return frame.with_columns(
        pl.when(unreadable).then(flaw).otherwise(pl.col("#flaw")).alias("#flaw"),
        time.fill_null(pl.lit(layout.defaults.get("ts"), pl.Int64)).alias("ts"),
    )


def milliseconds(dtype: pl.DataType, time_format: str = "", time_zone: str = "UTC") -> pl.Expr:
    """The column `ts`, of whatever type, as ms since 1970; null where it is no time."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadInput(f"unknown time zone {time_zone!r}; wanted a name such as Europe/London") from None
    if isinstance(dtype, pl.Date):
        return _of_day_and_hour(pl.col("ts").cast(pl.Datetime("ms")), time_zone)
    if isinstance(dtype, pl.Datetime):
        return pl.col("ts").dt.epoch("ms") if dtype.time_zone else _of_day_and_hour(pl.col("ts"), time_zone)
    if dtype.is_numeric():
        return _of_number(pl.col("ts"))
    text = pl.col("ts").cast(pl.String, strict=False).str.strip_chars(JSON_MARK + " ")
    if time_format:
        moment = text.str.to_datetime(time_format, time_unit="ms", strict=False)
        return moment.dt.epoch("ms") if "%z" in time_format else _of_day_and_hour(moment, time_zone)
    iso = text.map_batches(
        lambda texts: pl.Series([_of_iso(one, zone) for one in texts], dtype=pl.Int64),
        return_dtype=pl.Int64,
        is_elementwise=True,
    )
    return pl.coalesce(_of_number(text.cast(pl.Float64, strict=False)), iso)


def _of_day_and_hour(moment: pl.Expr, time_zone: str) -> pl.Expr:
    return moment.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null").dt.epoch("ms")


def _of_number(number: pl.Expr) -> pl.Expr:
    """Seconds, ms, µs or ns since 1970, told apart by size: right from 1973 to 5138."""
    scaled = pl.when(number < 1e11).then(number * 1000).when(number < 1e14).then(number)
    return scaled.when(number < 1e17).then(number / 1e3).otherwise(number / 1e6).cast(pl.Int64, strict=False)


@lru_cache(maxsize=100_000)
def _of_iso(text: str | None, zone: ZoneInfo) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
