"""The states that workers left on a broker, those the runner comes to, and where they differ.

What depends on the order in which records of different partitions arrive is brought to one form first:

- `Circle.epoch`, the time of the first signal: weights and totals are decayed to one instant.
- the order within `seen` of profiles and attribution: clickstream and feedback of one shopper are two
  partitions. The sets are compared.
- `ItemStats.price` of items with a refund: a refund names a price but is no use, so it may or may not
  be overtaken. It is not compared for those; it is for all others.
- the order of keys within dicts, which == ignores.

Floats are compared to 1e-9 relative, because sums are rounded by their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from core.decision import Decision, Label
from core.settings import Settings
from streams import topics
from streams.kept import version_of
from streams.messages import as_fed
from streams.partition import partition_of
from streams.runner import Runner
from streams.topology import SERVING, STATE_TYPES, build
from streams.wire import decoders
from tests.kafka.shop import Message, read

TOLERANCE: Final = 1e-9
States = Mapping[str, Mapping[str, Any]]  # by stage and key


class Expected:
    """A runner in memory, and the last that it published of each key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.published: dict[str, dict[str, Any]] = {topic: {} for topic in SERVING}
        self.labels: list[Label] = []
        self.runner = Runner(build(settings), self._publish, self._emit)

    def _publish(self, topic: str, key: str, value: Any) -> None:
        self.published[topic][key] = value

    def _emit(self, topic: str, key: str, value: Any) -> None:
        assert topic == "labelled", topic
        self.labels.append(value)

    def take(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.runner.accept(as_fed(message) if isinstance(message, Decision) else message)

    def states(self) -> States:
        return {name: dict(table.items()) for name, table in self.runner.tables.items()}


def states(settings: Settings) -> States:
    """Every table as a worker that recovers would have it.

    Raises:
        AssertionError: a key stands in a partition that is not its own.
    """
    stages = {topics.changelog(settings, stage): stage for stage in STATE_TYPES}
    newest: dict[tuple[str, str], bytes] = {}
    for record in read(settings, list(stages)):
        key = stages[record.topic], record.key.decode()
        assert record.partition == partition_of(record.key, settings.log.partitions), key
        if key not in newest or version_of(record.value) >= version_of(newest[key]):
            newest[key] = record.value
    found: dict[str, dict[str, Any]] = {stage: {} for stage in STATE_TYPES}
    kinds = {
        stage: msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, kind])  # type: ignore[valid-type]
        for stage, kind in STATE_TYPES.items()
    }
    for (stage, name), value in newest.items():
        found[stage][name] = kinds[stage].decode(value)[2]
    return found


def served(settings: Settings) -> dict[str, dict[str, Any]]:
    """What a gateway would read from the serving topics: of each key the value with the highest version."""
    names = {topics.full(settings, topic): topic for topic in SERVING}
    versions: dict[tuple[str, str], int] = {}
    found: dict[str, dict[str, Any]] = {topic: {} for topic in SERVING}
    decode = decoders()
    for record in read(settings, list(names)):
        topic, key = names[record.topic], record.key.decode()
        version, value = (None, None) if record.value is None else decode[topic].decode(record.value)
        if version is None:
            versions.pop((topic, key), None)
        elif version < versions.get((topic, key), version):
            continue
        else:
            versions[topic, key] = version
        found[topic][key] = value
    return found


def labels(settings: Settings) -> list[Label]:
    """Every label once: a repeated one has the same origin."""
    found = {}
    for record in read(settings, [topics.full(settings, "labelled")]):
        found[dict(record.headers)["origin"]] = msgspec.msgpack.decode(record.value, type=Label)
    return list(found.values())


# ---------------------------------------------------------------------- comparing
def differences(settings: Settings, expected: States, got: States, most: int = 20) -> list[str]:
    """Where two sets of states differ, a line each; the empty list where they are the same."""
    empty = {stage.name: stage.empty for stage in build(settings)}
    lines = []
    for stage, nothing in empty.items():
        want, have = expected[stage], got[stage]
        for key in sorted(want.keys() | have.keys()):
            one, other = (normal(settings, side.get(key, nothing)) for side in (want, have))
            found = _differ(one, other, f"{stage} {key}")
            if found:
                lines.append(found)
                if len(lines) >= most:
                    return [*lines, "and perhaps more"]
    return lines


def normal(settings: Settings, state: Any) -> Any:
    """A state in the form that does not depend on the order of arrival."""
    plain = msgspec.to_builtins(msgspec.structs.asdict(state)) if state is not None else None
    if plain is None:
        return None
    for name in ("seen",):
        if name in plain:
            plain[name] = sorted(plain[name])
    kind = type(state).__name__
    if kind == "Neighbours":
        return {name: _at_epoch(settings, circle) for name, circle in state.circles.items()}
    if kind == "ItemStats" and "refund" in state.counters:
        del plain["price"]
    return plain


def _at_epoch(settings: Settings, circle: Any) -> tuple[float, dict[str, float]]:
    """Total and weights as of the year 2024, whatever instant they are kept for."""
    half_lives = (1_704_067_200_000 - circle.epoch) / (1_000.0 * settings.neighbours.half_life_s)
    scale = 2.0**-half_lives
    return circle.total * scale, {item: weight * scale for item, weight in circle.weights.items()}


def _differ(one: Any, other: Any, place: str) -> str:
    """Where two plain values differ first; empty where they do not."""
    if isinstance(one, float) and isinstance(other, int | float):
        return "" if math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=0.0) else f"{place}: {one!r} / {other!r}"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{place}: keys {sorted(one.keys() ^ other.keys())[:5]} are on one side only"
        return next((told for key in one if (told := _differ(one[key], other[key], f"{place}.{key}"))), "")
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{place}: {len(one)} / {len(other)} values"
        pairs = enumerate(zip(one, other, strict=True))
        return next((told for n, (a, b) in pairs if (told := _differ(a, b, f"{place}[{n}]"))), "")
    return "" if one == other else f"{place}: {one!r} / {other!r}"


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, floats nearly."""
    return not _differ(one, other, "")
