"""One short run of each kind of trouble a worker may be in; the whole matrix is `make crash`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kafka_dev import Kafka
from tests.kafka import crashes

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

EVENTS = 6_000
BROKER = "the broker is killed and away for 10 s"


@pytest.mark.parametrize("case", [name for name in crashes.CASES if "broker" not in name])
def test_every_event_counts_once_whatever_happens_to_a_worker(
    case: str, broker: Kafka, prefix: str, tmp_path: Path
) -> None:
    outcome = crashes.run(case, broker, prefix, tmp_path, EVENTS)
    assert outcome.left > 0, "the harm came too late"
    assert outcome.wrong == ()


def test_every_event_counts_once_when_the_broker_dies_and_comes_back(
    cluster: Callable[[int], Kafka], prefix: str, tmp_path: Path
) -> None:
    outcome = crashes.run(BROKER, cluster(1), prefix, tmp_path, EVENTS)
    assert outcome.left > 0, "the harm came too late"
    assert outcome.wrong == ()
