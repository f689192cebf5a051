"""What the gateway counts of itself, in Prometheus' text format and in a short form for the admin page."""

from __future__ import annotations

import re
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
WINDOW_S: Final = 10
KEPT: Final = 1_000  # durations of one route

_CLASSES: Final = (
    ("not_json", "not JSON"),
    ("too_large", "bytes; at most|body is longer"),
    ("too_many", "in one call, got"),
    ("name", "event name|needs a name|name must be"),
    ("shopper", "needs a user_id"),
    ("too_old", "days old"),
    ("ahead", "minutes ahead"),
    ("time", "^ts must|^timestamp"),
    ("currency", "currency"),
    ("transaction", "transaction_id"),
    ("rating", "rating"),
    ("item", "item_id|is about one item"),
)


def reason_class(reason: str) -> str:
    """A word for a refusal, few enough of them to be a label."""
    return next((name for name, pattern in _CLASSES if re.search(pattern, reason)), "invalid")


class Metrics:
    """Counters and histograms of one app, in a registry of its own."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("headwater_events_accepted", "Events in the log", ["name"], registry=self.registry)
        self._items = Counter("headwater_items_accepted", "Catalogue changes in the log", registry=self.registry)
        self._refused = Counter(
            "headwater_refused", "Events, items and calls refused", ["kind", "reason"], registry=self.registry
        )
        self._seconds = Histogram(
            "headwater_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self._requests = Counter("headwater_requests", "Answers", ["route", "status"], registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Described(describe))
        self._children: dict[tuple[str, int], tuple[Histogram, Counter]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._arrivals: deque[list[int]] = deque(maxlen=WINDOW_S + 1)  # [second, events]
        self._totals: Tally[str] = Tally()
        self._started = time.monotonic()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is one of few, never a path as it was asked for."""
        key = (route, status)
        if key not in self._children:
            self._children[key] = (self._seconds.labels(route), self._requests.labels(route, status))
            self._recent.setdefault(route, deque(maxlen=KEPT))
        histogram, counter = self._children[key]
        histogram.observe(seconds)
        counter.inc()
        self._recent[route].append(seconds)

    def events(self, names: list[str]) -> None:
        """Count events that the log has taken."""
        for name, count in Tally(names).items():
            self._events.labels(name).inc(count)
        self._totals["events"] += len(names)
        second = int(time.monotonic())
        if not self._arrivals or self._arrivals[-1][0] != second:
            self._arrivals.append([second, 0])
        self._arrivals[-1][1] += len(names)

    def items(self, count: int) -> None:
        """Count catalogue changes that the log has taken."""
        self._items.inc(count)
        self._totals["items"] += count

    def refused(self, kind: str, reason: str) -> None:
        """Count an event, item or call that was not usable."""
        name = reason_class(reason)
        self._refused.labels(kind, name).inc()
        self._totals[f"refused {name}"] += 1

    def text(self) -> bytes:
        """Everything, for Prometheus to read."""
        return generate_latest(self.registry)

    def summary(self) -> dict[str, Any]:
        """The state in a few numbers: rates over the last ten seconds, latencies of the last thousand calls."""
        now = time.monotonic()
        recent = sum(count for second, count in self._arrivals if now - second <= WINDOW_S)
        totals = dict(self._totals)
        return {
            "uptime_s": round(now - self._started, 1),
            "events": totals.pop("events", 0),
            "items": totals.pop("items", 0),
            "events_per_s": round(recent / min(WINDOW_S, max(1.0, now - self._started)), 1),
            "refused": {name.removeprefix("refused "): count for name, count in totals.items()},
            "routes": {route: _latency(list(values)) for route, values in sorted(self._recent.items())},
        }


def _latency(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    places = {"p50_ms": 0.5, "p99_ms": 0.99}
    values = {name: round(ordered[int(place * (len(ordered) - 1))] * 1e3, 2) for name, place in places.items()}
    return {"calls": len(ordered), **values}


class _Described(Collector):
    """What the engine says of itself, asked when somebody reads the metrics."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe

    def describe(self) -> Iterator[Metric]:
        """Name nothing at registration: the engine may not be running yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One gauge a number, one label a text."""
        texts = {}
        for key, value in self._describe().items():
            if isinstance(value, int | float):
                name = "headwater_engine_" + re.sub(r"\W", "_", key)
                yield GaugeMetricFamily(name, f"{key}, of the engine", value=float(value))
            elif isinstance(value, str):
                texts[re.sub(r"\W", "_", key)] = value
        yield InfoMetricFamily("headwater_engine", "What is being served", value=texts)
