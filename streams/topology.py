"""Which step reads which topic, by which key, and where its outputs go. Both drivers walk this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from core.catalogue import Item
from core.decision import Attribution, Label
from core.profile import NOBODY, Profile
from core.settings import Settings
from core.stats import ItemStats, Neighbours, Signal
from streams import attribution, catalogue, neighbours, popularity, profile
from streams.profile import Limits, Output

SOURCES: Final = ("clickstream", "feedback", "items", "decisions")  # written from outside, in JSON
DERIVED: Final = {"identity": profile.Link | profile.Absorb, "item-signals": Signal, "labelled": Label}
SERVING: Final = {
    "profiles": Profile,
    "item-stats": ItemStats,
    "item-neighbours": Neighbours,
    "catalogue": Item,
}


Step = Callable[[Any, Any], tuple[Any, Sequence[Output]]]


class Stage(NamedTuple):
    """A step at work: its table holds one state a key, and `serve` makes of a state what gateways read."""

    name: str
    reads: frozenset[str]
    step: Step
    empty: Any
    publishes: str = ""  # a topic of SERVING, or "" for a state nobody else reads
    serve: Callable[[Any], Any] = lambda state: state
    hears: Callable[[Any], bool] = lambda message: True  # False: whatever the state, it is no business of this step


def build(settings: Settings) -> tuple[Stage, ...]:
    """The stages, in the order in which one message visits them."""
    limits = Limits(settings.profile, settings.neighbours)
    half_lives = popularity.half_lives_ms(settings.popularity)
    return (
        Stage(
            "attribution",
            frozenset({"decisions", "clickstream", "feedback"}),
            lambda state, message: attribution.attribute(state, message, settings.attribution),
            Attribution(),
        ),
        Stage(
            "profile",
            frozenset({"clickstream", "feedback", "identity"}),
            lambda state, message: profile.observe(state, message, limits),
            NOBODY,
            "profiles",
        ),
        Stage("catalogue", frozenset({"items"}), catalogue.upsert, catalogue.Entry(), "catalogue", lambda s: s.item),
        Stage(
            "popularity",
            frozenset({"items", "item-signals"}),
            lambda state, message: popularity.count(state, message, half_lives),
            ItemStats(),
            "item-stats",
            hears=popularity.hears,
        ),
        Stage(
            "neighbours",
            frozenset({"item-signals"}),
            lambda state, message: neighbours.meet(state, message, settings.neighbours),
            Neighbours(),
            "item-neighbours",
            hears=neighbours.hears,
        ),
    )


STATE_TYPES: Final = {
    "attribution": Attribution,
    "profile": Profile,
    "catalogue": catalogue.Entry,
    "popularity": ItemStats,
    "neighbours": Neighbours,
}
