"""What happens to workers in the middle of their work, and whether every event was counted once in the end.

Each case is a function that is given a shop. It has events written, starts workers, and does them harm while
records are left.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from core.errors import Unavailable
from core.events import Event, parse
from core.settings import GatewaySettings, Settings
from gateway.client import Client
from kafka_dev import Kafka
from streams import topics
from streams.partition import partition_of
from streams.topology import build
from tests.kafka.shop import Message, Worker, drain, eventually, free_port, lag, produce, quick_settings, with_worker
from tests.kafka.states import Expected, differences, labels, same, served, states

T: Final = 1_700_000_000_000
NAMES: Final = ("view_item",) * 6 + ("add_to_cart", "purchase", "like")
EX_TEMPFAIL: Final = 75
QUIET_S: Final = 5.0  # all is worked off when nothing came for so long


@lru_cache(maxsize=2)
def events(count: int, seed: int = 1, start: int = T) -> tuple[Event, ...]:
    """Events of some shoppers with sessions that the shop names, so that no order between topics matters."""
    random = np.random.default_rng(seed)
    shoppers = random.integers(0, max(20, count // 25), count).tolist()
    items = (random.random(count) ** 2 * max(20, count // 50)).astype(int).tolist()
    names = random.integers(0, len(NAMES), count).tolist()
    times = (start + np.cumsum(random.integers(1, 2_000, count))).tolist()
    return tuple(
        parse(
            {
                "name": NAMES[names[n]], "event_id": f"e{n}", "ts": times[n], "user_id": f"u{shoppers[n]}",
                "item_id": f"i{items[n]}", "session_id": f"s{shoppers[n]}-{5 * n // count}",
                "transaction_id": f"t{n}", "currency": "EUR",
            }
        )
        for n in range(count)
    )  # fmt: skip


class Shop:
    """A shop of one case: its settings, broker and workers, all of which end with the block."""

    def __init__(self, broker: Kafka, settings: Settings, folder: Path, given: Sequence[Event], pack: int) -> None:
        self.broker, self.settings, self.folder, self.count = broker, settings, folder, len(given)
        self.given, self._pack, self._feeding = given, pack, list[threading.Thread]()
        self.left = 0  # records that were not committed when the harm was done
        self.workers: list[Worker] = []
        self._ends = ExitStack()

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def worker(self) -> Worker:
        """Start one more."""
        made = self._ends.enter_context(Worker(self.settings, self.folder))
        self.workers.append(made)
        return made

    def pair(self) -> tuple[Worker, Worker]:
        """Two workers that share the partitions, before there is anything to do."""
        one, two = self.worker(), self.worker()
        half = self.settings.log.partitions // 2
        for each in (one, two):
            eventually(lambda each=each: settled(each, half), 60.0, "sharing")  # type: ignore[misc]
        return one, two

    def feed(self, start: float = 0.0, end: float = 1.0) -> None:
        """Begin to write the events, or a part of them, once those before are written."""
        self.fed()
        part = self.given[round(start * self.count) : round(end * self.count)]
        self._feeding.append(threading.Thread(target=produce, args=(self.settings, part, self._pack)))
        self._feeding[-1].start()

    def fed(self) -> None:
        """Wait until what was begun is written."""
        for one in self._feeding:
            one.join()

    def busy(self, share: float, *workers: Worker) -> None:
        """Wait until each of these has taken in so much of all events; harm that follows hits it in the middle."""
        wanted = share * self.count
        for one in workers:
            eventually(lambda one=one: told(one, "events") >= wanted, 120.0, "work")  # type: ignore[misc]

    def harmed(self) -> None:
        """Note how much was left when the harm was done."""
        self.left = lag(self.settings).records

    def harmed_as_seen(self, worker: Worker) -> None:
        """The same where no broker can be asked: events that the worker has not taken in."""
        self.left = self.count - told(worker, "events")


def settled(worker: Worker, partitions: int) -> bool:
    """Whether it has so many partitions and has recovered them."""
    found = worker.health()
    return bool(found) and not found["recovering"] and len(found["partitions"]) == partitions


def told(worker: Worker, figure: str) -> int:
    """A number of the health page."""
    assert worker.alive, f"it ended: {worker.log.read_text()[-2_000:]}"
    return int(worker.health().get(figure, 0))


# ---------------------------------------------------------------------- cases
def kill(shop: Shop) -> None:
    """SIGKILL of the only worker, and a new one."""
    shop.feed()
    shop.fed()
    one = shop.worker()
    shop.busy(0.3, one)
    one.kill()
    shop.harmed()
    shop.worker()


def kill_one_of_two(shop: Shop) -> None:
    """SIGKILL of one of two; the other takes over."""
    one, two = shop.pair()
    shop.feed()
    shop.busy(0.05, one, two)
    one.kill()
    shop.harmed()


def broker_away(shop: Shop, seconds: float) -> None:
    """SIGKILL of the broker, which comes back on the same data."""
    shop.feed()
    shop.fed()
    one = shop.worker()
    shop.busy(0.3, one)
    shop.broker.kill()
    shop.harmed_as_seen(one)
    time.sleep(seconds)
    shop.broker.start()


def broker_away_10_s(shop: Shop) -> None:
    """SIGKILL of the broker for 10 s."""
    broker_away(shop, 10.0)


def broker_away_60_s(shop: Shop) -> None:
    """SIGKILL of the broker for 60 s."""
    broker_away(shop, 60.0)


def zombie(shop: Shop) -> None:
    """SIGSTOP of one of two for longer than its session; SIGCONT once the other has taken over and is busy."""
    one, two = shop.pair()
    shop.feed()
    shop.busy(0.05, one, two)
    one.tell(signal.SIGSTOP)
    eventually(lambda: settled(two, shop.settings.log.partitions), 60.0, "taking over")
    shop.harmed()
    one.tell(signal.SIGCONT)
    assert one.process.wait(20.0) == EX_TEMPFAIL, "a worker that comes back from the dead has to end"
    shop.worker()


def join_and_leave(shop: Shop) -> None:
    """A second worker comes while the first is busy, and goes while both are."""
    shop.feed(0.0, 0.5)
    one = shop.worker()
    shop.busy(0.05, one)
    two = shop.worker()
    eventually(lambda: settled(two, shop.settings.log.partitions // 2), 60.0, "sharing")
    shop.feed(0.5, 1.0)
    shop.busy(0.01, two)
    shop.harmed()
    assert two.end() == 0, "a worker that is asked to end has to end well"


def gateway_killed(shop: Shop) -> None:
    """SIGKILL of the gateway under posts, and a new one with its spool; what was not acknowledged is posted again."""
    shop.worker()
    posted = Posts(shop)
    with Worker(shop.settings, shop.folder, "gateway") as first:
        posted.begin()
        eventually(lambda: posted.acknowledged > 0.3 * shop.count, 240.0, "accepting")
        first.kill()
        shop.left = shop.count - posted.acknowledged
    with Worker(shop.settings, shop.folder, "gateway"):
        posted.end()


class Posts:
    """Callers that post all events, each those of some shoppers in their order, until every one is acknowledged."""

    def __init__(self, shop: Shop, callers: int = 4, at_once: int = 10) -> None:
        self._url = f"http://127.0.0.1:{shop.settings.gateway.port}"
        self._at_once, self.acknowledged, self._lock = at_once, 0, threading.Lock()
        mine: list[list[Event]] = [[] for _ in range(callers)]
        for one in shop.given:
            mine[partition_of(one.shopper.encode(), callers)].append(one)
        self._threads = [threading.Thread(target=self._post, args=(some,)) for some in mine]

    def begin(self) -> None:
        for one in self._threads:
            one.start()

    def end(self) -> None:
        for one in self._threads:
            one.join()

    def _post(self, mine: Sequence[Event]) -> None:
        with Client(self._url) as client:
            for start in range(0, len(mine), self._at_once):
                self._insist(client, mine[start : start + self._at_once])

    def _insist(self, client: Client, some: Sequence[Event]) -> None:
        ends = time.monotonic() + 120.0
        while True:
            try:
                reply = client.post("/v1/events", some)
                break
            except Unavailable:
                assert time.monotonic() < ends, "nobody accepts"
                time.sleep(0.05)
        assert reply["accepted"] == len(some), reply
        with self._lock:
            self.acknowledged += len(some)


GATEWAY: Final = "the gateway is killed under posts"
CASES: Final[dict[str, Callable[[Shop], None]]] = {
    "a busy worker is killed": kill,
    "one of two busy workers is killed": kill_one_of_two,
    "a worker is stopped past its session and comes back": zombie,
    "a second worker joins and leaves": join_and_leave,
    GATEWAY: gateway_killed,
    "the broker is killed and away for 10 s": broker_away_10_s,
    "the broker is killed and away for 60 s": broker_away_60_s,
}


# ---------------------------------------------------------------------- judging
class Outcome(msgspec.Struct, frozen=True):
    """What came of one run. `left` is the lag when the harm was done; `repeated` what was read again and skipped."""

    case: str
    events: int
    left: int
    repeated: int
    drained_s: float
    wrong: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not self.wrong


@lru_cache(maxsize=2)
def expected(given: Sequence[Event]) -> Expected:
    """What the runner makes of the events."""
    made = Expected(quick_settings("", ""))
    made.take(given)
    return made


def run(name: str, broker: Kafka, prefix: str, folder: Path, count: int, *, seed: int = 1, pack: int = 1) -> Outcome:
    """One run of a case on topics of its own, and how it ended."""
    settings = settings_of(broker, prefix, folder, count)
    topics.create(settings)
    start = round(1_000 * (time.time() - 2 * count)) if name == GATEWAY else T  # which takes nothing that is old
    given = events(count, seed, start)
    with Shop(broker, settings, folder, given, pack) as shop:
        CASES[name](shop)
        shop.fed()
        drained_s = drain(settings, 240.0, QUIET_S)
        repeated = sum(int(one.health().get("repeated", 0)) for one in shop.workers)
    wrong = faults(settings, expected(given), given)
    return Outcome(name, count, shop.left, repeated, drained_s, tuple(wrong))


def settings_of(broker: Kafka, prefix: str, folder: Path, count: int) -> Settings:
    """With batches small enough for harm to come between two of them."""
    settings = with_worker(quick_settings(broker.bootstrap, prefix), batch=max(50, count // 50))
    spool = msgspec.structs.replace(settings.kafka, spool=folder / f"{prefix}spool")
    return msgspec.structs.replace(settings, kafka=spool, gateway=GatewaySettings(port=free_port()))


def faults(settings: Settings, wanted: Expected, given: Sequence[Message]) -> list[str]:
    """Everything that is not as the runner has it: states, what is served, labels, and each event's own count."""
    got = states(settings)
    found = differences(settings, wanted.states(), got)
    found += served_otherwise(settings, got)
    if sorted(labels(settings), key=repr) != sorted(wanted.labels, key=repr):
        found.append("labels differ")
    return found + miscounted(got, given)


def served_otherwise(settings: Settings, got: Any) -> list[str]:
    """Serving topics whose newest value is not that of the state."""
    found = []
    for stage in build(settings):
        if not stage.publishes:
            continue
        there = served(settings)[stage.publishes]
        for key, state in got[stage.name].items():
            value, wanted = there.get(key), stage.serve(state)
            if not same(*(None if one is None else msgspec.to_builtins(one) for one in (value, wanted))):
                found.append(f"{stage.publishes} {key} is not served as it stands")
    return found[:20]


def miscounted(got: Any, given: Sequence[Message]) -> list[str]:
    """Views of an item, by its counter, against the events themselves: no runner is asked."""
    wanted: dict[str, int] = {}
    for one in given:
        if isinstance(one, Event) and one.name == "view_item":
            wanted[one.items[0].item_id] = wanted.get(one.items[0].item_id, 0) + 1
    have = {
        key: int(state.counters["view"].total)
        for key, state in got["popularity"].items()
        if "view" in state.counters and key in wanted
    }
    pairs = [(key, have.get(key, 0), count) for key, count in wanted.items()]
    return [f"views of {key}: {found}, were {count}" for key, found, count in pairs if found != count][:20]
