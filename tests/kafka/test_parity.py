"""One log through the runner and through two workers on a real broker: equal states, labels and served lists.

Kafka keeps no order between the topics of one shopper, nor between a visitor's partition and a user's. The log is
therefore written in rounds, each worked off before the next: the catalogue; then, half by half, lists that were
served, clickstream, feedback, and logins. Events name their sessions, and no two have the same time. Within a round
there is nothing that the order of topics or partitions could change, but for what tests/kafka/states.py brings to
one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.catalogue import ItemChange
from core.decision import Decision, Ranked, Request
from core.events import Event, parse
from core.ids import DAY_MS
from core.profile import NOBODY
from core.settings import AttributionSettings, Settings
from jobs.importing import Refusals
from jobs.presets import preset
from kafka_dev import Kafka
from ranker.live import Live
from ranker.recommend import Snapshot, recommend
from streams import topics
from tests.factories import invented_log
from tests.kafka.crashes import miscounted, served_otherwise
from tests.kafka.shop import Message, Worker, drain, produce, quick_settings
from tests.kafka.states import Expected, differences, labels, served, states

ONLINE_RETAIL = (
    Path(__file__).parents[2].parent / "shared" / "data" / "online_retail" / "online_retail_2010_2011.parquet"
)
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


# ---------------------------------------------------------------------- the log
class Log:
    """A recorded log with what a shop without recommendations lacks: shown lists, served lists, feedback, logins."""

    def __init__(self, entries: Iterable[Any], seed: int, events: int) -> None:
        entries = list(entries)
        self.items = [one for one in entries if isinstance(one, ItemChange)]
        recorded = apart([one for one in entries if isinstance(one, Event)])
        self._random = np.random.default_rng(seed)
        self._known = sorted({line.item_id for one in recorded for line in one.items})
        invented = list(self._invented(recorded, max(0, events - len(recorded))))
        self.events = sorted([*recorded, *invented], key=lambda one: one.ts)
        self.logins = [one for one in entries if isinstance(one, Event) and one.user_id and one.visitor_id]

    def rounds(self) -> list[list[Message]]:
        """What is written at a time."""
        made: list[list[Message]] = [list(self.items)]
        middle = len(self.events) // 2
        for half in (self.events[:middle], self.events[middle:]):
            made.append(list(self._lists(half)))
            made += [[one for one in half if one.topic == topic] for topic in ("clickstream", "feedback")]
            made.append(list(self._logins(half)))
        return made

    def _invented(self, recorded: Sequence[Event], count: int) -> Iterator[Event]:
        """Shown lists and feedback of those who did something, a moment after it."""
        for number in range(count):
            after = recorded[int(self._random.integers(len(recorded)))]
            named = {"user_id": after.user_id, "visitor_id": after.visitor_id, "session_id": after.session_id}
            raw = named | {"event_id": f"invented-{number}", "ts": after.ts + 1 + 2 * number % 7_919}
            if number % 3:
                yield parse(raw | {"name": "view_item_list", "items": self._some(5)})
            else:
                name = ("like", "dislike", "rating", "hide")[number // 3 % 4]
                yield parse(raw | {"name": name, "items": self._some(1), "rating": 1 + number % 5})

    def _some(self, count: int) -> list[str]:
        drawn = self._random.choice(len(self._known), count, replace=False)
        return [self._known[place] for place in drawn.tolist()]

    def _lists(self, half: Sequence[Event]) -> Iterator[Decision]:
        """A served list a little before every tenth event, which holds what that was about."""
        for number, one in enumerate(half[::10]):
            shown = dict.fromkeys([*(line.item_id for line in one.items[:2]), *self._some(3)])
            yield Decision(
                recommendation_id=f"r{one.ts}-{number}", ts=one.ts - 60_000, shopper=one.shopper, placement="home",
                bundle="none", ranker="blend", items=tuple([Ranked(item, 1.0) for item in shown]),
            )  # fmt: skip

    def _logins(self, half: Sequence[Event]) -> Iterator[Event]:
        """One event of each visitor who logged in during a half of the log."""
        last = half[-1].ts
        seen = {}
        for one in self.logins:
            if half[0].ts <= one.ts <= last:
                seen[one.visitor_id, one.user_id] = one
        for number, one in enumerate(seen.values()):
            yield parse(
                {
                    "name": "begin_checkout", "event_id": f"login-{last}-{number}", "ts": last + 10_000 + number,
                    "user_id": one.user_id, "visitor_id": one.visitor_id, "session_id": f"login-{last}-{number}",
                }
            )  # fmt: skip


def apart(recorded: Sequence[Event]) -> list[Event]:
    """The events at times of their own, under one of their ids, with a session.

    A log in minutes has many at one time; which of two prices is the newer one would be chance.
    """
    made = []
    for number, one in enumerate(recorded):
        made.append(
            msgspec.structs.replace(
                one,
                ts=20_000 * (one.ts // 20_000) + number % 9_973,
                visitor_id=None if one.user_id else one.visitor_id,
                session_id=one.session_id or f"{one.shopper}-{one.ts // DAY_MS}",
            )
        )
    return sorted(made, key=lambda one: one.ts)


# ---------------------------------------------------------------------- both ways
def parity(log: Log, settings: Settings, folder: Path) -> Expected:
    """Both ways, and everything compared but the served lists."""
    topics.create(settings)
    expected = Expected(settings)
    with ExitStack() as ends:
        workers = [ends.enter_context(Worker(settings, folder)) for _ in range(2)]
        for some in log.rounds():
            produce(settings, some)
            expected.take(some)
            drain(settings, 600.0, 1.0)
        assert all(one.health()["events"] > 0 for one in workers), "one of the two had nothing to do"
    got = states(settings)
    assert differences(settings, expected.states(), got) == []
    assert served_otherwise(settings, got) == []
    assert miscounted(got, log.events) == []
    assert expected.labels
    assert sorted(labels(settings), key=repr) == sorted(expected.labels, key=repr)
    return expected


def lists(settings: Settings, published: Any, shoppers: Sequence[str], now_ms: int) -> dict[str, list[str]]:
    """What those shoppers would be served."""
    live = Live(settings)
    for topic, values in sorted(published.items()):
        for key, value in sorted(values.items()):
            live.offer(topic, key, value)
    snapshot = Snapshot(settings, live)
    found = {}
    for shopper in shoppers:
        profile = published["profiles"].get(shopper) or NOBODY
        request = Request(recommendation_id=f"for-{shopper}", ts=now_ms, shopper=shopper)
        found[shopper] = [one.item_id for one in recommend(request, profile, snapshot).items]
    return found


def shop(broker: Kafka, prefix: str) -> Settings:
    """Whose lists stay open for the whole log."""
    settings = quick_settings(broker.bootstrap, prefix)
    return msgspec.structs.replace(settings, attribution=AttributionSettings(window_s=500 * 86_400.0))


def check(log: Log, settings: Settings, folder: Path, most: int) -> None:
    expected = parity(log, settings, folder)
    shoppers = sorted({one.shopper for one in log.events})[:most]
    now_ms = log.events[-1].ts + 3_600_000
    wanted = lists(settings, expected.published, shoppers, now_ms)
    got = lists(settings, served(settings), shoppers, now_ms)
    assert sum(bool(found) for found in wanted.values()) == len(shoppers)
    assert len({tuple(found) for found in wanted.values()}) > len(shoppers) // 2
    assert [one for one in shoppers if wanted[one] != got[one]] == []


def test_two_workers_come_to_what_the_runner_comes_to(broker: Kafka, prefix: str, tmp_path: Path) -> None:
    log = Log(invented_log(), seed=3, events=2_600)
    assert log.logins
    assert len(log.events) > 2_000
    check(log, shop(broker, prefix), tmp_path, 60)


@pytest.mark.slow
@pytest.mark.skipif(not ONLINE_RETAIL.exists(), reason=f"no recorded sales at {ONLINE_RETAIL}")
def test_two_workers_come_to_what_the_runner_comes_to_on_recorded_sales(
    broker: Kafka, prefix: str, tmp_path: Path
) -> None:
    log = Log(preset("online-retail").read(ONLINE_RETAIL, Refusals()), seed=4, events=50_000)
    assert len(log.events) == 50_000
    check(log, shop(broker, prefix), tmp_path, 500)
