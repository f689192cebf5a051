from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import kafka_dev
from core.errors import BadInput, Missing
from kafka_dev import Kafka, fetch, libraries, why_not


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_the_version_is_that_of_the_pom() -> None:
    assert re.findall(r"<version>([0-9.]+)</version>", kafka_dev.POM.read_text())[1] == kafka_dev.VERSION


def test_what_is_missing_is_told_in_words(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_dev, "_java_version", lambda: None)
    assert "no java; install Java 17" in (why_not() or "")
    monkeypatch.setattr(kafka_dev, "_java_version", lambda: 11)
    assert "version 11; install 17" in (why_not() or "")
    monkeypatch.setattr(kafka_dev, "_java_version", lambda: 21)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "install Maven" in (why_not() or "")


def test_jars_that_are_there_need_no_maven(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiokafka")
    libraries().mkdir(parents=True)
    (libraries() / f"kafka_2.13-{kafka_dev.VERSION}.jar").touch()
    monkeypatch.setattr(kafka_dev, "_java_version", lambda: 17)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert why_not() is None
    assert fetch() == libraries()


def test_a_fetch_that_fails_leaves_nothing_half_done(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="could not fetch Kafka"):
        fetch()
    assert [one.name for one in libraries().parent.iterdir()] == [f"kafka-{kafka_dev.VERSION}.lock"]


def test_clusters_have_one_broker_or_three_on_ports_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1 or 3"):
        Kafka(tmp_path, brokers=2)
    one, three = Kafka(tmp_path), Kafka(tmp_path, brokers=3)
    ports = [*one.ports.values(), *three.ports.values()]
    assert len(set(ports)) == 4
    assert Kafka(tmp_path, brokers=3, port=9092).bootstrap == "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
