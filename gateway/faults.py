"""Every way a call can be turned away, and the JSON it is told in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.errors import BadInput, Missing, Unavailable

MAX_MESSAGE: Final = 500


class Fault(msgspec.Struct, frozen=True):
    """What went wrong: a word for programs and a sentence for people."""

    code: str
    message: str


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Fault


class Rejected(BadInput):
    """A call that cannot be used, with its HTTP status. `seen` holds the first bytes of its body."""

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request", seen: bytes = b"") -> None:
        super().__init__(message)
        self.status, self.code, self.seen = status, code, seen


class Json(Response):
    """A reply encoded by msgspec. Nothing here may be kept by a cache: the next answer may differ."""

    media_type = "application/json"

    def __init__(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(value), status, {"cache-control": "no-store", **(headers or {})})


def reply(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Json:
    """An error in the one shape all errors have."""
    return Json(ErrorReply(Fault(code, shortened(message))), status, headers)


def shortened(message: str) -> str:
    """A message without the megabytes a caller may have put into a name it quotes."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


async def _rejected(_: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return reply(error.status, error.code, str(error))


async def _bad_input(_: Request, error: Exception) -> Response:
    return reply(400, "bad_request", str(error))


async def _missing(_: Request, error: Exception) -> Response:
    return reply(404, "not_found", str(error))


async def _unavailable(_: Request, error: Exception) -> Response:
    return reply(503, "unavailable", f"{error}; nothing was accepted, try again", {"retry-after": "1"})


async def _not_found(request: Request, _: Exception) -> Response:
    return reply(404, "not_found", f"there is nothing at {request.url.path}; /openapi.json lists what there is")


async def _not_allowed(request: Request, _: Exception) -> Response:
    """Name the methods of every route on this path; the first one that matched knows only its own."""
    path = request.scope["path"]
    routes = [one for one in request.app.routes if isinstance(one, Route) and one.path_regex.match(path)]
    allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    message = f"{request.method} is not for {path}; it takes {allowed}"
    return reply(405, "method_not_allowed", message, {"allow": allowed})


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return reply(error.status_code, "bad_request", error.detail, dict(error.headers or {}))


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    Rejected: _rejected,
    BadInput: _bad_input,
    Missing: _missing,
    Unavailable: _unavailable,
    404: _not_found,
    405: _not_allowed,
    HTTPException: _http,
}
