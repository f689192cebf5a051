from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from core.settings import Settings
from gateway.app import build_app
from tests.gateway.fakes import NOW, Guests, Log, Shop, catalogue

Client = Callable[..., TestClient]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def shop(log: Log) -> Shop:
    return Shop(log, catalogue())


@pytest.fixture
def client_with(log: Log, shop: Shop) -> Iterator[Client]:
    """Builds a client; keyword arguments are settings of the gateway."""
    clients = []

    def build(*, demo: bool = True, **gateway: Any) -> TestClient:
        settings = msgspec.convert({"gateway": gateway}, Settings)
        app = build_app(settings, log, shop, lambda: NOW, demo=Guests(shop) if demo else None)
        clients.append(TestClient(app, base_url="http://shop.test"))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def client(client_with: Client) -> TestClient:
    return client_with()
