"""The rows of a frame as JSON objects in our names, and a tally of those that were not taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
import polars as pl

from core.errors import BadInput
from jobs.tables import JSON_MARK

Row = tuple[int, dict[str, Any]]
Column = tuple[str, Callable[[Any], Any] | None]

_BATCH_ROWS: Final = 20_000
_NUMBERS: Final = frozenset({"quantity", "price", "value", "rating", "index"})
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NESTED: Final = frozenset({"items", "categories", "category"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not taken, counted from 1 without a header, and why."""

    row: int
    reason: str


@dataclass(slots=True)
class Refusals:
    """What an import did not take: rows that are wrong (the first hundred by name), and rows that a rule leaves out."""

    count: int = 0
    first: list[Refusal] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    kept: int = 100

    def add(self, row: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < self.kept:
            self.first.append(Refusal(row, reason))


def rows(frame: pl.LazyFrame, refused: Refusals, defaults: Mapping[str, Any]) -> Iterator[Row]:
    """Each readable row of a frame of `jobs.tables`, with its number; empty ones are passed over.

    Raises:
        BadInput: the file cannot be read any further.
    """
    schema = frame.collect_schema()
    columns = [(name, _reader(name, dtype)) for name, dtype in schema.items() if name not in ("#row", "#flaw")]
    try:
        for batch in frame.select("#row", "#flaw", *(name for name, _ in columns)).collect_batches(
            chunk_size=_BATCH_ROWS
        ):
            for number, flaw, *cells in batch.iter_rows():
                try:
                    raw = _object(columns, cells, flaw)
                except BadInput as reason:
                    refused.add(number, str(reason))
                    continue
                if raw.keys() - {"ts"}:
                    yield number, {**defaults, **raw}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"cannot read the table: {error}") from None


def _object(columns: list[Column], cells: list[Any], flaw: str | None) -> dict[str, Any]:
    if flaw is not None:
        raise BadInput(flaw)
    raw: dict[str, Any] = {}
    for (name, read), cell in zip(columns, cells, strict=True):
        if cell is None or cell == "":
            continue
        value = cell if read is None else read(cell)
        if name.startswith("attributes."):
            raw.setdefault("attributes", {})[name.removeprefix("attributes.")] = value
        else:
            raw[name] = value
    return raw


def _reader(name: str, dtype: pl.DataType) -> Callable[[Any], Any] | None:
    """How a cell of that column becomes what JSON would hold there; None where it is so already."""
    if isinstance(dtype, pl.String):
        return partial(_of_text, name)
    if name.endswith("_id") and dtype.is_float():
        return lambda cell: str(int(cell)) if cell.is_integer() else cell
    return None


def _of_text(name: str, text: str) -> Any:
    if text[0] == JSON_MARK:
        return msgspec.json.decode(text[1:])
    if name in _NUMBERS:
        try:
            return int(text) if name == "index" else float(text)
        except ValueError:
            raise BadInput(f"{name} must be a number, got {text!r}") from None
    if name in ("in_stock", "removed"):
        return _FLAGS.get(text.strip().lower(), text)
    if text[0] in "[{" and (name in _NESTED or name.startswith("attributes.")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text.strip()
