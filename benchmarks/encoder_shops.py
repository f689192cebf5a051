"""What the encoder's benchmark asks: three of the protocols as texts, histories and questions.

    games      G: the next item of 3,000 shoppers; NDCG@10, recall@10 and @100
    retail     P2: what is new to a shopper in the next basket; recall@100 and @300 of the text channel
    ranklens   P4t: 24 shown films are put in order; NDCG@10

Each has questions to choose by, that nothing learns from, and questions that are looked at once. Of retail the
first are the October baskets, of ranklens the tenth of the rankings before those that are asked; what is learnt
from is older. Items that are sold for the first time while retail is asked are in its catalogue, with their titles.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from core.ids import DAY_MS
from core.settings import TextSettings
from jobs.pairs import Histories, Touch
from jobs.text_quality import Question, questions
from models.text import item_text

PURCHASE, CLICK = 5.0, 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all its targets; `shown` are the rows that are to be ordered, None for the whole catalogue."""

    question: Question
    targets: NDArray[np.int64]
    shown: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Shop:
    """The protocol. `seen` is all that may be learnt from; `counts` are the events of each item before `test`."""

    texts: list[str]
    rows: dict[str, int]
    seen: Histories
    choose: list[Asked]
    test: list[Asked]
    counts: NDArray[np.int64]
    measures: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return list(self.rows)


def open_shop(name: str, bench: Path) -> Shop:
    """Read one of `SHOPS`; `bench` is the folder of protocols.py."""
    sys.path.insert(0, str(bench))
    import protocols  # type: ignore[import-not-found]

    return SHOPS[name](protocols)


# ---------------------------------------------------------------------- Games
def _games(protocols: ModuleType) -> Shop:
    task = protocols.games()
    items = list(task.items)
    rows = {one["item_id"]: row for row, one in enumerate(items)}
    whole = Histories()
    for line in task.events[0]:
        whole.touches.setdefault(line["user_id"], []).append(Touch(line["ts"], line["item_id"], 1.0))
    asked = {one.user_id: one for one in task.queries}
    seen = Histories({who: one[:-1] if who in asked else one for who, one in whole.touches.items()})
    mine = Histories({who: whole.touches[who] for who in asked})
    ask = protocols.GAMES_QUERY_TS
    choose = questions(mine, rows, ask - DAY_MS, ask, len(asked))
    for who, one in asked.items():
        mine.touches[who] = [*mine.touches[who], Touch(ask, next(iter(one.target)), 1.0)]
    test = questions(mine, rows, ask, ask + 1, len(asked))
    one_target = [[Asked(one, np.array([one.target])) for one in some] for some in (choose, test)]
    texts = [one["title"] for one in items]
    measures = ("ndcg@10", "recall@10", "recall@100")
    return Shop(texts, rows, seen, *one_target, _counts(whole, rows), measures)


# ---------------------------------------------------------------------- Online Retail
def _retail(protocols: ModuleType) -> Shop:
    task, october = protocols.load("P2"), protocols.millis("2011-10-01")
    items = list(protocols.first_appearances(protocols.purchases(protocols.online_retail())))
    rows = {one["item_id"]: row for row, one in enumerate(items)}
    whole = Histories()
    for line in task.events[0]:
        touch = Touch(line["ts"], line["item_id"], PURCHASE, line["session_id"])
        whole.touches.setdefault(line["user_id"], []).append(touch)
    seen, choose = whole.before(october), list[Asked]()
    for who, touches in whole.touches.items():
        past = [one for one in touches if one.ts < october]
        later = [one for one in touches if one.ts >= october]
        first = {one.item for one in later if one.together == later[0].together}
        new = first - {one.item for one in past}
        if past and new:
            choose.append(_asked(who, past, sorted(rows[one] for one in new), rows))
    test = [
        _asked(one.user_id, whole.touches[one.user_id], sorted(rows[item] for item in one.target), rows)
        for one in task.queries
    ]
    texts = [one["title"] for one in items]
    return Shop(texts, rows, seen, choose, test, _counts(whole, rows), ("recall@100", "recall@300"))


# ---------------------------------------------------------------------- RankLens
def _ranklens(protocols: ModuleType) -> Shop:
    task = protocols.ranklens()
    films = {line["item_id"]: _film(line) for line in task.items}
    rows = {name: row for row, name in enumerate(films)}
    impressions, clicks = task.events
    whole, clicked = Histories(), defaultdict[str, set[str]](set)
    for line in clicks:
        whole.touches.setdefault(line["user_id"], []).append(Touch(line["ts"], line["item_id"], CLICK))
        clicked[line["ranking_id"]].add(line["item_id"])
    lists = [(one["ts"], one["user_id"], one["items"], clicked[one["ranking_id"]]) for one in impressions]
    choose_ms, test_ms = (lists[int(len(lists) * share)][0] for share in (0.6, 0.7))
    choose = _orderings([one for one in lists if choose_ms <= one[0] < test_ms], whole, rows)
    test = _orderings([(q.ts, q.user_id, q.shown, q.target) for q in task.queries], whole, rows)
    return Shop(
        list(films.values()), rows, whole.before(choose_ms), choose, test, _counts(whole.before(test_ms), rows),
        ("ndcg@10",),
    )  # fmt: skip


def _film(line: Mapping[str, Any]) -> str:
    fields = line["fields"]
    item = Item(
        item_id=line["item_id"], since=0, ts=0, title=line["title"], categories=tuple(fields.get("genres", ())),
        description=fields.get("description", ""),
    )  # fmt: skip
    return item_text(item, TextSettings()) or line["item_id"]


def _orderings(
    lists: Sequence[tuple[int, str, Iterable[str], Iterable[str]]], whole: Histories, rows: Mapping[str, int]
) -> list[Asked]:
    """Lists with a click, of shoppers who had clicked before; the eight films without an entry are left out."""
    found = []
    for ts, who, shown, wanted in lists:
        past = [one for one in whole.touches.get(who, ()) if one.ts < ts and one.item in rows]
        targets = sorted(rows[one] for one in wanted if one in rows)
        places = sorted(rows[one] for one in shown if one in rows)
        if past and targets and len(targets) < len(places):
            found.append(_asked(who, past, targets, rows, np.array(places)))
    return found


# ---------------------------------------------------------------------- all of them
def _asked(
    who: str,
    past: Sequence[Touch],
    targets: Sequence[int],
    rows: Mapping[str, int],
    shown: NDArray[np.int64] | None = None,
) -> Asked:
    last = {one.item: (at, one.strength) for at, one in enumerate(past) if one.item in rows}
    order = sorted(last, key=lambda item: -last[item][0])
    history = np.array([rows[item] for item in order], np.int64)
    weights = np.log1p(np.array([last[item][1] for item in order], np.float32))
    return Asked(Question(who, history, weights, targets[0]), np.array(targets, np.int64), shown)


def _counts(found: Histories, rows: Mapping[str, int]) -> NDArray[np.int64]:
    counts = Counter(one.item for touches in found.touches.values() for one in touches)
    return np.array([counts[name] for name in rows])


SHOPS: Final[dict[str, Callable[[ModuleType], Shop]]] = {"games": _games, "retail": _retail, "ranklens": _ranklens}
