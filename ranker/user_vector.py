"""What a shopper's history asks for: the two rules, and what a bundle says of its own.

v0 is the mean of the newest items, by recency and by what was done with them. v1 is a causal transformer that a
job has learnt (`models.user_tower`): what it has a residual for it finds by itself, and the rest by a text vector,
which is its own where that was clearly better, and else the mean too. Nothing else knows which rule answers.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from core.errors import SpaceMixed
from models.user_tower import UserTower
from ranker.arrays import Floats, Rows, best
from ranker.live import Live
from ranker.space import Space

MEAN, TRANSFORMER = "weighted mean of recent items", "causal transformer"
MOST: Final = 1_000  # items that v1 finds by itself
_NOTHING: Final = (np.zeros(0, np.int64), np.zeros(0, np.float32))


class Wish(NamedTuple):
    """A unit vector of the text space, None where a history cancels itself out; and items found by themselves."""

    taste: Floats | None
    rows: Rows = _NOTHING[0]
    scores: Floats = _NOTHING[1]


class UserVector(Protocol):
    """A rule."""

    def items(self, live: Live) -> int:
        """How many of the newest items it looks at."""
        ...

    def wish(self, rows: Rows, vectors: Floats, weights: Floats, live: Live) -> Wish:
        """What a history asks for.

        Args:
            rows: of the newest items that have a vector, newest first; at least one.
            vectors: of these, (items, dim).
            weights: of these, above 0.
            live: whose rows they are; between two requests others may ask.
        """
        ...

    def facts(self, live: Live) -> dict[str, Any]:
        """What the manifest says: `rule`, and how many `items` are read."""
        ...


class WeightedMean:
    """v0."""

    def items(self, live: Live) -> int:
        return live.settings.ranking.user_items

    def wish(self, rows: Rows, vectors: Floats, weights: Floats, live: Live) -> Wish:
        return Wish(_mean(vectors, weights))

    def facts(self, live: Live) -> dict[str, Any]:
        return {"rule": MEAN, "items": self.items(live)}


class Transformer:
    """v1."""

    def __init__(self, tower: UserTower) -> None:
        self.tower = tower
        self._live: Live | None = None
        self._rows = np.full(len(tower.items), -1)  # of the tower's items in that live state, -1 where unheard of
        self._heard = 0  # rows there were when it was last looked

    def items(self, live: Live) -> int:
        return self.tower.shape.length

    def wish(self, rows: Rows, vectors: Floats, weights: Floats, live: Live) -> Wish:
        tower = self.tower
        state = tower.state(vectors, tower.places([live.ids[row] for row in rows.tolist()]))
        known = self._known(live)
        places = np.flatnonzero(known >= 0)
        scores = tower.known @ state
        top = best(places, scores[places], MOST)
        taste = tower.query(vectors, weights) if tower.shape.asks else _mean(vectors, weights)
        return Wish(taste, known[top], scores[top])

    def facts(self, live: Live) -> dict[str, Any]:
        shape = self.tower.shape
        facts = {"rule": TRANSFORMER, "items": shape.length, "layers": shape.layers, "known": len(self.tower.items)}
        return facts | {"text": TRANSFORMER if shape.asks else MEAN}

    def _known(self, live: Live) -> Rows:
        """Rows of the tower's items; those nobody has heard of are looked for again when there are more rows."""
        if live is not self._live:
            self._live, self._heard = live, 0
            self._rows = np.full(len(self.tower.items), -1)
        if len(live.ids) > self._heard:
            unheard = np.flatnonzero(self._rows < 0).tolist()
            self._rows[unheard] = [live.rows.get(self.tower.items[place], -1) for place in unheard]
        self._heard = len(live.ids)
        return self._rows


WEIGHTED_MEAN: Final = WeightedMean()


def user_vector(tower: UserTower | None, space: Space | None) -> UserVector:
    """The rule of a bundle: the tower where it has one, else the mean.

    Raises:
        SpaceMixed: the tower was learnt on vectors of another space.
    """
    if tower is None or space is None:
        return WEIGHTED_MEAN
    if tower.shape.space_id != space.space_id:
        raise SpaceMixed(f"a user tower of space {tower.shape.space_id} for vectors of space {space.space_id}")
    return Transformer(tower)


def _mean(vectors: Floats, weights: Floats) -> Floats | None:
    vector = weights @ vectors
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 1e-9 else None
