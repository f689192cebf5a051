"""What happens to workers in the middle of their work, and whether every event was counted once in the end.

Each case is a function that is given a shop whose events wait on the topics. It starts workers, does them
harm while records are left, and returns when all is worked off.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from core.events import Event, parse
from core.settings import Settings
from kafka_dev import Kafka
from streams import topics
from streams.topology import build
from tests.kafka.shop import Message, Worker, drain, eventually, lag, produce, quick_settings, with_worker
from tests.kafka.states import Expected, differences, labels, same, served, states

T: Final = 1_700_000_000_000
NAMES: Final = ("view_item",) * 6 + ("add_to_cart", "purchase", "like")
EX_TEMPFAIL: Final = 75
QUIET_S: Final = 5.0  # all is worked off when nothing came for so long


@lru_cache(maxsize=2)
def events(count: int, seed: int = 1) -> tuple[Event, ...]:
    """Events of some shoppers with sessions that the shop names, so that no order between topics matters."""
    random = np.random.default_rng(seed)
    shoppers = random.integers(0, max(20, count // 25), count).tolist()
    items = (random.random(count) ** 2 * max(20, count // 50)).astype(int).tolist()
    names = random.integers(0, len(NAMES), count).tolist()
    times = (T + np.cumsum(random.integers(1, 2_000, count))).tolist()
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

    def __init__(self, broker: Kafka, settings: Settings, folder: Path, count: int) -> None:
        self.broker, self.settings, self.folder, self.count = broker, settings, folder, count
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

    def busy(self, share: float, *workers: Worker) -> None:
        """Wait until each of these has taken in so much of all events; harm that follows hits it in the middle."""
        wanted = share * self.count
        for one in workers:
            eventually(lambda one=one: told(one, "events") >= wanted, 120.0, "work")  # type: ignore[misc]

    def harmed(self) -> None:
        """Note how much was left when the harm was done."""
        self.left = lag(self.settings).records

    def harmed_as_seen(self, worker: Worker) -> None:
        """The same where no broker can be asked."""
        self.left = int(worker.health().get("lag_records", 0))


def told(worker: Worker, figure: str) -> int:
    """A number of the health page."""
    assert worker.alive, f"it ended: {worker.log.read_text()[-2_000:]}"
    return int(worker.health().get(figure, 0))


# ---------------------------------------------------------------------- cases
def kill(shop: Shop) -> None:
    """SIGKILL of the only worker, and a new one."""
    one = shop.worker()
    shop.busy(0.3, one)
    one.kill()
    shop.harmed()
    shop.worker()


def kill_one_of_two(shop: Shop) -> None:
    """SIGKILL of one of two; the other takes over."""
    one, two = shop.worker(), shop.worker()
    shop.busy(0.1, one, two)
    one.kill()
    shop.harmed()


def broker_away(shop: Shop, seconds: float) -> None:
    """SIGKILL of the broker, which comes back on the same data."""
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
    one, two = shop.worker(), shop.worker()
    shop.busy(0.1, one, two)
    one.tell(signal.SIGSTOP)
    everything = list(range(shop.settings.log.partitions))
    eventually(lambda: two.health().get("partitions") == everything and not two.health()["recovering"], 60.0, "it")
    shop.harmed()
    one.tell(signal.SIGCONT)
    assert one.process.wait(20.0) == EX_TEMPFAIL, "a worker that comes back from the dead has to end"
    shop.worker()


def join_and_leave(shop: Shop) -> None:
    """A second worker comes while the first is busy, and goes while both are."""
    one = shop.worker()
    shop.busy(0.05, one)
    two = shop.worker()
    shop.busy(0.01, two)
    shop.harmed()
    assert two.end() == 0, "a worker that is asked to end has to end well"


CASES: Final[dict[str, Callable[[Shop], None]]] = {
    "a busy worker is killed": kill,
    "one of two busy workers is killed": kill_one_of_two,
    "a worker is stopped past its session and comes back": zombie,
    "a second worker joins and leaves": join_and_leave,
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
def expected(count: int, seed: int = 1) -> Expected:
    """What the runner makes of the events."""
    made = Expected(quick_settings("", ""))
    made.take(events(count, seed))
    return made


def run(name: str, broker: Kafka, prefix: str, folder: Path, count: int, *, seed: int = 1, pack: int = 1) -> Outcome:
    """One run of a case on topics of its own, and how it ended."""
    batch = max(50, count // 50)  # small enough for harm to come in between
    settings = with_worker(quick_settings(broker.bootstrap, prefix), batch=batch)
    topics.create(settings)
    given = events(count, seed)
    produce(settings, given, pack)
    with Shop(broker, settings, folder, count) as shop:
        CASES[name](shop)
        drained_s = drain(settings, 240.0, QUIET_S)
        repeated = sum(int(one.health().get("repeated", 0)) for one in shop.workers)
    wrong = faults(settings, expected(count, seed), given)
    return Outcome(name, count, shop.left, repeated, drained_s, tuple(wrong))


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
