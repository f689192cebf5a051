"""The worker's batches over a Kafka in memory that crashes, repeats itself and hands partitions around."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decision import Decision, Ranked
from core.settings import NeighbourSettings, Settings
from core.stats import ItemStats, Signal
from streams.attribution import Served
from streams.batch import Batch, Record, Write
from streams.kept import Cache, version_of
from streams.log import Entry
from streams.messages import Letter
from streams.partition import partition_of
from streams.topology import STATE_TYPES, Stage, build
from streams.wire import Packet, Told
from tests.factories import MINUTE, T, World, event, item, messages
from tests.kafka.crashes import events
from tests.kafka.shop import record_of
from tests.kafka.states import Expected, differences

PARTITIONS = 3
MAX_BYTES = 10_000
LATER = T + 400 * 86_400_000  # when everything arrives
SHOP = Settings(neighbours=NeighbourSettings(kept=10_000))
Place = tuple[str, int]


_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    name: msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, kind])  # type: ignore[valid-type]
    for name, kind in STATE_TYPES.items()
}


class Cluster:
    """Topics, what is committed, and the tables: all that outlives a worker. One worker at a time works on it."""

    def __init__(self, stages: Sequence[Stage] | None = None) -> None:
        self.stages = stages or build(SHOP)
        self.log: dict[Place, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
        self.committed: dict[Place, int] = defaultdict(int)
        self.values: dict[tuple[str, int, bytes], bytes] = {}
        self.said: list[Record] = []  # to topics that nobody reads
        self.generation = 1
        self._read = {topic for stage in self.stages for topic in stage.reads}
        self.restart()

    def restart(self) -> None:
        """A new worker, which knows what is stored and nothing else."""
        self._cache = Cache(self, 50)
        self.generation += 1

    def get(self, stage: str, partition: int, key: bytes) -> bytes | None:
        return self.values.get((stage, partition, key))

    def write(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        home = partition_of(key or b"", PARTITIONS) if partition is None else partition
        self.log[topic, home].append((key, value))

    def lag(self) -> dict[Place, int]:
        return {place: left for place, log in self.log.items() if (left := len(log) - self.committed[place]) > 0}

    def take(self, asked: dict[Place, int]) -> Batch:
        """A batch of so many records of each place, from what is committed on."""
        batch = Batch(self.stages, self._cache, PARTITIONS, MAX_BYTES, generation=self.generation)
        for (topic, partition), count in asked.items():
            start = self.committed[topic, partition]
            for offset, (key, value) in enumerate(self.log[topic, partition][start : start + count], start):
                batch.take(Entry(topic, partition, offset, key or b"", value, LATER))
        return batch

    def send(self, records: Iterable[Record]) -> None:
        for one in records:
            if one.topic in self._read:
                self.log[one.topic, one.partition].append((one.key, one.value))
            else:
                self.said.append(one)

    def store(self, writes: Iterable[Write]) -> None:
        """As recovery would have it: the value with the highest version."""
        for one in writes:
            place = one.table, one.partition, one.key.encode()
            if place not in self.values or version_of(one.stored) >= version_of(self.values[place]):
                self.values[place] = one.stored
            if one.kept is not None:
                self._cache.put((one.table, one.partition, one.key), one.kept)

    def commit(self, asked: dict[Place, int]) -> None:
        for place, count in asked.items():
            self.committed[place] = min(len(self.log[place]), self.committed[place] + count)

    def work_off(self) -> None:
        while left := self.lag():
            batch = self.take(left)
            self.commit(left)
            self.send(batch.records())
            self.store(batch.writes())

    def states(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {name: {} for name in STATE_TYPES}
        for (stage, partition, key), value in self.values.items():
            assert partition == partition_of(key, PARTITIONS)
            found[stage][key.decode()] = _decoders[stage].decode(value)[2]
        return found


def work_badly(cluster: Cluster, draw: Callable[..., Any], most_faults: int) -> None:
    """Work everything off in batches of any size, with crashes at any moment, and with much that comes twice."""
    faults = 0
    while left := cluster.lag():
        places = draw(st.lists(st.sampled_from(sorted(left)), min_size=1, unique=True))
        asked = {place: draw(st.integers(1, left[place])) for place in places}
        batch = cluster.take(asked)
        records, writes = list(batch.records()), list(batch.writes())
        fault = draw(st.sampled_from(("", "", "before", "sending", "storing", "stored", "rewound", "again")))
        faults += 1
        if fault == "" or faults > most_faults:
            cluster.send(records)
            cluster.store(writes)
            cluster.commit(asked)
            continue
        if fault == "sending":
            cluster.send(records[: draw(st.integers(0, len(records)))])
        elif fault in ("storing", "stored"):
            cluster.send(records)
            cluster.store(writes if fault == "stored" else writes[: draw(st.integers(0, len(writes)))])
        elif fault == "rewound":
            place = draw(st.sampled_from(sorted(cluster.log)))
            cluster.committed[place] = draw(st.integers(0, cluster.committed[place]))
        elif fault == "again":
            packets = [place for place in sorted(cluster.log) if place[0] in ("item-signals", "identity")]
            if packets:
                place = draw(st.sampled_from(packets))
                cluster.log[place].append(cluster.log[place][draw(st.integers(0, len(cluster.log[place]) - 1))])
        cluster.restart()


def written(cluster: Cluster, message: Any) -> None:
    if isinstance(message, Served):
        shown = tuple([Ranked(one, 1.0) for one in message.items])
        message = Decision(
            recommendation_id=message.recommendation_id, ts=message.ts, shopper=message.shopper, placement="p",
            bundle="", ranker="blend", items=shown,
        )  # fmt: skip
    one = record_of(message)
    cluster.write(one.topic, one.key, one.value)


@settings(max_examples=30)
@given(messages(most=8), st.data())
def test_any_log_ends_in_the_runners_states_whatever_crashes_and_comes_twice(
    log: list[Any], data: st.DataObject
) -> None:
    """Message by message, since Kafka keeps no order between the topics of one shopper.

    Lists come first: an act that followed none leaves no mark, and repeated after a late list it would follow that.
    """
    log = sorted(log, key=lambda one: not isinstance(one, Served))
    cluster, world = Cluster(), World(SHOP)
    for message in log:
        written(cluster, message)
        work_badly(cluster, data.draw, 5)
        world.take(message)
    wanted = {name: dict(table.items()) for name, table in world.runner.tables.items()}
    empty = {stage.name: stage.empty for stage in cluster.stages}
    got = cluster.states()
    for name, table in wanted.items():
        nothing = empty[name]
        assert {key: got[name].get(key, nothing) for key in table.keys() | got[name].keys()} == {
            key: table.get(key, nothing) for key in table.keys() | got[name].keys()
        }
    told = {(one.value or b"", dict(one.headers).get("origin")) for one in cluster.said if one.topic == "labelled"}
    assert sorted(value for value, _ in told) == sorted(
        msgspec.msgpack.encode(value) for topic, _, value in world.emitted if topic == "labelled"
    )


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 7), st.data())
def test_any_split_into_batches_and_any_replay_give_the_runners_states(
    seed: int, pack: int, data: st.DataObject
) -> None:
    cluster, log = Cluster(), events(40, seed)
    packs: dict[Place, list[bytes]] = defaultdict(list)
    for one in log:
        packs[one.topic, partition_of(one.shopper.encode(), PARTITIONS)].append(record_of(one).value or b"")
    for (topic, partition), values in packs.items():
        for start in range(0, len(values), pack):
            cluster.write(topic, None, b"[" + b",".join(values[start : start + pack]) + b"]", partition)
    work_badly(cluster, data.draw, 12)
    expected = Expected(SHOP)
    expected.take(log)
    assert differences(SHOP, expected.states(), cluster.states()) == []


# ---------------------------------------------------------------------- versions
def ida(cluster: Cluster) -> tuple[str, int, bytes]:
    return "profile", partition_of(b"ida", PARTITIONS), b"ida"


def test_what_a_former_owner_writes_late_is_older_than_what_the_new_one_has_written() -> None:
    cluster = Cluster()
    for n in range(5):
        written(cluster, event("view_item", f"i{n}", ts=T + n))
    written(cluster, event("like", "i9", ts=T + 9))
    clicks, likes = {("clickstream", ida(cluster)[1]): 5}, {("feedback", ida(cluster)[1]): 1}
    late = list(cluster.take(clicks).writes())  # has come further in clickstream, and knows nothing of feedback
    cluster.restart()
    batch = cluster.take(likes)
    cluster.send(batch.records())
    cluster.store(batch.writes())
    cluster.commit(likes)
    cluster.store(late)
    cluster.restart()
    cluster.work_off()
    profile = cluster.states()["profile"]["ida"]
    assert sorted(profile.memory) == ["i0", "i1", "i2", "i3", "i4", "i9"]


def test_a_published_version_of_a_later_era_is_higher_than_any_before() -> None:
    def version(era: int, generation: int) -> int:
        batch = Batch(build(SHOP), Cache(Cluster(), 5), PARTITIONS, MAX_BYTES, era, generation)
        one = record_of(event("view_item", "a"))
        batch.take(Entry("clickstream", partition_of(one.key, PARTITIONS), 0, one.key, one.value, LATER))
        (published,) = [one.published for one in batch.writes() if one.published is not None]
        found: int = msgspec.msgpack.decode(published.value or b"")[0]
        return found

    assert version(1, 1) < version(1, 2) < version(1, 1 << 27) < version(2, 1)


def test_a_signal_is_known_again_though_other_partners_come_before_it() -> None:
    """Worked on again, an event may meet another session: its repeated sale of an item must not count twice."""
    before = Cluster()
    written(before, event("purchase", "a", ts=T, session_id="s1"))
    before.work_off()
    second = event("purchase", "a", "b", ts=T + MINUTE, session_id="s2", transaction_id="t2")
    written(before, second)
    place = "clickstream", partition_of(b"ida", PARTITIONS)
    once = before.take({place: 1})
    before.send(once.records())
    before.restart()
    other = event("add_to_cart", "c", ts=T, session_id="s2")
    key = ida(before)
    world = World(SHOP).take(event("purchase", "a", ts=T, session_id="s1"), event("purchase", "c", session_id="s2"))
    assert other.shopper == "ida"
    kept = msgspec.msgpack.decode(before.values[key], type=tuple[int, msgspec.Raw, msgspec.Raw])
    before.values[key] = msgspec.msgpack.encode((kept[0], kept[1], world.state("profile", "ida")))
    before.work_off()
    stats = before.states()["popularity"]["a"]
    assert isinstance(stats, ItemStats)
    assert (stats.counters["buy"].total, stats.counters["again"].total) == (2.0, 1.0)


# ---------------------------------------------------------------------- bad records
def letters(cluster: Cluster) -> list[Letter]:
    return [msgspec.json.decode(one.value or b"", type=Letter) for one in cluster.said if one.topic == "dead-letter"]


def test_of_a_packed_record_only_the_bad_event_is_refused() -> None:
    cluster, home = Cluster(), partition_of(b"ida", PARTITIONS)
    good = [record_of(event("view_item", name)).value or b"" for name in "ab"]
    cluster.write("clickstream", None, b"[" + good[0] + b',{"name":"stare"},' + good[1] + b"]", home)
    cluster.work_off()
    (letter,) = letters(cluster)
    assert (letter.origin, letter.raw) == (f"clickstream/{home}/0/1", '{"name":"stare"}')
    assert sorted(cluster.states()["profile"]["ida"].memory) == ["a", "b"]


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        ("clickstream", b'{"name":', "not JSON"),
        ("clickstream", b"\xff\xfe", "not JSON"),
        ("feedback", b'"text"', "an event is a JSON object"),
        ("clickstream", b'[{"name":"view_item","v":9,"user_id":"u","item_id":"i","ts":1}]', "version 1"),
        ("clickstream", b" " * (MAX_BYTES + 1), "at most 10,000"),
        ("items", b"[]", "an item is a JSON object"),
        ("decisions", b"\xc1", "cannot be read"),
        ("item-signals", b"\x00", "no packet of this version"),
        ("item-signals", None, "no packet of this version"),
        ("identity", msgspec.msgpack.encode([1, "tea", 0, []]), "no packet of this version"),
    ],
)
def test_a_bad_record_becomes_a_letter_that_says_why_and_from_where(
    topic: str, value: bytes | None, reason: str
) -> None:
    cluster = Cluster()
    cluster.write(topic, b"k", value, 1)
    cluster.work_off()
    (letter,) = letters(cluster)
    assert reason in letter.reason
    assert letter.origin.startswith(f"{topic}/1/0")
    assert cluster.values == {}


def test_a_packet_of_an_unknown_version_is_refused() -> None:
    signal = msgspec.Raw(msgspec.msgpack.encode(Signal(1, "a", "view", T)))
    packet = Packet(9, "clickstream", 0, (Told((0, 0, 0), "a", signal),))
    cluster = Cluster()
    cluster.write("item-signals", None, msgspec.msgpack.encode(packet), partition_of(b"a", PARTITIONS))
    cluster.work_off()
    assert len(letters(cluster)) == 1
    assert cluster.values == {}


def test_a_record_without_a_value_says_nothing_and_on_items_it_is_a_removal() -> None:
    cluster = Cluster()
    cluster.write("clickstream", b"ida", None)
    written(cluster, item("pot"))
    cluster.write("items", b"pot", None)
    cluster.work_off()
    assert letters(cluster) == []
    assert cluster.states()["catalogue"]["pot"].item is None


def test_an_event_in_a_foreign_partition_goes_home_and_counts_there() -> None:
    cluster, home = Cluster(), partition_of(b"ida", PARTITIONS)
    one = record_of(event("view_item", "a"))
    cluster.write("clickstream", one.key, one.value, (home + 1) % PARTITIONS)
    cluster.work_off()
    assert len(cluster.log["clickstream", home]) == 1
    assert cluster.states()["profile"]["ida"].memory["a"].views == 1


def test_a_step_that_fails_loses_no_other_step_and_leaves_a_letter() -> None:
    def fail(state: Any, message: Any) -> Any:
        raise ZeroDivisionError("half a shopper")

    stages = [one if one.name != "attribution" else one._replace(step=fail) for one in build(SHOP)]
    cluster = Cluster(stages)
    written(cluster, event("view_item", "a"))
    cluster.work_off()
    (letter,) = letters(cluster)
    assert "attribution failed: ZeroDivisionError" in letter.reason
    assert cluster.states()["profile"]["ida"].memory["a"].views == 1


def test_a_batch_that_is_given_up_leaves_no_trace() -> None:
    cluster = Cluster()
    written(cluster, event("view_item", "a"))
    cluster.work_off()
    before = dict(cluster.values)
    written(cluster, event("view_item", "b"))
    batch = cluster.take(cluster.lag())
    assert list(batch.records())
    assert list(batch.writes())
    assert cluster.values == before
    cluster.work_off()
    assert sorted(cluster.states()["profile"]["ida"].memory) == ["a", "b"]


def test_many_signals_are_cut_into_records_of_a_size_that_topics_take() -> None:
    cluster = Cluster()
    home = partition_of(b"ida", PARTITIONS)
    for n in range(600):
        written(cluster, event("view_item", f"i{n % 7}", ts=T + n, session_id=f"s{n}"))
    batch = cluster.take({("clickstream", home): 600})
    sizes = [len(msgspec.msgpack.decode(one.value or b"", type=Packet).told) for one in batch.records()]
    assert sum(sizes) == 600
    assert max(sizes) <= 500
