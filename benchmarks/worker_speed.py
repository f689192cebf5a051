"""How many events a second one Faust worker takes in, with single and packed records, beside a plain loop.

    python benchmarks/worker_speed.py [--events 50000] [--pack 50] [--rounds 3]

The worker does everything: profiles, counters, neighbours, their changelogs and serving topics,
until nothing is left to do. The plain loop is aiokafka's getmany over the same topic: it decodes
the events, counts them by shopper and writes one record a shopper and batch; no group, no recovery,
no guard, no steps. Both are measured in turn in each round, so that ratios hold on a busy machine;
processor time per event holds on any. Needs Java 17 and Maven (once).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from typing import Any, NamedTuple

import msgspec
from kafka_bench import cpu_s, events, health, process, shop, table, until, write

from core.events import Event, decode
from core.settings import Settings
from kafka_dev import Kafka
from streams import kafka, topics
from streams.wire import VECTORS

QUIET_S = 1.0  # no batch for so long, once everything is worked off and committed
STALLED_S = 60.0
LOOK_S = 0.2  # between two looks: the worker answers them in the time that is measured


class Run(NamedTuple):
    """What one run took."""

    wall_s: float
    cpu_s: float


def worker(settings: Settings, count: int) -> Run:
    """From the first event taken in until nothing is left."""
    port = settings.worker.port
    with process("worker", settings) as started:
        until(lambda: bool(health(port).get("events")), every_s=0.02)
        began, used = time.monotonic(), cpu_s(started.pid)
        first = last = health(port)
        done, spent = began, used
        now = first
        while last["events"] < count or not now or now["lag_records"] or time.monotonic() - done < QUIET_S:
            now = health(port)
            if now and now["batches"] != last["batches"]:
                last, done, spent = now, time.monotonic(), cpu_s(started.pid)
            if time.monotonic() - done > STALLED_S:
                break
            time.sleep(LOOK_S)
        if last["events"] != count:
            raise RuntimeError(f"{last['events']} of {count} events were taken in")
        share = count / max(1, count - first["events"])
        return Run((done - began) * share, (spent - used) * share)


def plain(settings: Settings) -> Run:
    """The loop without Faust, in this process."""
    return asyncio.run(_plain(settings))


async def _plain(settings: Settings) -> Run:
    from aiokafka import TopicPartition

    name = topics.full(settings, "clickstream")
    places = [TopicPartition(name, number) for number in range(settings.log.partitions)]
    out = topics.full(settings, VECTORS)  # compacted, and the worker does not read it
    reader, producer = kafka.reader(settings, "bench"), kafka.producer(settings, "bench")
    await reader.start()
    await producer.start()
    reader.assign(places)
    ends = await reader.end_offsets(places)
    counts: Counter[str] = Counter()
    began, used = time.monotonic(), time.process_time()
    while any([await reader.position(place) < ends[place] for place in places]):
        sent = []
        for place, records in (await reader.getmany(timeout_ms=200, max_records=500)).items():
            touched = {one.shopper: None for record in records for one in decode(record.value) if _is(one)}
            counts.update(touched.keys())
            for shopper in touched:
                value = msgspec.msgpack.encode((counts[shopper], records[-1].offset))
                sent.append(await producer.send(out, key=shopper.encode(), value=value, partition=place.partition))
        await asyncio.gather(*sent)
    run = Run(time.monotonic() - began, time.process_time() - used)
    await reader.stop()
    await producer.stop()
    return run


def _is(found: Any) -> bool:
    return isinstance(found, Event)


def main() -> None:
    """Run all, and print events a second and processor time per event."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--events", type=int, default=50_000)
    asked.add_argument("--pack", type=int, default=50)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    told = events(given.events)
    runs: dict[str, list[Run]] = {}
    with Kafka() as broker:
        for number in range(given.rounds):
            for pack in (1, given.pack):
                settings = shop(broker.bootstrap, f"b{number}-{pack}-", 18_078)
                topics.create(settings)
                write(settings, told, pack)
                runs.setdefault(f"plain loop, {pack} a record", []).append(plain(settings))
                runs.setdefault(f"worker, {pack} a record", []).append(worker(settings, given.events))
    rows = [["path", "events/s", "(least-most)", "CPU us/event", "events/s of one core"]]
    for name, found in runs.items():
        rates = sorted(given.events / one.wall_s for one in found)
        cost = statistics.median(one.cpu_s for one in found) / given.events
        spread = f"({rates[0]:,.0f}-{rates[-1]:,.0f})"
        rows.append([name, f"{statistics.median(rates):,.0f}", spread, f"{1e6 * cost:.1f}", f"{1 / cost:,.0f}"])
    print(table(rows))


if __name__ == "__main__":
    main()
