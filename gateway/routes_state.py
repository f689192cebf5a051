"""How we are: alive, ready, in numbers, and what the demonstration tells of its shoppers."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.errors import Missing
from core.settings import Settings
from gateway.faults import Json
from gateway.metrics import Metrics
from gateway.ports import Demo, Engine
from gateway.replies import Health, Readiness, Shop, Shoppers, known
from gateway.schemas import Nothing, from_query

REMEMBERED: Final = 40  # items of a profile that are told


class HealthAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is to be told."""

    details: Annotated[bool, Meta(description="Add the state of the engine and of the gateway.")] = False


class State:
    """Routes for operators, load balancers and the pages."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, demo: Demo | None) -> None:
        self._settings, self._engine, self._metrics, self._demo = settings, engine, metrics, demo

    def routes(self) -> list[Route]:
        """The routes of this module."""
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/v1/shop", self.shop),
            Route("/v1/demo/shoppers", self.shoppers),
            Route("/v1/demo/profiles/{shopper:path}", self.profile),
        ]

    async def healthz(self, request: Request) -> Response:
        """Say that the process answers, and on request what it is doing."""
        if not from_query(request.scope["query_string"], HealthAsked).details:
            return Json(Health("ok"))
        return Json(Health("ok", self._engine.describe(), self._metrics.summary()))

    async def readyz(self, request: Request) -> Response:
        """Say whether answers come from caught-up state."""
        from_query(request.scope["query_string"], Nothing)
        reason = self._engine.ready()
        if reason is None:
            return Json(Readiness("ready"))
        return Json(Readiness("waiting", reason), 503, {"retry-after": "1"})

    async def metrics(self, request: Request) -> Response:
        """Give the numbers to Prometheus."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def shop(self, request: Request) -> Response:
        """Tell a page what shop this is."""
        from_query(request.scope["query_string"], Nothing)
        shop = self._settings.shop
        return Json(Shop(shop.name, shop.currency, self._settings.gateway.max_n))

    async def shoppers(self, request: Request) -> Response:
        """Name shoppers to try the demonstration as."""
        from_query(request.scope["query_string"], Nothing)
        return Json(Shoppers(list(self._demo.shoppers()) if self._demo else []))

    async def profile(self, request: Request) -> Response:
        """Tell what is kept of a shopper, where this runs as a demonstration."""
        from_query(request.scope["query_string"], Nothing)
        if self._demo is None:
            raise Missing("profiles are told only where the demonstration runs")
        shopper = request.path_params["shopper"]
        return Json(known(self._engine, shopper, self._demo.profile(shopper), REMEMBERED))
