"""A recorded log through the steps into the live arrays: events a second, and memory.

    python benchmarks/replay_speed.py [--events 1000000] [--items 100000] [--shoppers 100000] [--stream FILE]

Without a stream the log is made up: sessions of a few views, some with a basket and a purchase,
items with a long tail within categories. With one, that recorded stream is read and played.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.catalogue import ItemChange
from core.events import Event, Line
from core.ids import DAY_MS
from core.settings import Settings
from evaluation.replay import steady_memory
from ranker.live import Live
from streams.recorded import Query, read
from streams.runner import Runner
from streams.topology import build

START = 1_700_000_000_000
SPAN_MS = 30 * DAY_MS
REFRESH = 1_000  # events between two looks at the arrays, as when requests come now and then


def made_up(events: int, items: int, shoppers: int) -> Iterator[Event | ItemChange]:
    """Items first, then events in time order."""
    rng = np.random.default_rng(7)
    for n in range(items):
        paths = (f"C{n % 20} > D{n % 400}",)
        yield ItemChange(item_id=f"i{n}", ts=START, title=f"Item {n}", price=float(n % 97 + 1), categories=paths)
    sent, ts = 0, START
    step = SPAN_MS // max(1, events // 5)
    while sent < events:
        ts += step
        shopper, theme = int(rng.integers(shoppers)), int(rng.integers(400))
        seen = [f"i{(int(rng.pareto(1.1) * 3) * 400 + theme) % items}" for _ in range(int(rng.geometric(0.25)))]
        for place, item in enumerate(seen):
            yield _event("view_item", f"e{sent}", ts + place * 20_000, shopper, [item])
            sent += 1
        if rng.random() < 0.3:
            basket = list(dict.fromkeys(seen))[:3]
            yield _event("add_to_cart", f"e{sent}", ts + 400_000, shopper, basket)
            yield _event("purchase", f"e{sent + 1}", ts + 500_000, shopper, basket)
            sent += 2


def _event(name: str, event_id: str, ts: int, shopper: int, items: list[str]) -> Event:
    lines = tuple([Line(item, 1.0, 9.9) for item in items])
    bought = {"transaction_id": event_id, "currency": "EUR"} if name == "purchase" else {}
    return Event(name=name, event_id=event_id, ts=ts, user_id=f"s{shopper}", items=lines, **bought)


def memory_mb() -> float:
    """Peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Feed the log, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shoppers", type=int, default=100_000)
    parser.add_argument("--stream", type=Path, help="a recorded stream instead of a made-up log")
    args = parser.parse_args()
    settings = Settings()
    live = Live(settings)
    runner = Runner(build(settings), live.offer, lambda topic, key, value: None)
    log = read(args.stream) if args.stream else made_up(args.events, args.items, args.shoppers)
    empty = memory_mb()
    count = lines = 0
    steps_s = steps_cpu = 0.0
    with steady_memory():
        for message in log:
            if isinstance(message, Query):
                continue
            began, began_cpu = time.perf_counter(), time.process_time()
            runner.accept(message)
            count += isinstance(message, Event)
            lines += len(message.items) if isinstance(message, Event) else 1
            if count % REFRESH == 0:
                live.refresh()
            steps_s += time.perf_counter() - began
            steps_cpu += time.process_time() - began_cpu
        live.refresh()
    print(f"{'events':>12}{'item lines':>12}{'events/s':>12}{'lines/s':>12}{'CPU us/line':>14}{'memory MB':>12}")
    print(
        f"{count:12,}{lines:12,}{count / steps_s:12,.0f}{lines / steps_s:12,.0f}"
        f"{steps_cpu / lines * 1e6:14.1f}{memory_mb() - empty:12,.0f}"
    )
    profiles, items = (sum(1 for _ in runner.tables[name].items()) for name in ("profile", "popularity"))
    print(f"{profiles:,} profiles, {items:,} item and category counters; {empty:,.0f} MB before the first event")


if __name__ == "__main__":
    main()
