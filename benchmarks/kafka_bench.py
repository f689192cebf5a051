"""What the benchmarks on Kafka share: a broker, a worker as a process, invented events. Not a benchmark itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from core.events import Event, parse
from core.settings import KafkaSettings, Settings, WorkerSettings
from streams import kafka, topics
from streams.partition import partition_of

ROOT: Final = Path(__file__).resolve().parents[1]
TICKS: Final = os.sysconf("SC_CLK_TCK")
START_MS: Final = 1_760_000_000_000


def shop(bootstrap: str, prefix: str, port: int, partitions: int = 4) -> Settings:
    """Settings of a shop on a broker, without an encoder."""
    base = Settings()
    return msgspec.structs.replace(
        base,
        kafka=KafkaSettings(bootstrap=bootstrap, prefix=prefix),
        worker=WorkerSettings(port=port),
        log=msgspec.structs.replace(base.log, partitions=partitions),
        encoder=msgspec.structs.replace(base.encoder, model="none"),
    )


def environment(settings: Settings) -> dict[str, str]:
    """The settings that differ from the defaults, as a process of ours reads them."""
    found = dict(os.environ, OMP_NUM_THREADS="1")
    for section in msgspec.structs.fields(Settings):
        ours, default = getattr(settings, section.name), getattr(Settings(), section.name)
        for field in ours.__struct_fields__:
            value = getattr(ours, field)
            if value != getattr(default, field):
                text = str(value) if isinstance(value, str | Path) else json.dumps(value)
                found[f"HEADWATER_{section.name}__{field}".upper()] = text
    return found


@contextmanager
def process(verb: str, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """One of our commands, ended when the block ends."""
    heard = None if os.environ.get("HEADWATER_BENCH_LOG") else subprocess.DEVNULL
    started = subprocess.Popen([sys.executable, str(ROOT / "cli.py"), verb], env=environment(settings), stderr=heard)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def health(port: int) -> dict[str, Any]:
    """What a health page says; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as answer:
        found = json.load(answer)
    except OSError:
        return {}
    return found


def until(what: Callable[[], bool], within_s: float = 600.0, every_s: float = 0.1) -> float:
    """Wait; how long it took, in seconds."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"not within {within_s} s")
        time.sleep(every_s)
    return time.monotonic() - began


def cpu_s(pid: int) -> float:
    """Seconds of processor a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def events(count: int, *, shoppers: int = 5_000, items: int = 2_000, seed: int = 1) -> list[Event]:
    """Sessions of a few views with now and then a cart and a purchase, many shoppers at a time."""
    draw, found, ts = random.Random(seed), list[Event](), START_MS
    names = ["view_item"] * 8 + ["select_item", "add_to_cart", "purchase"]
    while len(found) < count:
        ts += 200
        shopper, number = draw.randrange(shoppers), len(found)
        raw = {
            "name": draw.choice(names), "event_id": f"e{number}", "ts": ts, "user_id": f"u{shopper}",
            "item_id": f"i{int(draw.random() ** 2 * items)}", "transaction_id": f"t{number}", "currency": "EUR",
        }  # fmt: skip
        found.append(parse(raw))
    return found


def write(settings: Settings, told: Sequence[Event], pack: int) -> None:
    """Put events on their topics, so many of one partition into one record, and wait for the acknowledgements."""
    asyncio.run(_write(settings, told, pack))


async def _write(settings: Settings, told: Sequence[Event], pack: int) -> None:
    groups: dict[tuple[str, int], list[Event]] = {}
    producer = kafka.producer(settings, "bench", linger_ms=20)
    await producer.start()
    try:
        sent = []
        for event in told:
            place = event.topic, partition_of(event.shopper.encode(), settings.log.partitions)
            group = groups.setdefault(place, [])
            group.append(event)
            if len(group) >= pack:
                sent.append(await _send(producer, settings, place, groups.pop(place)))
        sent += [await _send(producer, settings, place, group) for place, group in groups.items()]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _send(producer: Any, settings: Settings, place: tuple[str, int], group: Sequence[Event]) -> Any:
    topic, partition = place
    key = group[0].shopper.encode() if len(group) == 1 else None
    value = msgspec.json.encode(group[0] if len(group) == 1 else group)
    return await producer.send(topics.full(settings, topic), key=key, value=value, partition=partition)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in lines)
