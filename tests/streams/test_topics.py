from __future__ import annotations

import msgspec
import pytest

from core.errors import BadSettings
from core.settings import KafkaSettings, LogSettings, Settings, WorkerSettings
from streams.topics import Topic, app_id, changelog, check, differences, full, wanted
from streams.topology import SOURCES, build

SETTINGS = Settings(
    kafka=KafkaSettings(prefix="shop-", replication=3, min_insync=2, events_kept_s=3_600.0, letters_kept_s=7.5),
    log=LogSettings(partitions=6),
)


def topic(name: str, settings: Settings = SETTINGS) -> Topic:
    return next(one for one in wanted(settings) if one.name == full(settings, name))


def test_every_topic_has_the_partitions_and_copies_of_the_settings() -> None:
    assert {(one.partitions, one.replication) for one in wanted(SETTINGS)} == {(6, 3)}
    assert {one.config["min.insync.replicas"] for one in wanted(SETTINGS)} == {"2"}


def test_every_source_and_every_table_of_the_steps_has_its_topic() -> None:
    names = {one.name for one in wanted(SETTINGS)}
    assert {full(SETTINGS, name) for name in SOURCES} <= names
    assert {changelog(SETTINGS, stage.name) for stage in build(SETTINGS)} <= names
    assert {full(SETTINGS, stage.publishes) for stage in build(SETTINGS) if stage.publishes} <= names
    assert len(names) == len(wanted(SETTINGS))


def test_what_is_kept_for_good_is_compacted_and_the_rest_has_its_time() -> None:
    assert topic("clickstream").config["retention.ms"] == "3600000"
    assert topic("dead-letter").config["retention.ms"] == "7500"
    for name in ("items", "catalogue", "item-vectors", "worker-profile-changelog"):
        assert topic(name).config["cleanup.policy"] == "compact"
        assert "retention.ms" not in topic(name).config


def test_records_from_outside_carry_the_time_of_their_arrival() -> None:
    assert topic("feedback").config["message.timestamp.type"] == "LogAppendTime"
    assert "message.timestamp.type" not in topic("profiles").config


def test_a_new_version_of_the_worker_has_changelogs_of_its_own() -> None:
    second = msgspec.structs.replace(SETTINGS, worker=WorkerSettings(group="w", version=2))
    assert app_id(second) == "shop-w-v2"
    assert changelog(second, "profile") == "shop-w-v2-profile-changelog"


def test_a_name_that_kafka_does_not_take_is_refused() -> None:
    with pytest.raises(BadSettings, match="my shop/clickstream"):
        wanted(Settings(kafka=KafkaSettings(prefix="my shop/")))


def test_what_is_as_it_must_be_has_no_differences() -> None:
    assert differences(wanted(SETTINGS), {one.name: one for one in wanted(SETTINGS)}) == []


def test_every_difference_is_named() -> None:
    want = topic("clickstream")
    config = {**want.config, "retention.ms": "5", "max.message.bytes": "8000000.0"}
    del config["cleanup.policy"]
    has = Topic(want.name, 4, 1, config, trouble=("partition 2 has no leader",))
    assert differences([want, topic("items")], {want.name: has}) == [
        "shop-clickstream: 4 partitions, wanted 6",
        "shop-clickstream: 1 copies, wanted 3",
        "shop-clickstream: cleanup.policy is unset, wanted delete",
        "shop-clickstream: retention.ms is 5, wanted 3600000",
        "shop-clickstream: partition 2 has no leader",
        "shop-items: missing",
    ]


def test_without_brokers_in_the_settings_nothing_is_asked() -> None:
    with pytest.raises(BadSettings, match=r"kafka\.bootstrap"):
        check(Settings())
