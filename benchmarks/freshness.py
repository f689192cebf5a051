"""How long after a POST the next recommendation shows it: gateway, Kafka and one worker, at several rates of events.

    python benchmarks/freshness.py [--rates 50 200 1000] [--seconds 30] [--per-post 1]

Beside the traffic, twice a second, a shopper nobody has heard of views an item and asks for
recommendations until a reason names that item. Everything runs on this machine, the load too.
Needs Java 17 and Maven (once).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka_bench import health, process, shop, table, until

from core.settings import Settings
from kafka_dev import Kafka
from streams import topics

ITEMS, SHOPPERS, CONNECTIONS = 300, 2_000, 32
PROBE_S, GIVE_UP_S, POLL_S = 0.5, 20.0, 0.03


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(sent)}\r\n\r\n"
        writer.write(head.encode() + sent)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        found = await reader.readexactly(length)
        if b" 200 " not in lines[0] + b" ":
            raise RuntimeError(f"{path}: {lines[0].decode()}: {found[:200].decode()}")
        return json.loads(found)


def view(draw: random.Random, number: str) -> dict[str, object]:
    """A view within sessions that have a taste, so that items get neighbours."""
    shopper = draw.randrange(SHOPPERS)
    item = (shopper * 13 + int(40 * draw.random() ** 2)) % ITEMS
    return {"name": "view_item", "event_id": number, "visitor_id": f"s{shopper}", "item_id": f"i{item}"}


async def traffic(port: int, rate: float, seconds: float, per_post: int, took: list[float]) -> int:
    """An open loop: posts come at their time, whether the ones before are answered or not."""
    queue: asyncio.Queue[tuple[float, Any] | None] = asyncio.Queue()

    async def connection() -> None:
        client = Client(port)
        while (job := await queue.get()) is not None:
            await client.call("POST", "/v1/events", job[1])
            took.append(time.perf_counter() - job[0])

    tasks = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    draw, began, posted = random.Random(rate), time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds:
        while posted * per_post < now * rate:
            body = [view(draw, f"{rate}-{posted}-{place}") for place in range(per_post)]
            queue.put_nowait((time.perf_counter(), body))
            posted += 1
        await asyncio.sleep(0.002)
    for _ in tasks:
        queue.put_nowait(None)
    await asyncio.gather(*tasks)
    return posted * per_post


async def probe(port: int, name: str, within_s: float = GIVE_UP_S) -> float:
    """Seconds from a POST to a list with a reason that names what was viewed."""
    client, item = Client(port), f"i{zlib.crc32(name.encode()) % ITEMS}"
    event = {"name": "view_item", "event_id": name, "visitor_id": name, "item_id": item}
    began = time.perf_counter()
    await client.call("POST", "/v1/events", event)
    while time.perf_counter() - began < within_s:
        answer = await client.call("GET", f"/v1/recommendations?visitor_id={name}&n=10&explain=true")
        if any(why.get("item_id") == item for one in answer["items"] for why in one.get("reasons", ())):
            return time.perf_counter() - began
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"no list showed the view of {item} within {within_s} s")


async def measure(port: int, rate: float, seconds: float, per_post: int) -> tuple[float, list[float], list[float]]:
    """Events a second as posted, times of POSTs, times until a list shows one."""
    posts: list[float] = []
    load = asyncio.create_task(traffic(port, rate, seconds, per_post, posts))
    await asyncio.sleep(1.0)
    probes, number, began = [], 0, time.perf_counter()
    while not load.done():
        probes.append(asyncio.create_task(probe(port, f"probe{rate:.0f}-{number}")))
        number += 1
        await asyncio.sleep(PROBE_S)
    sent = await load
    return sent / (time.perf_counter() - began + 1.0), posts, await asyncio.gather(*probes)


def _ms(times: Sequence[float]) -> list[str]:
    ordered = sorted(times)
    return [f"{1e3 * ordered[round(share * (len(ordered) - 1))]:,.0f}" for share in (0.5, 0.95, 0.99)]


async def warm(port: int) -> None:
    """Views in sessions, so that every item has neighbours; until lists show them."""
    await traffic(port, 500, 12, 20, [])
    await probe(port, "warm", 60)


async def run(port: int, given: argparse.Namespace) -> list[list[str]]:
    """Fill the shop, then a row for each rate."""
    client = Client(port)
    for start in range(0, ITEMS, 500):
        items = [{"item_id": f"i{n}", "title": f"item {n}", "price": 1 + n % 90} for n in range(start, start + 500)]
        await client.call("POST", "/v1/items", items)
    await warm(port)
    await asyncio.sleep(5)
    rows = []
    for rate in given.rates:
        got, posts, probes = await measure(port, rate, given.seconds, given.per_post)
        rows.append([f"{rate:,.0f}", f"{got:,.0f}", *_ms(posts), f"{len(probes)}", *_ms(probes)])
    return rows


def main() -> None:
    """Run gateway and worker on a fresh broker, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rates", type=float, nargs="+", default=[50, 200, 1_000])
    asked.add_argument("--seconds", type=float, default=30)
    asked.add_argument("--per-post", type=int, default=1)
    given = asked.parse_args()
    rows = [["events/s asked", "posted", "POST p50", "p95", "p99 ms", "probes", "seen p50", "p95", "p99 ms"]]
    with Kafka() as broker, tempfile.TemporaryDirectory() as folder:
        settings: Settings = shop(broker.bootstrap, "f-", 18_081)
        replace = msgspec.structs.replace
        settings = replace(
            settings,
            gateway=replace(settings.gateway, port=18_082),
            kafka=replace(settings.kafka, spool=Path(folder) / "spool"),
            bundles=replace(settings.bundles, path=Path(folder) / "bundles"),
        )
        topics.create(settings)
        with process("worker", settings), process("gateway", settings):
            until(lambda: bool(health(18_081).get("healthy")))
            asyncio.run(_until_ready(18_082))
            rows += asyncio.run(run(18_082, given))
    print(table(rows))


async def _until_ready(port: int) -> None:
    for _ in range(300):
        try:
            await Client(port).call("GET", "/readyz")
            return
        except (OSError, RuntimeError):
            await asyncio.sleep(0.2)
    raise TimeoutError("the gateway is not ready")


if __name__ == "__main__":
    main()
