from __future__ import annotations

from typing import Any

import pytest

from core.catalogue import parse_change
from core.errors import BadInput
from core.events import parse
from core.ids import DAY_MS
from gateway.metrics import Metrics, reason_class
from tests.gateway.fakes import NOW

VIEW = {"name": "view_item", "visitor_id": "v", "item_id": "a", "ts": NOW}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "stare"}, "name"),
        ({"name": None}, "name"),
        ({"visitor_id": None}, "shopper"),
        ({"item_id": None}, "item"),
        ({"items": [{"item_id": "a"}, {"item_id": "b"}]}, "item"),
        ({"ts": "soon"}, "time"),
        ({"ts": None, "timestamp": "soon"}, "time"),
        ({"ts": NOW - 31 * DAY_MS}, "too_old"),
        ({"ts": NOW + DAY_MS}, "ahead"),
        ({"name": "purchase", "transaction_id": "t"}, "currency"),
        ({"name": "purchase", "currency": "EUR"}, "transaction"),
        ({"name": "rating"}, "rating"),
        ({"quantity": -1}, "invalid"),
    ],
)
def test_every_refusal_of_an_event_has_its_class(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse({**VIEW, **fields}, now_ms=NOW)
    assert reason_class(str(refusal.value)) == name


def test_an_item_without_an_id_has_its_class() -> None:
    with pytest.raises(BadInput) as refusal:
        parse_change({"ts": NOW})
    assert reason_class(str(refusal.value)) == "item"


def test_the_middle_and_the_slow_end_of_many_answers_are_told() -> None:
    metrics = Metrics(dict)
    for n in range(101):
        metrics.answered("/x", 200, n / 1000)
    assert metrics.summary()["routes"] == {"/x": {"calls": 101, "p50_ms": 50.0, "p99_ms": 99.0}}


def test_texts_and_odd_keys_of_the_engine_become_labels_and_gauges() -> None:
    text = Metrics(lambda: {"lag-ms": 2, "bundle": "b1", "letters": []}).text().decode()
    assert "headwater_engine_lag_ms 2.0" in text
    assert 'headwater_engine_info{bundle="b1"} 1.0' in text
