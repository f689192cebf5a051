"""What everything that talks to Kafka shares: clients of one make, their errors in our words, and a quiet log.

aiokafka is imported when a client is made, so that the embedded log needs no Kafka package.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from core.errors import BadSettings, HeadwaterError, Missing, Unavailable
from core.settings import Settings

MAX_RECORD: Final = 8_000_000  # bytes of a record that topics take: poison must get in to be put aside
ANSWER_S: Final = 10.0  # for a broker to answer at all
QUIET_S: Final = 30.0  # between two lines of one kind in the log
LINGER_MS: Final = 5
BATCH_BYTES: Final = 262_144
METADATA_MS: Final = 30_000  # a partition that has moved is found after this long at the latest


def servers(settings: Settings) -> list[str]:
    """The brokers to ask first.

    Raises:
        BadSettings: none are named.
    """
    found = [one.strip() for one in settings.kafka.bootstrap.split(",") if one.strip()]
    if not found:
        raise BadSettings("kafka.bootstrap names no broker; wanted host:port,host:port")
    return found


def client(settings: Settings, role: str) -> dict[str, Any]:
    """The arguments that every aiokafka client takes; `role` is told to the brokers, for their logs and metrics."""
    quiet()
    return {
        "bootstrap_servers": servers(settings),
        "client_id": f"headwater-{role}",
        "metadata_max_age_ms": METADATA_MS,
        "request_timeout_ms": 30_000,
    }


def producer(settings: Settings, role: str, **changed: Any) -> Any:
    """An AIOKafkaProducer that is not started: a record counts when all copies in sync have it, and counts once.

    Records are sent to a partition that the caller names, see `streams.partition`.
    """
    _installed()
    from aiokafka import AIOKafkaProducer

    given: dict[str, Any] = {
        **client(settings, role),
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "max_batch_size": BATCH_BYTES,
        "max_request_size": MAX_RECORD,
    }
    return AIOKafkaProducer(**(given | changed))


def reader(settings: Settings, role: str, **changed: Any) -> Any:
    """An AIOKafkaConsumer without a group, not started: assign partitions and seek; nothing is committed."""
    _installed()
    from aiokafka import AIOKafkaConsumer

    given: dict[str, Any] = {
        **client(settings, role),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": 100,
        "max_partition_fetch_bytes": MAX_RECORD,
    }
    return AIOKafkaConsumer(**(given | changed))


def admin(settings: Settings, role: str = "admin") -> Any:
    """An AIOKafkaAdminClient that is not started."""
    _installed()
    from aiokafka.admin import AIOKafkaAdminClient

    return AIOKafkaAdminClient(**client(settings, role))


@asynccontextmanager
async def opened(settings: Settings, make: Callable[[], Any]) -> AsyncIterator[Any]:
    """A client that `make` makes, started, and stopped at the end.

    Raises:
        Unavailable: no broker answers within `ANSWER_S`.
    """
    made = make()
    stop = getattr(made, "stop", None) or made.close
    try:
        try:
            async with asyncio.timeout(ANSWER_S):
                await made.start()
        except _failures() as error:
            raise unavailable(settings, error) from None
        yield made
    finally:
        await _ended(stop)


async def _ended(stop: Callable[[], Awaitable[None]]) -> None:
    """Stop a client; during an outage aiokafka hands on the end of a task of its own as if it were that of ours."""
    try:
        await stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


@asynccontextmanager
async def answers(settings: Settings, within_s: float = ANSWER_S) -> AsyncIterator[None]:
    """Turns Kafka's errors within into ours, and silence of this long too.

    Raises:
        Unavailable: Kafka did not do what was asked.
    """
    try:
        async with asyncio.timeout(within_s):
            yield
    except HeadwaterError:
        raise
    except _failures() as error:
        raise unavailable(settings, error) from None


def unavailable(settings: Settings, error: BaseException) -> Unavailable:
    """What to tell where brokers do not answer."""
    why = str(error) or type(error).__name__
    return Unavailable(
        f"Kafka at {settings.kafka.bootstrap} does not answer ({why}); check that it runs and that kafka.bootstrap "
        "is right; `headwater dev kafka` starts one on this machine"
    )


def _failures() -> tuple[type[BaseException], ...]:
    from aiokafka.errors import KafkaError

    return (KafkaError, OSError)  # a TimeoutError is an OSError


def _installed() -> None:
    try:
        import aiokafka  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error}; install Kafka's client with pip install 'headwater[kafka]'") from None


# ---------------------------------------------------------------------- log
class Rarely(logging.Handler):
    """Hands records on to another logger, one of each kind within `every_s`, with how many were left out."""

    def __init__(self, to: logging.Logger, every_s: float = QUIET_S, clock: Callable[[], float] = time.monotonic):
        super().__init__(logging.WARNING)
        self._to, self._every_s, self._clock = to, every_s, clock
        self._told: dict[tuple[str, int], tuple[float, int]] = {}  # when last, and how many were left out since

    def emit(self, record: logging.LogRecord) -> None:
        """One line of code is one kind: the texts differ by address and offset."""
        kind, now = (record.pathname, record.lineno), self._clock()
        last, left_out = self._told.get(kind, (float("-inf"), 0))
        if now - last < self._every_s:
            self._told[kind] = last, left_out + 1
            return
        self._told[kind] = now, 0
        more = f" ({left_out} more like this)" if left_out else ""
        self._to.log(record.levelno, "%s%s", record.getMessage(), more)


def quiet() -> None:
    """Have aiokafka log each kind of trouble twice a minute at most, as headwater.kafka; outages flood logs."""
    noisy = logging.getLogger("aiokafka")
    if not any(isinstance(one, Rarely) for one in noisy.handlers):
        noisy.addHandler(Rarely(logging.getLogger("headwater.kafka")))
        noisy.propagate = False
