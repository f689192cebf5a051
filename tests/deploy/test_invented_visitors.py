"""The visitors of the service `demo`: a history for an empty shop, then life as it happens."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import pytest

from core.ids import DAY_MS
from demo import Play
from evaluation.invented import InventedShop
from examples.invented_visitors import life, main, visit
from gateway.client import Client

PLAY = Play(items=60, shoppers=40)


class Over(Exception):
    """The test has seen enough."""


class Gateway(Client):
    """Takes whatever comes, until something comes alone: that is the first visit after the history."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.taken: list[tuple[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        return {"engine": {"items": self.items}}

    def post(self, path: str, body: Any) -> Any:
        if isinstance(body, list):
            raise Over
        ((kind, bodies),) = body.items()
        self.taken += [(kind, one) for one in bodies]
        return {"accepted": len(bodies)}


def test_life_goes_on_in_order_without_a_gap_or_a_repetition() -> None:
    shop = InventedShop(7, 60, 40)
    since = shop.catalogue()[0]["ts"] + 5 * DAY_MS + 12_345
    lived = list(islice(life(shop, since), 400))
    ends = lived[-1][1]["ts"]
    assert ends > since + 3 * DAY_MS
    times = [body["ts"] for _, body in lived]
    assert times == sorted(times)
    ids = [body["event_id"] for kind, body in lived if kind == "events" and body["ts"] < ends]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {body["event_id"] for body in shop.events(ends, since)}
    appeared = {body["item_id"] for kind, body in lived if kind == "items"}
    assert appeared
    assert appeared == {body["item_id"] for body in shop.new_items_after(since) if body["ts"] <= ends}


def test_an_empty_shop_gets_its_history_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    empty, full = Gateway(items=0), Gateway(items=7)
    for gateway in (empty, full):
        with pytest.raises(Over):
            visit(gateway, PLAY)
    assert {kind for kind, _ in empty.taken} == {"events", "items"}
    oldest = min(body["ts"] for _, body in empty.taken)
    assert time.time() * 1000 - oldest < 30 * DAY_MS  # the gateway takes nothing older
    assert not full.taken


def test_without_a_gateway_it_says_so_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().err
