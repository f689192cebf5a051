"""What the gateway adds to the engine's own time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from core.decision import Decision, Request
from core.settings import Settings
from gateway.app import build_app
from tests.gateway.fakes import NOW, Log, Shop, catalogue

MOST_MS = 0.4


class Instant(Shop):
    """Answers every request with the list it made first."""

    made: Decision | None = None

    def recommend(self, request: Request) -> Decision:
        self.made = self.made or super().recommend(request)
        return self.made


async def _ask(app: Any, calls: int) -> float:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/v1/recommendations", "raw_path": b"/v1/recommendations", "root_path": "",
        "query_string": b"visitor_id=somebody&n=10&placement=home&exclude=p01,p02&price_max=200",
        "headers": [(b"host", b"shop.test"), (b"user-agent", b"test"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    started = time.process_time()
    for _ in range(calls):
        await app(dict(scope), receive, send)
    spent = time.process_time() - started
    assert statuses == [200] * calls
    return spent / calls * 1e3


def test_a_recommendation_costs_less_than_0_4_ms_around_the_engine() -> None:
    log = Log()
    app = build_app(Settings(), log, Instant(log, catalogue()), lambda: NOW)
    # The quickest of several rounds: other work on the machine can only make a round slower.
    spent = min(asyncio.run(_ask(app, 100)) for _ in range(6))
    assert spent < MOST_MS
