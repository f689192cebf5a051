"""The topics on Kafka: what they are called, how they must be, and how they are.

Topics are made before anything reads them; nothing here deletes or changes one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from core.errors import BadSettings, Unavailable
from core.settings import Settings
from streams import kafka
from streams.messages import DEAD_LETTERS
from streams.topology import DERIVED, SERVING, SOURCES, STATE_TYPES
from streams.wire import VECTORS

VECTOR_TABLE: Final = "vectors"
TABLES: Final = (*STATE_TYPES, VECTOR_TABLE)
ARRIVAL: Final = ("clickstream", "feedback", "items", "decisions", "labelled", DEAD_LETTERS)
"""Topics whose records carry the broker's time: a clock of a shop's back end cannot delay or hasten their end."""

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
COMPACTED: Final = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": "600000",
    "delete.retention.ms": "86400000",
}
MAKE_S: Final = 60.0
_EXISTS: Final = 36


class Topic(msgspec.Struct, frozen=True):
    """A topic as it must be or as it is; `config` holds those of Kafka's settings that matter to us, as Kafka has them.

    `trouble` names partitions that cannot take records, and `records` counts those it holds; both are of real ones.
    """

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    trouble: tuple[str, ...] = ()
    records: int = 0


# ---------------------------------------------------------------------- names
def full(settings: Settings, name: str) -> str:
    """The name of a topic, of a group or of the workers' app, on the cluster.

    >>> full(msgspec.convert({"kafka": {"prefix": "shop-"}}, Settings), "clickstream")
    'shop-clickstream'
    """
    return settings.kafka.prefix + name


def app_id(settings: Settings) -> str:
    """The workers' group as Faust names it, from version 2 on with the version."""
    version = settings.worker.version
    return full(settings, settings.worker.group) + (f"-v{version}" if version > 1 else "")


def changelog(settings: Settings, table: str) -> str:
    """The topic in which the workers keep a table, as Faust names it.

    >>> changelog(Settings(), "profile")
    'worker-profile-changelog'
    """
    return f"{app_id(settings)}-{table}-changelog"


# ---------------------------------------------------------------------- what must be
def wanted(settings: Settings) -> list[Topic]:
    """Every topic as it must be.

    Raises:
        BadSettings: the prefix or group makes a name that Kafka does not take.
    """
    names = {name: full(settings, name) for name in (*SOURCES, *DERIVED, DEAD_LETTERS, *SERVING, VECTORS)}
    topics = [_topic(settings, named, _config(settings, name)) for name, named in names.items()]
    topics += [_topic(settings, changelog(settings, table), COMPACTED) for table in TABLES]
    for one in topics:
        if not NAME.fullmatch(one.name):
            raise BadSettings(f"kafka.prefix and worker.group make the topic {one.name!r:.300}; wanted {NAME.pattern}")
    return topics


def _topic(settings: Settings, name: str, config: Mapping[str, str]) -> Topic:
    shared = {"max.message.bytes": str(kafka.MAX_RECORD), "min.insync.replicas": str(settings.kafka.min_insync)}
    return Topic(name, settings.log.partitions, settings.kafka.replication, {**config, **shared})


def _config(settings: Settings, name: str) -> dict[str, str]:
    arrival = {"message.timestamp.type": "LogAppendTime"} if name in ARRIVAL else {}
    if name == "items" or name in SERVING or name == VECTORS:
        return {**COMPACTED, **arrival}
    kept_s = {"item-signals": settings.kafka.signals_kept_s, DEAD_LETTERS: settings.kafka.letters_kept_s}
    seconds = kept_s.get(name, settings.kafka.events_kept_s)
    return {"cleanup.policy": "delete", "retention.ms": str(round(1000 * seconds)), **arrival}


def differences(wants: Sequence[Topic], has: Mapping[str, Topic]) -> list[str]:
    """What is otherwise than it must be, a line each."""
    return [line for want in wants for line in _differences(want, has.get(want.name))]


def _differences(want: Topic, has: Topic | None) -> Iterator[str]:
    if has is None:
        yield f"{want.name}: missing"
        return
    if has.partitions != want.partitions:
        yield f"{want.name}: {has.partitions} partitions, wanted {want.partitions}"
    if has.replication != want.replication:
        yield f"{want.name}: {has.replication} copies, wanted {want.replication}"
    for key, value in want.config.items():
        got = has.config.get(key, "unset")
        if not _same(got, value):
            yield f"{want.name}: {key} is {got}, wanted {value}"
    yield from (f"{want.name}: {one}" for one in has.trouble)


def _same(got: str, want: str) -> bool:
    try:
        return float(got) == float(want)
    except ValueError:
        return got == want


# ---------------------------------------------------------------------- what is
def create(settings: Settings) -> list[str]:
    """Make the topics that are missing, and give their names. Those that are there stay as they are.

    Raises:
        BadSettings: no brokers are named, or a name cannot be.
        Missing: aiokafka is not installed.
        Unavailable: Kafka does not answer or refuses.
    """
    return asyncio.run(make(settings))


