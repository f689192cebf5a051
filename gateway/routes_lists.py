"""What a shop asks us: personal lists, lists that are the same for everybody, and the catalogue."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.decision import Ranked
from core.errors import BadInput, Missing
from core.settings import GatewaySettings
from gateway.body import decode, read
from gateway.faults import Json
from gateway.ports import Engine
from gateway.replies import Categories, Listing, listed, recommendations
from gateway.schemas import (
    MAX_QUERY,
    Asked,
    Nothing,
    Searched,
    Wanted,
    filters,
    from_json,
    from_query,
    request_for,
    size,
    texts,
)

ENCODING: Final = 4  # lists by text vectors that are made at a time; more would only fight for the cores


class Lists:
    """Everything that answers with items."""

    def __init__(self, settings: GatewaySettings, engine: Engine, now_ms: Callable[[], int]) -> None:
        self._settings, self._engine, self._now_ms = settings, engine, now_ms
        self._encoding = anyio.CapacityLimiter(ENCODING)

    def routes(self) -> list[Route]:
        """The routes, most used first; what names an item last, as an id may hold a slash."""
        return [
            Route("/v1/recommendations", self.get_recommendations),
            Route("/v1/recommendations", self.post_recommendations, methods=["POST"]),
            Route("/v1/trending", self.trending),
            Route("/v1/search", self.search),
            Route("/v1/categories", self.categories),
            Route("/v1/items/{item_id:path}/similar", self.similar),
            Route("/v1/items/{item_id:path}/bought-together", self.together),
            Route("/v1/items/{item_id:path}", self.item),
        ]

    async def get_recommendations(self, request: Request) -> Response:
        """Recommend, asked by query string."""
        return self._recommend(from_query(request.scope["query_string"], Asked))

    async def post_recommendations(self, request: Request) -> Response:
        """Recommend, asked by JSON."""
        from_query(request.scope["query_string"], Nothing)
        return self._recommend(from_json(decode(await read(request, self._settings.max_body_bytes)), Asked))

    def _recommend(self, asked: Asked) -> Response:
        started, now = time.perf_counter(), self._now_ms()
        wanted = request_for(asked, recommendation_id(now), now, self._settings.max_n)
        decision = self._engine.recommend(wanted)
        return Json(recommendations(self._engine, decision, _took(started), explain=asked.explain))

    async def similar(self, request: Request) -> Response:
        """Items whose text lies near."""
        started, wanted = time.perf_counter(), from_query(request.scope["query_string"], Wanted)
        item_id, n, allowed = request.path_params["item_id"], size(wanted, self._settings.max_n), filters(wanted)
        ranked = await self._in_thread(lambda: self._engine.similar(item_id, n, allowed))
        return self._listing(ranked, started)

    async def together(self, request: Request) -> Response:
        """Items bought with it."""
        started, wanted = time.perf_counter(), from_query(request.scope["query_string"], Wanted)
        n = size(wanted, self._settings.max_n)
        return self._listing(self._engine.together(request.path_params["item_id"], n, filters(wanted)), started)

    async def trending(self, request: Request) -> Response:
        """What sells now."""
        started, wanted = time.perf_counter(), from_query(request.scope["query_string"], Wanted)
        paths = texts(wanted.category, "category")
        if len(paths) > 1:
            raise BadInput(f"trending takes one category, got {len(paths)}")
        n, allowed = size(wanted, self._settings.max_n), msgspec.structs.replace(filters(wanted), categories=())
        return self._listing(self._engine.trending(n, paths[0] if paths else None, self._now_ms(), allowed), started)

    async def search(self, request: Request) -> Response:
        """Items that mean what is asked for."""
        started, wanted = time.perf_counter(), from_query(request.scope["query_string"], Searched)
        text, n, allowed = wanted.q.strip(), size(wanted, self._settings.max_n), filters(wanted)
        if not 0 < len(text) <= MAX_QUERY:
            raise BadInput(f"q must be 1 to {MAX_QUERY} characters, got {len(text)}")
        return self._listing(await self._in_thread(lambda: self._engine.search(text, n, allowed)), started)

    async def categories(self, request: Request) -> Response:
        """Every category path."""
        from_query(request.scope["query_string"], Nothing)
        return Json(Categories(self._engine.categories()))

    async def item(self, request: Request) -> Response:
        """One entry of the catalogue."""
        from_query(request.scope["query_string"], Nothing)
        item_id = request.path_params["item_id"]
        item = self._engine.item(item_id)
        if item is None:
            raise Missing(f"unknown item {item_id!r:.300}")
        return Json(item)

    async def _in_thread(self, call: Callable[[], list[Ranked]]) -> list[Ranked]:
        return await anyio.to_thread.run_sync(call, limiter=self._encoding)

    def _listing(self, ranked: Sequence[Ranked], started: float) -> Response:
        return Json(Listing(listed(self._engine, ranked), _took(started)))


def recommendation_id(now_ms: int) -> str:
    """A name for a list, 32 hexadecimal digits that sort by time."""
    return f"{now_ms:012x}{secrets.token_hex(10)}"


def _took(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)
