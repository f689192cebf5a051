"""The outermost layer: times every call, catches what nobody expected, turns foreign pages away."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.faults import reply
from gateway.metrics import Metrics

logger = logging.getLogger(__name__)
READING = frozenset({"GET", "HEAD", "OPTIONS"})
GONE = 499  # the caller hung up; only counted, there is nobody to tell


class Edge:
    """Plain ASGI around the routes; `labels` maps an endpoint to the route's pattern."""

    def __init__(self, app: ASGIApp, metrics: Metrics, labels: Mapping[Any, str], origins: tuple[str, ...]) -> None:
        self.app = app
        self._metrics = metrics
        self._labels = labels
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        except ClientDisconnect:
            status = GONE
        except Exception as error:
            error_id = _logged(error, scope)
            if status:
                raise
            message = f"something went wrong on our side; it is in the log as {error_id}"
            await reply(500, "internal", message)(scope, receive, watched)
        finally:
            route = self._labels.get(scope.get("endpoint"), "other")
            self._metrics.answered(route, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = "" if scope["method"] in READING else self._foreign(scope)
        if not origin:
            await self.app(scope, receive, send)
            return
        message = f"pages of {origin} may not write here; gateway.cors_origins names those that may"
        await reply(403, "forbidden", message)(scope, receive, send)

    def _foreign(self, scope: Scope) -> str:
        """The origin of a page of another site that is not let in, else nothing.

        A browser posts text/plain anywhere without asking, so answering no preflight is not enough.
        """
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if not origin or "*" in self._origins or origin in self._origins:
            return ""
        return "" if urlsplit(origin).netloc == headers.get("host") else origin


def _logged(error: Exception, scope: Scope) -> str:
    error_id = secrets.token_hex(6)
    call = scope["method"], scope["path"]
    logger.error("request failed error_id=%s method=%s path=%r", error_id, *call, exc_info=error)
    return error_id
