"""The HTTP interface put together."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import Lifespan

from core.settings import Settings
from gateway.edge import Edge
from gateway.faults import HANDLERS
from gateway.metrics import Metrics
from gateway.openapi import Described
from gateway.ports import Demo, Engine, Writer
from gateway.routes_lists import Lists
from gateway.routes_pages import Pages
from gateway.routes_state import State
from gateway.routes_write import Writing


def build_app(
    settings: Settings,
    writer: Writer,
    engine: Engine,
    now_ms: Callable[[], int],
    *,
    demo: Demo | None = None,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Build the app that answers for a shop.

    Args:
        settings: limits, the shop's name, and which other sites' pages may call.
        writer: where events and catalogue changes go.
        engine: what answers.
        now_ms: the wall clock, in ms since 1970.
        demo: names shoppers and tells their profiles; None keeps both to the engine.
        lifespan: what runs from before the first call until after the last, such as the runner.
    """
    limits = settings.gateway
    metrics = Metrics(engine.describe)
    routes = [
        *Lists(limits, engine, now_ms).routes(),
        *Writing(settings, writer, engine, now_ms, metrics).routes(),
        *State(settings, engine, metrics, demo).routes(),
        *Described().routes(),
        *Pages().routes(),
    ]
    edge = Middleware(Edge, metrics, labels_of(routes), limits.cors_origins)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=limits.cors_origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("content-type",),
    )
    app = Starlette(
        routes=routes,
        middleware=[cors, edge] if limits.cors_origins else [edge],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def labels_of(routes: list[Route]) -> dict[object, str]:
    """Endpoint to the path pattern that leads to it, as metrics name it."""
    return {route.endpoint: route.path.replace(":path", "") for route in routes}
