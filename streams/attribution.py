"""The attribution step: what was shown, and what followed within the window.

Reads decisions, clickstream and feedback, keyed by shopper; emits `labelled`. An act that names
a recommendation belongs to it, and to nothing when that is not open; any other belongs to the
newest open list that held the item, and where none did, to the newest list as something it missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.decision import Attribution, Label, Open
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

    An event id that was attributed before changes nothing.
    """
    window_ms = settings.window_s * 1000.0
    if isinstance(message, Served):
        return _open(state, message, settings.open, window_ms), ()
    outcome = OUTCOME_OF.get(message.name)
    if outcome is None or not state.open:
        return state, ()
    live = [one for one in state.open if 0 <= message.ts - one.ts <= window_ms]
    if message.recommendation_id:
        live = [one for one in live if one.recommendation_id == message.recommendation_id]
    mark = signed64(message.event_id) if live else 0
    if not live or mark in state.seen:
        return state, ()
    items = dict.fromkeys(line.item_id for line in message.items)
    outputs = [_label(_holder(live, item), item, outcome, message) for item in items]
    return Attribution(1, state.open, (*state.seen, mark)[-SEEN:]), outputs


def _open(state: Attribution, served: Served, most: int, window_ms: float) -> Attribution:
    if any(one.recommendation_id == served.recommendation_id for one in state.open):
        return state
    live = [one for one in state.open if served.ts - one.ts <= window_ms]
    live.append(Open(served.recommendation_id, served.ts, served.items))
    live.sort(key=lambda one: one.ts)
    return Attribution(1, tuple(live[-most:]), state.seen)


def _holder(live: Sequence[Open], item: str) -> Open:
    """The newest list that held the item, or else the newest of all."""
    return next((one for one in reversed(live) if item in one.items), live[-1])


def _label(to: Open, item: str, outcome: str, event: Event) -> Output:
    label = Label(1, to.recommendation_id, item, outcome, event.ts, event.ts - to.ts, item in to.items)
    return Output("labelled", event.shopper, label)