def check(settings: Settings) -> list[str]:
    """What is otherwise than it must be; raises as `create` does."""
    return differences(wanted(settings), asyncio.run(found(settings)))


def describe(settings: Settings) -> list[list[str]]:
    """A table of our topics, its head first; raises as `create` does."""
    has = asyncio.run(found(settings))
    rows = [["topic", "partitions", "copies", "policy", "kept", "records"]]
    for want in wanted(settings):
        one = has.get(want.name)
        rows.append(_row(one) if one else [want.name, "missing", "", "", "", ""])
    return rows


def _row(one: Topic) -> list[str]:
    policy = one.config.get("cleanup.policy", "?")
    kept_ms = int(one.config.get("retention.ms", "-1"))
    kept = f"{kept_ms / 86_400_000:g} d" if policy == "delete" and kept_ms >= 0 else "newest of a key"
    return [one.name, str(one.partitions), str(one.replication), policy, kept, f"{one.records:,}"]


async def make(settings: Settings) -> list[str]:
    """`create`, for those who have a loop."""
    kafka.servers(settings)
    async with (
        kafka.opened(settings, lambda: kafka.admin(settings)) as admin,
        kafka.answers(settings, MAKE_S),
    ):
        there = await admin.list_topics()
        missing = [one for one in wanted(settings) if one.name not in there]
        if missing:
            _refused(await admin.create_topics([_new(one) for one in missing]))
            await _led(admin, [one.name for one in missing])
    return [one.name for one in missing]


def _new(one: Topic) -> Any:
    from aiokafka.admin import NewTopic

    return NewTopic(one.name, one.partitions, one.replication, topic_configs=one.config)


def _refused(response: Any) -> None:
    refused = [one for one in response.topic_errors if one[1] not in (0, _EXISTS)]
    if refused:
        name, code, *rest = refused[0]
        raise Unavailable(f"Kafka does not make {name} ({_why(code, rest[0] if rest else None)}){_more(refused)}")


def _why(code: int, text: str | None) -> str:
    from aiokafka.errors import for_code

    return text or str(for_code(code).__name__)


def _more(refused: Sequence[object]) -> str:
    return f", nor {len(refused) - 1} others" if len(refused) > 1 else ""


async def _led(admin: Any, names: Sequence[str]) -> None:
    """Wait until every partition takes records."""
    while True:
        if all(not one["error_code"] and _all_led(one) for one in await admin.describe_topics(list(names))):
            return
        await asyncio.sleep(0.1)


def _all_led(one: Mapping[str, Any]) -> bool:
    return all(not partition["error_code"] and partition["leader"] >= 0 for partition in one["partitions"])


async def found(settings: Settings) -> dict[str, Topic]:
    """Those of the wanted topics that are there, by name, as they are."""
    names = [one.name for one in wanted(settings)]
    async with (
        kafka.opened(settings, lambda: kafka.admin(settings)) as admin,
        kafka.answers(settings),
    ):
        there = set(await admin.list_topics())
        names = [name for name in names if name in there]
        told = await admin.describe_topics(names) if names else []
        configs = await _configs(admin, names) if names else {}
    held = await _held(settings, {one["topic"]: len(one["partitions"]) for one in told if _all_led(one)})
    return {
        one["topic"]: _real(settings, one, configs.get(one["topic"], {}), held.get(one["topic"], 0)) for one in told
    }


async def partitions(settings: Settings, names: Collection[str]) -> dict[str, int]:
    """How many partitions each of these topics (short names) has; one that is not there is left out."""
    short = {full(settings, name): name for name in names}
    async with (
        kafka.opened(settings, lambda: kafka.admin(settings)) as admin,
        kafka.answers(settings),
    ):
        told = await admin.describe_topics()
    return {short[one["topic"]]: len(one["partitions"]) for one in told if one["topic"] in short}


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }


def _real(settings: Settings, told: Mapping[str, Any], config: dict[str, str], records: int) -> Topic:
    partitions = sorted(told["partitions"], key=lambda one: int(one["partition"]))
    copies = min((len(one["replicas"]) for one in partitions), default=0)
    trouble = [_trouble(one, settings.kafka.min_insync) for one in partitions]
    return Topic(told["topic"], len(partitions), copies, config, tuple(one for one in trouble if one), records)


def _trouble(partition: Mapping[str, Any], least: int) -> str:
    number, in_sync = partition["partition"], len(partition["isr"])
    if partition["leader"] < 0:
        return f"partition {number} has no leader"
    return f"partition {number} has {in_sync} copies in sync, {least} must be" if in_sync < least else ""


async def _held(settings: Settings, partitions: Mapping[str, int]) -> dict[str, int]:
    """How many records lie between the first and last of each topic; more than there are where it is compacted."""
    from aiokafka import TopicPartition

    places = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
    held = dict.fromkeys(partitions, 0)
    if not places:
        return held
    async with (
        kafka.opened(settings, lambda: kafka.reader(settings, "admin")) as reader,
        kafka.answers(settings),
    ):
        first, last = await reader.beginning_offsets(places), await reader.end_offsets(places)
        for place in places:
            held[place.topic] += last[place] - first[place]
    return held
