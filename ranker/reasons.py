"""Why an item is in a list, in words a shopper understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from core.catalogue import PATH_SEPARATOR
from core.decision import Reason
from ranker.arrays import Floats, Rows
from ranker.channels import Found
from ranker.context import Context
from ranker.live import Live
from ranker.space import Space

MOST = 2
# how telling a channel's best score is beside the others'
CONVINCING = {
    "own": 1.0, "bought": 0.9, "carted": 0.8, "seen": 0.75, "text": 0.6, "sessions": 0.55, "ease": 0.5,
    "next": 0.48, "after": 0.45, "new": 0.3, "trending": 0.25,
}  # fmt: skip


class Explainer:
    """Reasons for the items of one answer."""

    def __init__(self, ctx: Context, found: Mapping[str, Found], shown: Rows, live: Live, space: Space | None) -> None:
        self.ctx, self.live, self.space = ctx, live, space
        self._scores = {name: _of_these(rows, scores, shown, live.place) for name, (rows, scores) in found.items()}
        self._top = {name: float(scores.max(initial=0.0)) for name, (_, scores) in found.items()}
        self._shown = shown
        self._likeness: dict[int, int] | None = None
        self._pairs: dict[str, dict[int, tuple[float, int]]] = {}
        self._own = {row: place for place, row in enumerate(ctx.own.tolist())}

    def of(self, row: int) -> tuple[Reason, ...]:
        """Up to two reasons, the most telling first."""
        weighed = [
            (CONVINCING[name] * (0.25 + scores[row] / self._top[name]), name)
            for name, scores in self._scores.items()
            if row in scores and self._top[name] > 0
        ]
        reasons: list[Reason] = []
        for _, name in sorted(weighed, reverse=True):
            reason = self._say(name, row)
            if reason is not None and all(reason.code != other.code for other in reasons):
                reasons.append(reason)
            if len(reasons) == MOST:
                break
        return tuple(reasons)

    def _say(self, name: str, row: int) -> Reason | None:
        say: Mapping[str, Callable[[int], Reason | None]] = {
            "own": self._again,
            "bought": lambda r: self._together(r, "bought", "bought_with", "often bought with {}"),
            "carted": lambda r: self._together(r, "carted", "carted_with", "often put in the basket with {}"),
            "seen": lambda r: self._together(r, "seen", "viewed", "because you viewed {}"),
            "text": self._similar,
            "sessions": lambda r: Reason("sessions", "chosen by shoppers with a taste like yours"),
            "ease": lambda r: Reason("ease", "goes with what you chose so far"),
            "after": lambda r: Reason("after", "what others chose next"),
            "next": lambda r: Reason("next", "follows from what you looked at last"),
            "trending": self._trending,
            "new": lambda r: Reason("new", "new in the shop"),
        }
        return say[name](row)

    def _title(self, row: int) -> str:
        item = self.live.items[row]
        return item.title if item is not None and item.title else self.live.ids[row]

    def _again(self, row: int) -> Reason:
        place = self._own[row]
        if self.ctx.column("buys")[place] > 0:
            return Reason("again", "you bought this before")
        if self.ctx.column("carts")[place] > 0:
            return Reason("carted", "you put this in your basket")
        return Reason("looked", "you looked at this")

    def _together(self, row: int, relation: str, code: str, words: str) -> Reason | None:
        if relation not in self._pairs:
            self._pairs[relation] = self._pairs_of(relation)
        best = self._pairs[relation].get(row)
        if best is None:
            return None
        source = best[1]
        if code == "viewed" and not self._viewed(source):
            code, words = "seen_with", "often viewed with {}"
        return Reason(code, words.format(self._title(source)), self.live.ids[source])

    def _pairs_of(self, relation: str) -> dict[int, tuple[float, int]]:
        """Each shown neighbour of the history with its strongest pair: the weight, and the item it goes with."""
        circles, sources = self.live.circles[relation], self.ctx.history
        rows = circles.rows[sources]
        places, columns = np.nonzero(np.isin(rows, self._shown))
        weights = circles.share[sources[places], columns] * self.ctx.weights[places]
        best: dict[int, tuple[float, int]] = {}
        for row, weight, place in zip(rows[places, columns].tolist(), weights.tolist(), places.tolist(), strict=True):
            if weight > best.get(row, (0.0, 0))[0]:
                best[row] = (weight, int(sources[place]))
        return best

    def _viewed(self, row: int) -> bool:
        """Whether the shopper has looked at an item, or it is on the page now."""
        place = self._own.get(row)
        if place is not None and self.ctx.column("views")[place] + self.ctx.column("clicks")[place] > 0:
            return True
        return self.live.ids[row] in self.ctx.request.context_items

    def _similar(self, row: int) -> Reason | None:
        sources = self.ctx.history[:10]
        if self.space is None or not len(sources):
            return None
        if self._likeness is None:
            self._likeness = self._likeness_of(self.space, sources)
        nearest = self._likeness.get(row)
        if nearest is None:
            return None
        source = nearest
        if source == row:
            return None
        return Reason("similar", f"similar to {self._title(source)}", self.live.ids[source])

    def _likeness_of(self, space: Space, sources: Rows) -> dict[int, int]:
        """For each shown item the one of the history whose text is nearest."""
        theirs, has = space.of(sources)
        ours, known = space.of(self._shown)
        if not has.any():
            return {}
        nearest = np.where(has, ours @ theirs.T, -1.0).argmax(1)
        return dict(zip(self._shown[known].tolist(), sources[nearest[known]].tolist(), strict=True))

    def _trending(self, row: int) -> Reason:
        item = self.live.items[row]
        if item is not None and item.categories:
            return Reason("trending", f"trending in {item.categories[0].split(PATH_SEPARATOR)[-1]}")
        return Reason("trending", "trending now")


def _of_these(rows: Rows, scores: Floats, shown: Rows, scratch: Rows) -> dict[int, float]:
    if not len(shown):
        return {}
    scratch[shown] = np.arange(len(shown))
    place = np.flatnonzero(shown[np.minimum(scratch[rows], len(shown) - 1)] == rows)
    return dict(zip(rows[place].tolist(), scores[place].tolist(), strict=True))
