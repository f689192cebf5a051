"""What a shop tells us: events and the catalogue, each accepted or refused by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.catalogue import ItemChange, parse_change
from core.errors import BadInput
from core.events import Event, parse
from core.settings import Settings
from gateway.body import Batch, batch, read
from gateway.faults import Fault, Json, Rejected, shortened
from gateway.metrics import Metrics
from gateway.ports import Engine, Refused, Writer
from gateway.replies import Refusal, Written

SLICE: Final = 100  # values parsed before others get their turn: about 3 ms

T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """What is taken in: the envelope's key, how many at once, and what reads and keeps them."""

    key: str
    limit: int
    parse: Callable[[object, int], T]
    write: Callable[[Sequence[T], Sequence[Refused]], Awaitable[None]]


class Writing:
    """POST /v1/events, POST /v1/items and DELETE /v1/items/{item_id}."""

    def __init__(
        self, settings: Settings, writer: Writer, engine: Engine, now_ms: Callable[[], int], metrics: Metrics
    ) -> None:
        self._settings, self._writer, self._engine = settings.gateway, writer, engine
        self._now_ms, self._metrics = now_ms, metrics
        fits = _fitting(settings.kafka.max_record_bytes) if settings.kafka.bootstrap else _any_size
        limits = settings.gateway
        self._events = Kind("events", limits.max_events, lambda value, ms: fits(_event(value, ms)), writer.events)
        self._items = Kind("items", limits.max_items, lambda value, ms: fits(_change(value, ms)), writer.items)

    def routes(self) -> list[Route]:
        """The routes, most used first."""
        return [
            Route("/v1/events", self.post_events, methods=["POST"]),
            Route("/v1/items", self.post_items, methods=["POST"]),
            Route("/v1/items/{item_id:path}", self.delete_item, methods=["DELETE"]),
        ]

    async def post_events(self, request: Request) -> Response:
        """Take events in."""
        accepted, refused = await self._take(request, self._events)
        self._metrics.events([event.name for event in accepted])
        return _written(len(accepted), refused)

    async def post_items(self, request: Request) -> Response:
        """Take changes of the catalogue in."""
        accepted, refused = await self._take(request, self._items)
        self._metrics.items(len(accepted))
        return _written(len(accepted), refused)

    async def delete_item(self, request: Request) -> Response:
        """Take an item out of the catalogue; one that is not there is no error."""
        item_id, now = request.path_params["item_id"], self._now_ms()
        item = self._engine.item(item_id)
        # An item's last change may lie ahead of this clock, and an older removal would not count.
        ts = now if item is None else max(now, item.ts)
        change = parse_change({"item_id": item_id, "ts": ts, "removed": True})
        await self._writer.items([change], [])
        self._metrics.items(1)
        return _written(1, [])

    async def _take(self, request: Request, kind: Kind[T]) -> tuple[list[T], list[Refused]]:
        try:
            values = batch(await read(request, self._settings.max_body_bytes), kind.key, kind.limit)
        except Rejected as error:
            await kind.write([], [Refused(-1, str(error), error.seen, ts=self._now_ms())])
            self._metrics.refused(kind.key, str(error))
            raise
        accepted, refused = await _parsed(values, kind, self._now_ms())
        await kind.write(accepted, refused)
        for one in refused:
            self._metrics.refused(kind.key, one.reason)
        return accepted, refused


def _event(value: object, now_ms: int) -> Event:
    return parse(value, now_ms=now_ms, received_ms=now_ms)


def _change(value: object, now_ms: int) -> ItemChange:
    return parse_change(value, now_ms=now_ms, received_ms=now_ms)


def _fitting(most_bytes: int) -> Callable[[T], T]:
    """Refuses what is larger than a record may be: a log of records cannot take it in parts."""

    def checked(value: T) -> T:
        size = len(msgspec.json.encode(value))
        if size > most_bytes:
            raise BadInput(f"{size:,} bytes; at most {most_bytes:,} are accepted of one (kafka.max_record_bytes)")
        return value

    return checked


def _any_size(value: T) -> T:
    return value


async def _parsed(values: Batch, kind: Kind[T], now_ms: int) -> tuple[list[T], list[Refused]]:
    accepted: list[T] = []
    reasons: dict[int, str] = {}
    for index, value in enumerate(values.values):
        if index and index % SLICE == 0:
            await asyncio.sleep(0)
        try:
            accepted.append(kind.parse(value, now_ms))
        except BadInput as error:
            reasons[index] = shortened(str(error))
    if not reasons:
        return accepted, []
    raws = values.raws()
    refused = [Refused(i, reason, raws[i], _event_id(values.values[i]), now_ms) for i, reason in reasons.items()]
    return accepted, refused


def _event_id(value: Any) -> str:
    given = value.get("event_id") if isinstance(value, dict) else None
    return shortened(given) if isinstance(given, str) else ""


def _written(accepted: int, refused: Sequence[Refused]) -> Json:
    refusals = [Refusal(one.index, one.reason, one.event_id) for one in refused]
    if not refused:
        return Json(Written(accepted))
    if accepted:
        return Json(Written(accepted, refusals), 202)
    first = refused[0].reason
    message = first if len(refused) == 1 else f"none of {len(refused)} can be used; the first: {first}"
    return Json(Written(0, refusals, Fault("refused", message)), 400)
