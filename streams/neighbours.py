"""The neighbour step: which items are seen, carted and bought together.

Reads item-signals, keyed by item. Weights fade with one half-life; an item keeps its heaviest
neighbours. Kept scaled from an epoch of its own, so that adding a pair touches nothing else
(forward decay: Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming
Systems", ICDE 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.settings import NeighbourSettings
from core.stats import Circle, Neighbours, Signal
from streams.profile import Output

_HIGHEST: Final = 400.0  # half-lives after the epoch; 2 ** 1023 is the end of floats


def hears(message: Signal) -> bool:
    """Whether a signal names partners or a fresh appearance."""
    return bool(message.relation and (message.partners or message.fresh))


def meet(state: Neighbours, message: Signal, settings: NeighbourSettings) -> tuple[Neighbours, Sequence[Output]]:
    """The neighbours after a signal."""
    if not hears(message):
        return state, ()
    half_life_ms = settings.half_life_s * 1000.0
    circle = state.circles.get(message.relation) or Circle(message.ts, 0.0, {})
    age = (message.ts - circle.epoch) / half_life_ms
    if age > _HIGHEST:
        circle, age = _rescale(circle, message.ts, age), 0.0
    scale = 2.0 ** max(age, -_HIGHEST)
    step = message.pair_weight * scale
    weights = dict(circle.weights)
    for partner in message.partners:
        weights[partner] = weights.get(partner, 0.0) + step
    if len(weights) > 2 * settings.kept:
        weights = _heaviest(weights, settings.kept)
    total = circle.total + (scale if message.fresh else 0.0)
    return Neighbours(1, {**state.circles, message.relation: Circle(circle.epoch, total, weights)}), ()


def _rescale(circle: Circle, epoch: int, age: float) -> Circle:
    scale = 2.0**-age
    faded = {item: weight * scale for item, weight in circle.weights.items()}
    return Circle(epoch, circle.total * scale, {item: weight for item, weight in faded.items() if weight})


def _heaviest(weights: dict[str, float], most: int) -> dict[str, float]:
    """The `most` heaviest in their order; of those that weigh the same as the last, the newest."""
    least = sorted(weights.values())[-most]
    heavy = {item: weight for item, weight in weights.items() if weight >= least}
    surplus = len(heavy) - most
    for item in [item for item, weight in heavy.items() if weight == least][:surplus] if surplus else ():
        del heavy[item]
    return heavy
