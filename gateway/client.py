"""A client of the HTTP interface, for the demonstration and for tests: one connection, kept open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from core.errors import BadInput, Unavailable

AT_ONCE: Final = 1_000  # events or items of one call


def url_of(host: str, port: int) -> str:
    """Where somebody on this machine finds what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Client:
    """Calls one gateway; not for several threads at a time."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        """The answer of a path.

        Raises:
            BadInput: the gateway refused; its own words.
            Unavailable: nobody answers, or not now.
        """
        return self._answer("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any) -> Any:
        """The answer to a JSON body; as for `get`."""
        return self._answer("POST", path, msgspec.json.encode(body))

    def post_all(self, kind: str, bodies: Iterable[Any]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Post events or items in full calls; after each, how many were accepted and what was refused.

        Args:
            kind: "events" or "items".
            bodies: as POST /v1/events or /v1/items take them.
        """
        coming = iter(bodies)
        while some := list(islice(coming, AT_ONCE)):
            reply = self.post(f"/v1/{kind}", {kind: some})
            yield reply["accepted"], reply.get("refused", ())

    def page(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page."""
        return self._call("GET", path, None)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _answer(self, method: str, path: str, body: bytes | None = None) -> Any:
        status, text = self._call(method, path, body)
        if status >= 400:
            wrong = Unavailable if status >= 500 else BadInput
            raise wrong(f"{method} {path.partition('?')[0]} answered {status}: {text[:500].decode('utf-8', 'replace')}")
        return msgspec.json.decode(text)

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"} if body is not None else {}
        idle = self._connection.sock is not None  # the gateway may have closed it since the last call
        try:
            self._connection.request(method, path, body, headers)
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            if idle:
                return self._call(method, path, body)
            raise Unavailable(f"{self._connection.host}:{self._connection.port} does not answer: {error}") from None
