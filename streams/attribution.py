"""The attribution step: what was shown, and what followed within the window.

Reads decisions, clickstream and feedback, keyed by shopper; emits `labelled`. An act that names
a recommendation belongs to it, and to nothing when that is not open; any other belongs to the
newest open list that held the item, and where none did, to the newest list as something it missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.decision import Attribution, Early, Label, Open
from core.events import Event
from core.ids import signed64
from core.settings import AttributionSettings
from streams.profile import Output

OUTCOME_OF: Final = {
    "select_item": "click",
    "view_item": "view",
    "add_to_wishlist": "wish",
    "add_to_cart": "cart",
    "purchase": "buy",
    "like": "like",
    "dislike": "dislike",
    "hide": "hide",
}
SEEN: Final = 64  # ids of attributed acts that are recognised when they come again


class Served(msgspec.Struct, frozen=True, array_like=True):
    """The part of a decision that attribution needs: a record of `decisions` as the step reads it."""

    recommendation_id: str
    ts: int
    shopper: str
    items: tuple[str, ...]


def attribute(
    state: Attribution, message: Event | Served, settings: AttributionSettings
) -> tuple[Attribution, Sequence[Output]]:
    """The open lists after a message, and a label for each item of an act that follows one of them.

    An event id that was attributed before changes nothing. An act that names a list which comes
    only later waits for it.
    """
    window_ms = settings.window_s * 1000.0
    if isinstance(message, Served):
        return _open(state, message, settings.open, window_ms)
    outcome = OUTCOME_OF.get(message.name)
    named = message.recommendation_id
    if outcome is None or not (state.open or named):
        return state, ()
    mark = signed64(message.event_id)
    if mark in state.seen:
        return state, ()
    items = tuple(dict.fromkeys(line.item_id for line in message.items))
    if named and all(one.recommendation_id != named for one in state.open):
        return _wait(state, Early(named, mark, message.ts, outcome, items), settings.open), ()
    live = [one for one in state.open if 0 <= message.ts - one.ts <= window_ms]
    live = [one for one in live if one.recommendation_id == named] if named else live
    if not live:
        return state, ()
    outputs = [_label(_holder(live, item), item, outcome, message.ts, message.shopper) for item in items]
    return msgspec.structs.replace(state, seen=(*state.seen, mark)[-SEEN:]), outputs


def _wait(state: Attribution, early: Early, most: int) -> Attribution:
    if any(one.mark == early.mark for one in state.early):
        return state
    return msgspec.structs.replace(state, early=(*state.early, early)[-most:])


def _open(state: Attribution, served: Served, most: int, window_ms: float) -> tuple[Attribution, Sequence[Output]]:
    """The list among the open ones, and labels of the acts that have waited for it."""
    if any(one.recommendation_id == served.recommendation_id for one in state.open):
        return state, ()
    opened = Open(served.recommendation_id, served.ts, served.items)
    live = [one for one in state.open if served.ts - one.ts <= window_ms]
    live = sorted((*live, opened), key=lambda one: one.ts)
    came = [one for one in state.early if one.recommendation_id == served.recommendation_id]
    early = tuple([one for one in state.early if one not in came and served.ts - one.ts <= window_ms])
    due = [one for one in came if 0 <= one.ts - served.ts <= window_ms]
    seen = (*state.seen, *(one.mark for one in due))[-SEEN:]
    outputs = [_label(opened, item, one.outcome, one.ts, served.shopper) for one in due for item in one.items]
    return Attribution(1, tuple(live[-most:]), seen, early), outputs


def _holder(live: Sequence[Open], item: str) -> Open:
    """The newest list that held the item, or else the newest of all."""
    return next((one for one in reversed(live) if item in one.items), live[-1])


def _label(to: Open, item: str, outcome: str, ts: int, shopper: str) -> Output:
    return Output("labelled", shopper, Label(1, to.recommendation_id, item, outcome, ts, ts - to.ts, item in to.items))
