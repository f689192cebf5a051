"""A shop on a port of this machine: the app under uvicorn, and what runs now and then beside it."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from core.errors import BadSettings, HeadwaterError, Missing, Unavailable
from core.settings import GatewaySettings, Settings
from gateway.app import build_app
from gateway.client import url_of
from gateway.embedded import EmbeddedShop
from gateway.ports import KnownShopper
from jobs import probation
from jobs.embedding import Embedder
from jobs.schedule import Trainer

if TYPE_CHECKING:
    from gateway.kafka_shop import KafkaShop

log = logging.getLogger("headwater")

GRACE_S: Final = 5  # for answers that are on their way when the end comes
BACKLOG: Final = 2_048
FIRST_TRIM_S: Final = 60.0
TRIM_S: Final = 3_600.0


class Gateway:
    """A shop that listens from the moment it is made, and answers while `serve` runs.

    Args:
        settings: of the shop; with `kafka.bootstrap` its log is Kafka, else a file.
        embedder: of item text, or None.
        now_ms: the wall clock, in ms since 1970.
        shoppers: whom a demonstration can be tried as; with any, profiles are told.
        train: the command that trains and promotes from a file, run when it is due; empty for never.
        access_log: log a line for each call.

    Raises:
        BadSettings: the address is none of this machine's, or the log's file fits no such settings.
        Missing: Kafka's client is not installed.
        Unavailable: the port, the log or the spool is in use.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder | None,
        now_ms: Callable[[], int],
        *,
        shoppers: Sequence[KnownShopper] = (),
        train: Sequence[str] = (),
        access_log: bool = False,
    ) -> None:
        self._socket = listen(settings.gateway)
        try:
            self.shop = open_shop(settings, embedder, now_ms, shoppers)
        except HeadwaterError:
            self._socket.close()
            raise
        app = build_app(settings, self.shop, self.shop, now_ms, demo=self.shop if shoppers else None)
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=access_log,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config)
        self._beside = list(_jobs(self.shop, settings, train, now_ms))

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return url_of(*self._socket.getsockname()[:2])

    def run(self, ready: Callable[[], None], *, signals: bool) -> None:
        """Serve until `stop`, in an event loop of its own.

        Args:
            ready: called when the state is loaded.
            signals: SIGINT and SIGTERM stop it; only in the main thread.
        """
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve(ready, signals=signals))

    def stop(self) -> None:
        """Take no more calls, and end; a second time without waiting for answers on their way."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True

    async def _serve(self, ready: Callable[[], None], *, signals: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM) if signals else ():
            loop.add_signal_handler(number, self.stop)
        tasks: list[asyncio.Task[None]] = []
        try:
            self.shop.start()
            tasks = [loop.create_task(_seen(job())) for job in self._beside]
            ready()
            await self._server.serve(sockets=[self._socket])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.shop.close()
            self._socket.close()


def gateway_on_kafka(
    settings: Settings, embedder: Embedder | None, now_ms: Callable[[], int], *, access_log: bool = False
) -> Gateway:
    """A gateway of a shop whose log is Kafka.

    Raises:
        BadSettings: no brokers are named; and as for `Gateway`.
    """
    if not settings.kafka.bootstrap:
        raise BadSettings(
            "kafka.bootstrap names no broker; wanted host:port,host:port. On one machine without Kafka: headwater up"
        )
    return Gateway(settings, embedder, now_ms, access_log=access_log)


def open_shop(
    settings: Settings, embedder: Embedder | None, now_ms: Callable[[], int], shoppers: Sequence[KnownShopper] = ()
) -> EmbeddedShop | KafkaShop:
    """The shop on the log that the settings name; raises as `Gateway` does."""
    if not settings.kafka.bootstrap:
        return EmbeddedShop(settings, embedder, now_ms, shoppers)
    try:
        from gateway.kafka_shop import KafkaShop
    except ImportError as error:
        raise Missing(f"{error}; install Kafka's client with pip install 'headwater[kafka]'") from None
    return KafkaShop(settings, embedder, now_ms, shoppers)


def _jobs(
    shop: EmbeddedShop | KafkaShop, settings: Settings, train: Sequence[str], now_ms: Callable[[], int]
) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
    """What runs beside a log in a file; on Kafka retention is the broker's, and training the trainer's."""
    if isinstance(shop, EmbeddedShop):
        yield partial(_trim, shop)
        yield partial(probation.watch, settings, now_ms)
        if train:
            yield Trainer(settings, train, shop.events_logged, now_ms).run


def listen(settings: GatewaySettings) -> socket.socket:
    """The socket of the settings' host and port.

    Raises:
        BadSettings: the address is none of this machine's, or the port is not ours to take.
        Unavailable: something listens there already.
    """
    address = (settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {settings.port} of {settings.host} is in use: stop what listens there, or choose another "
                "port (--port, gateway.port)"
            ) from None
        raise BadSettings(f"cannot listen on {settings.host}, port {settings.port}: {error.strerror}") from None


class _Server(uvicorn.Server):
    """Leaves the signals to us: what the log was given must be taken in before the process ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _trim(shop: EmbeddedShop) -> None:
    await asyncio.sleep(FIRST_TRIM_S)
    while True:
        try:
            removed = await asyncio.to_thread(shop.trim)
            log.info("job=trim records=%d removed", removed)
        except HeadwaterError as error:
            log.error("job=trim failed: %s", error)
        await asyncio.sleep(TRIM_S)


async def _seen(work: Coroutine[Any, Any, None]) -> None:
    """What runs beside the gateway may end, but not unseen."""
    try:
        await work
    except Exception:
        log.exception("a job beside the gateway ended")
