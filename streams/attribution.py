"""The attribution step: what was shown, and what followed within the window.

Reads decisions, clickstream and feedback, keyed by shopper; emits `labelled`. An act that names
a recommendation belongs to it; any other belongs to the newest open list that held the item, and
where none did, to the newest list as something it missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.decision import Attribution, Label, Open
from core.events import Event
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


class Served(msgspec.Struct, frozen=True, array_like=True):
    """The part of a decision that attribution needs: a record of `decisions` as the step reads it."""

    recommendation_id: str
    ts: int
    shopper: str
    items: tuple[str, ...]


def attribute(state: Attribution, message: Event | Served, settings: AttributionSettings) -> tuple[Attribution, Sequence[Output]]:
    """The open lists after a message, and a label for each item of an act that follows one of them."""
    window_ms = settings.window_s * 1000.0
    if isinstance(message, Served):
        return _open(state, message, settings.open, window_ms), ()
    outcome = OUTCOME_OF.get(message.name)
    if outcome is None or not state.open:
        return state, ()
    live = [one for one in state.open if 0 <= message.ts - one.ts <= window_ms]
    outputs = []
    for line in message.items:
        target = _belongs_to(live, line.item_id, message.recommendation_id)
        if target is not None:
            outputs.append(_label(target, line.item_id, outcome, message))
    return state, outputs


def _open(state: Attribution, served: Served, most: int, window_ms: float) -> Attribution:
    if any(one.recommendation_id == served.recommendation_id for one in state.open):
        return state
    live = [one for one in state.open if served.ts - one.ts <= window_ms]
    live.append(Open(served.recommendation_id, served.ts, served.items))
    return Attribution(1, tuple(live[-most:]))


def _belongs_to(live: Sequence[Open], item: str, recommendation_id: str | None) -> Open | None:
    if recommendation_id:
        for one in live:
            if one.recommendation_id == recommendation_id:
                return one
    for one in reversed(live):
        if item in one.items:
            return one
    return live[-1] if live else None


def _label(to: Open, item: str, outcome: str, event: Event) -> Output:
    label = Label(1, to.recommendation_id, item, outcome, event.ts, event.ts - to.ts, item in to.items)
    return Output("labelled", event.shopper, label)
