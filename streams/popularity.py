"""The popularity step: counters of every signal, per item and per category.

Reads item-signals, and items for the categories an item lies in; keyed by item. What it hears
of an item it tells the item's categories, under keys that no item can have, and counts there
in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.catalogue import ItemChange, path_and_parents
from core.settings import PopularitySettings
from core.stats import CATEGORY, ItemStats, Signal, observe
from streams.profile import Output

USES: Final = frozenset({"view", "click", "cart", "buy"})


def hears(message: Signal | ItemChange) -> bool:
    """Whether a message may change counters: most signals only tell of pairs."""
    return isinstance(message, ItemChange) or bool(message.signal)


def count(
    state: ItemStats, message: Signal | ItemChange, half_lives_ms: tuple[float, ...]
) -> tuple[ItemStats, Sequence[Output]]:
    """The counters after a signal, and the same signal for each category of the item."""
    if isinstance(message, ItemChange):
        return _place(state, message), ()
    if not hears(message):
        return state, ()
    name, ts = message.signal, message.ts
    counters = dict(state.counters)
    counters[name] = observe(counters.get(name), ts, message.weight, half_lives_ms)
    first, last, first_buy, last_buy = state.first, state.last, state.first_buy, state.last_buy
    if name in USES:
        first, last = min(first, ts) if first else ts, max(last, ts)
    if name == "buy":
        first_buy, last_buy = min(first_buy, ts) if first_buy else ts, max(last_buy, ts)
    price = message.price if message.price and (ts >= state.last or not state.price) else state.price
    after = ItemStats(1, counters, first, last, first_buy, last_buy, price, state.categories)
    return after, [_tell_category(path, message) for path in state.categories]


def half_lives_ms(settings: PopularitySettings) -> tuple[float, ...]:
    """The half-lives in ms, in the order of the counters."""
    return tuple([seconds * 1000.0 for seconds in settings.half_lives_s])


def _place(state: ItemStats, change: ItemChange) -> ItemStats:
    if change.removed or change.categories is msgspec.UNSET:
        return state
    paths = tuple({wider: None for path in change.categories for wider in path_and_parents(path)})
    return state if paths == state.categories else msgspec.structs.replace(state, categories=paths)


def _tell_category(path: str, signal: Signal) -> Output:
    key = CATEGORY + path
    return Output("item-signals", key, Signal(1, key, signal.signal, signal.ts, signal.weight, signal.price))
