"""A page on which a supervisor sees whether a process is well: GET /health, and GET /metrics for Prometheus."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Self

import msgspec

from core.errors import BadSettings, Unavailable

log = logging.getLogger("headwater")

Described = tuple[bool, Mapping[str, Any]]
"""Whether the process is well, and figures of any kind; a mapping among them is one figure by key."""

PREFIX: Final = "headwater_"
SILENT_S: Final = 10.0  # a caller that sends nothing for so long is hung up on


class Page:
    """A page that answers from a thread of its own until `close`."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens; the one that was free where 0 was asked for."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer nobody any more and let the port go."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(host: str, port: int, describe: Callable[[], Described]) -> Page:
    """Answer GET /health with 200 or 503 and a JSON object, GET /metrics with the numbers in it as gauges.

    Args:
        host: address to listen on.
        port: 0 takes any that is free.
        describe: asked at each call, from another thread; what it raises makes the answer 503.

    Raises:
        BadSettings: the address is none of this machine's, or the port is not ours to take.
        Unavailable: something listens there already.
    """

    class Handler(_Handler):
        said = staticmethod(describe)

    try:
        return Page(_Server((host, port), Handler))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"port {port} of {host} is in use: the health page cannot be shown") from None
        raise BadSettings(f"the health page cannot listen on {host}, port {port}: {error.strerror}") from None


def metrics(figures: Mapping[str, Any], *, well: bool) -> str:
    """Figures as Prometheus reads them: numbers and truths are gauges, text is left out.

    >>> print(metrics({"files": 3, "state": "reading", "lag": {"clickstream/0": 5}}, well=True), end="")
    # TYPE headwater_healthy gauge
    headwater_healthy 1
    # TYPE headwater_files gauge
    headwater_files 3
    # TYPE headwater_lag gauge
    headwater_lag{key="clickstream/0"} 5
    """
    lines: list[str] = []
    for name, value in {"healthy": well, **figures}.items():
        told = list(_gauges(PREFIX + name, value))
        if told:
            lines += [f"# TYPE {PREFIX}{name} gauge", *told]
    return "\n".join(lines) + "\n"


def _gauges(name: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, number in value.items():
            if isinstance(number, int | float):
                escaped = str(key).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
                yield f'{name}{{key="{escaped}"}} {_number(number)}'
    elif isinstance(value, int | float):
        yield f"{name} {_number(value)}"


def _number(value: int | float) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which may take seconds where there is none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    said: Callable[[], Described]
    timeout = SILENT_S

    def do_GET(self) -> None:
        """Answer one call."""
        path = self.path.partition("?")[0]
        if path not in ("/health", "/metrics"):
            self._answer(404, b'{"error":"there are /health and /metrics"}', "application/json")
            return
        well, figures = self._described()
        if path == "/metrics":
            self._answer(200, metrics(figures, well=well).encode(), "text/plain; version=0.0.4")
        else:
            body = msgspec.json.encode({"healthy": well, **figures})
            self._answer(200 if well else 503, body, "application/json")

    def log_message(self, format: str, *args: object) -> None:
        """Calls are not logged: a supervisor calls every few seconds."""

    def _described(self) -> Described:
        try:
            return self.said()
        except Exception:
            log.exception("the health page could not be made")
            return False, {"error": "the figures cannot be told, see the log"}

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
