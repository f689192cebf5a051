"""Brokers for the tests of this folder, all of which carry `pytest.mark.kafka`."""

from collections.abc import Callable, Iterator

import pytest

from core.settings import KafkaSettings, Settings
from kafka_dev import Kafka


@pytest.fixture(scope="session")
def broker() -> Iterator[Kafka]:
    """One broker for all tests: take topics, groups and ids of your own, see `prefix`, and leave it running."""
    with Kafka() as started:
        yield started


@pytest.fixture
def prefix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Begins the names of one test's topics and groups; no other test has it."""
    name = "".join(sign if sign.isalnum() else "-" for sign in request.node.name)[:60]
    return f"{tmp_path_factory.mktemp('k').name}-{name}-"


@pytest.fixture
def settings(broker: Kafka, prefix: str) -> Settings:
    """Of a shop on the shared broker; no topics are made."""
    return Settings(kafka=KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix))


@pytest.fixture
def cluster() -> Iterator[Callable[[int], Kafka]]:
    """Starts clusters of one or three brokers that a test may kill; they are stopped after it."""
    started: list[Kafka] = []

    def start(brokers: int = 1) -> Kafka:
        one = Kafka(brokers=brokers)
        started.append(one)
        return one.start()

    yield start
    for one in started:
        one.stop()
