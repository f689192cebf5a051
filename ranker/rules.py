"""Which items may be answered to a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from core.decision import Filters
from ranker.arrays import Rows
from ranker.context import Context
from ranker.live import Live


class Gate:
    """Says of item rows whether they pass. Made by `opened`, valid for one request."""

    def __init__(self, live: Live, filters: Filters, *, whole_catalogue: bool) -> None:
        self._live, self._filters, self._whole = live, filters, whole_catalogue
        self._within = self._members(filters.categories) if filters.categories else None

    def passes(self, rows: Rows) -> NDArray[np.bool_]:
        live, filters = self._live, self._filters
        mask = ~live.barred[rows]
        if not self._whole:
            return mask
        if live.has_catalogue:  # a shop that never sent a catalogue is served all the same
            mask &= live.sold[rows]
            if filters.in_stock:
                mask &= live.stock[rows]
        if self._within is not None:
            mask &= self._within[rows]
        if filters.price_min is not None:
            mask &= live.price[rows] >= filters.price_min
        if filters.price_max is not None:
            mask &= live.price[rows] <= filters.price_max
        if filters.brands or filters.attributes:
            for place in np.flatnonzero(mask):
                mask[place] = _fits(live.items[int(rows[place])], filters)
        return mask

    def all(self) -> Rows:
        """Every item that passes."""
        rows = np.arange(len(self._live), dtype=np.int64)
        return rows[self.passes(rows)]

    def _members(self, paths: tuple[str, ...]) -> NDArray[np.bool_]:
        within = np.zeros(len(self._live), bool)
        for path in paths:
            row = self._live.category_rows.get(path)
            if row is not None:
                within[self._live.members[row]] = True
        return within


def _fits(item: Item | None, filters: Filters) -> bool:
    if item is None or (filters.brands and item.brand not in filters.brands):
        return False
    for name, wanted in filters.attributes.items():
        value = item.attributes.get(name)
        if value is None:
            return False
        values = value if isinstance(value, list) else [_as_text(value)]
        if not any(one in wanted for one in values):
            return False
    return True


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


@contextmanager
def opened(ctx: Context, live: Live) -> Iterator[Gate]:
    """The gate of a request: its filters, what it excludes, and what the shopper hid."""
    request = ctx.request
    barred = [live.known_rows(request.exclude_items), live.known_rows(request.context_items)]
    if len(ctx.own):
        barred.append(ctx.own[ctx.column("hidden") > 0])
        if request.exclude_bought:
            barred.append(ctx.own[ctx.column("first_buy") > 0])
    rows = np.concatenate(barred)
    live.barred[rows] = True
    try:
        yield Gate(live, request.filters, whole_catalogue=request.items is None)
    finally:
        live.barred[rows] = False
