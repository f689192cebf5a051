"""How long a worker and a gateway take to come back with many profiles, and what they hold in memory.

    python benchmarks/recovery.py [--profiles 1000000]

Profiles of eight acts each are written to the workers' changelog and to the topic profiles; then
a worker and a gateway start, one after the other. Needs Java 17 and Maven (once).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import msgspec
from kafka_bench import cpu_s, events, health, process, shop, table, until

from core.profile import NOBODY, Profile
from core.settings import Settings
from kafka_dev import Kafka
from streams import topics
from streams.batch import Record
from streams.kept import stored
from streams.partition import partition_of
from streams.profile import Limits, observe
from streams.sender import Sender
from streams.wire import serve

ACTS = 8
CHUNK = 20_000


def examples() -> list[Profile]:
    """Profiles as the step makes them."""
    base, found = Settings(), list[Profile]()
    limits = Limits(base.profile, base.neighbours)
    told = events(ACTS * 500, shoppers=1)
    for start in range(0, len(told), ACTS):
        profile = NOBODY
        for event in told[start : start + ACTS]:
            profile, _ = observe(profile, event, limits)
        found.append(profile)
    return found


async def fill(settings: Settings, count: int) -> int:
    """Write so many profiles; bytes of all changelog values."""
    made = [msgspec.Raw(msgspec.msgpack.encode(one)) for one in examples()]
    sender, size = Sender(settings), 0
    await sender.start()
    changelog, serving = topics.changelog(settings, "profile"), topics.full(settings, "profiles")
    for start in range(0, count, CHUNK):
        records = []
        for number in range(start, min(count, start + CHUNK)):
            key, state = b"u%d" % number, made[number % len(made)]
            partition = partition_of(key, settings.log.partitions)
            value = stored(ACTS, {0: (number, 0, 0)}, state)
            size += len(value)
            records.append(Record(changelog, partition, key, value))
            records.append(Record(serving, partition, key, serve(ACTS, state)))
        await sender.send(records, lambda: True)
    await sender.stop()
    return size


def resident(pid: int) -> int:
    """Bytes a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


def main() -> None:
    """Fill, start both, and print what they took."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--profiles", type=int, default=1_000_000)
    count = asked.parse_args().profiles
    rows = [["process", "profiles", "ready after s", "CPU s", "resident MB"]]
    with Kafka() as broker:
        settings = shop(broker.bootstrap, "r-", 18_079)
        settings = msgspec.structs.replace(settings, gateway=msgspec.structs.replace(settings.gateway, port=18_080))
        topics.create(settings)
        size = asyncio.run(fill(settings, count))
        for verb, well in (("worker", lambda: health(18_079).get("healthy")), ("gateway", _gateway_ready)):
            began = time.monotonic()
            with process(verb, settings) as started:
                until(lambda well=well: bool(well()))
                took = time.monotonic() - began
                used, held = cpu_s(started.pid), resident(started.pid) / 1e6
                rows.append([verb, f"{count:,}", f"{took:.1f}", f"{used:.1f}", f"{held:,.0f}"])
    print(f"{size / count:,.0f} bytes a profile in the changelog")
    print(table(rows))


def _gateway_ready() -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen("http://127.0.0.1:18080/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.HTTPError, OSError):
        return False


if __name__ == "__main__":
    main()
