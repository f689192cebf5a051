"""The services of docker-compose.yml as processes: their commands, variables and checks, on hosts and paths of ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import kafka_dev
from core.settings import PREFIX
from gateway.client import Client
from kafka_dev import Kafka
from tests.deploy.composed import DASHBOARD, PAGES, ROOT, address_of, services

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

COMPOSED = services()
WELL_S = 90.0  # a shared machine may be slow
STOP_S = 40.0  # as stop_grace_period


class ComposedKafka(Kafka):
    """A broker as the service `kafka` configures it: its variables are names of Kafka's settings."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = free_port()  # for programs of the host

    def _properties(self, node: int) -> Path:
        path = super()._properties(node)
        given = COMPOSED["kafka"]["environment"]
        lines = [
            f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={self._here(value)}"
            for name, value in given.items()
            if name.startswith("KAFKA_") and name not in ("KAFKA_HEAP_OPTS", "KAFKA_LOG_DIRS")
        ]
        path.write_text("\n".join([*lines, f"log.dirs={self._data(node)}"]), encoding="utf-8")
        return path

    def _here(self, value: str) -> str:
        ports = {9092: self.ports[1], 9093: self._controllers[1], 9094: self.outer}
        for theirs, ours in ports.items():
            value = value.replace(f":{theirs}", f":{ours}")
        return value.replace("kafka:", f"{kafka_dev.HOST}:").replace("//:", f"//{kafka_dev.HOST}:")


@dataclass
class Process:
    """A service as a process; its folder stands for the container's /data."""

    name: str
    folder: Path
    bootstrap: str
    number: int = 1
    port: int = field(default_factory=lambda: free_port())

    @property
    def environment(self) -> dict[str, str]:
        """That of the service, and of this machine what is none of ours. Without text: torch takes long to start."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        mine = {name: self._here(name, value) for name, value in COMPOSED[self.name].get("environment", {}).items()}
        return {**others, **mine, "HEADWATER_ENCODER__MODEL": "none", "OMP_NUM_THREADS": "1"}

    def _here(self, name: str, value: str) -> str:
        if name.endswith("__PORT"):
            return str(self.port)
        given = {"kafka:9092": self.bootstrap, "0.0.0.0": "127.0.0.1"}
        return given.get(value, value.replace("/data", str(self.folder), 1))

    @property
    def command(self) -> list[str]:
        script = [sys.executable, str(ROOT / "cli.py")]
        if "entrypoint" in COMPOSED[self.name]:
            script = [sys.executable, COMPOSED[self.name]["entrypoint"][1].replace("/app", str(ROOT))]
        return [*script, *COMPOSED[self.name]["command"]]

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}-{self.number}.log"

    @contextmanager
    def running(self, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        """Started, and at the end asked to stop as Docker asks."""
        with self.log.open("wb") as out:
            process = subprocess.Popen(
                more or self.command, cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_S) == 0, self.told()
        finally:
            process.kill()
            process.wait()

    def is_well(self) -> bool:
        """Whether its own health check passes."""
        kind, _, *code = COMPOSED[self.name]["healthcheck"]["test"]
        assert kind == "CMD"
        theirs = address_of(self.name)[1]
        asked = [one.replace(f":{theirs}/", f":{self.port}/") for one in code]
        return subprocess.run([sys.executable, *asked], capture_output=True, check=False).returncode == 0

    def metrics(self) -> Mapping[str, set[str]]:
        """Names of figures, and the labels that each has."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
            found: dict[str, set[str]] = {}
            for family in text_string_to_metric_families(reply.read().decode()):
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
            return found

    def told(self) -> str:
        return f"{self.name}: {self.log.read_text(errors='replace')[-3_000:]}"


@dataclass(frozen=True)
class Shop:
    """All services that run."""

    folder: Path
    kafka: ComposedKafka
    services: dict[str, Process]
    workers: tuple[Process, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.services['gateway'].port}"


def free_port() -> int:
    """One below those that the system gives to the many connections of our own clients."""
    return kafka_dev._free_ports(1)[0]


def eventually(condition: Callable[[], Any], why: Callable[[], str], within_s: float = WELL_S) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, why()
        time.sleep(0.2)


def come_up(one: Process, process: subprocess.Popen[bytes]) -> None:
    """Wait until it is well; one that ends instead says why."""
    eventually(lambda: one.is_well() or process.poll() is not None, one.told)
    assert process.poll() is None, one.told()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """`docker compose up --scale worker=2`, as far as that goes without containers."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("archive", "bundles", "spool", "vectors"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        (heap_gb,) = re.findall(r"^-Xmx(\d+)g$", COMPOSED["kafka"]["environment"]["KAFKA_HEAP_OPTS"])
        patch.setitem(kafka_dev.HEAP_MB, 1, 1024 * int(heap_gb))
        kafka = stack.enter_context(ComposedKafka())
        topics = Process("topics", folder, kafka.bootstrap)
        done = subprocess.run(topics.command, cwd=folder, env=topics.environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        started = {name: Process(name, folder, kafka.bootstrap) for name in PAGES}
        second = Process("worker", folder, kafka.bootstrap, 2)
        running = [(one, stack.enter_context(one.running())) for one in (*started.values(), second)]
        for one, process in running:
            come_up(one, process)
        yield Shop(folder, kafka, started, (started["worker"], second))


def test_the_broker_is_reached_from_inside_and_from_the_host(shop: Shop) -> None:
    outer = f"{kafka_dev.HOST}:{shop.kafka.outer}"
    for bootstrap in (shop.kafka.bootstrap, outer):
        one = Process("topics", shop.folder, bootstrap)
        command = [*one.command[:-1], "check"]
        done = subprocess.run(command, cwd=shop.folder, env=one.environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, b"all topics are as they must be\n"), done.stderr


def test_visitors_come_and_what_one_looks_at_changes_the_list(shop: Shop) -> None:
    demo = Process("demo", shop.folder, shop.kafka.bootstrap)
    command = [one.replace("http://gateway:8077", shop.url) for one in demo.command]
    small = {"600": "60", "700": "30"}
    with demo.running(*(small.get(one, one) for one in command)):
        eventually(lambda: "events of four weeks are in" in demo.told(), demo.told)
        with Client(shop.url) as client:
            eventually(lambda: engine(client)["items"] >= 50, lambda: str(engine(client)))
            assert not reasons(client)
            seen = {one["item_id"] for one in client.get("/v1/trending", n=60)["items"][-3:]}
            now = int(time.time() * 1000)
            views = [{"name": "view_item", "ts": now, "visitor_id": "newcomer", "item_id": one} for one in seen]
            assert client.post("/v1/events", [*views, {"name": "stare"}])["accepted"] == 3
            eventually(lambda: reasons(client) & seen, lambda: "".join(one.told() for one in shop.workers))


def engine(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/healthz", details="true")["engine"]
    return found


def reasons(client: Client) -> set[str]:
    """The items on account of which the newcomer gets what is listed."""
    items = client.get("/v1/recommendations", visitor_id="newcomer", n=10)["items"]
    return {reason["item_id"] for one in items for reason in one.get("reasons", ()) if "item_id" in reason}


def test_every_figure_of_the_dashboard_is_one_that_its_service_tells(shop: Shop) -> None:
    with Client(shop.url) as client:
        event = {"name": "view_item", "ts": int(time.time() * 1000), "visitor_id": "v", "item_id": "i"}
        client.post("/v1/events", [event, {"name": "stare"}])
        client.post("/v1/items", [{"item_id": "i", "title": "tea"}])
    told = {name: one.metrics() for name, one in shop.services.items()}
    board = msgspec.json.decode(DASHBOARD.read_bytes())
    asked = [target for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(asked) > 30
    for target in asked:
        figures = re.findall(r"(\w+)\{[^}]*?job=\"(\w+)\"([^}]*)", target["expr"])
        assert figures, target
        for name, job, rest in figures:
            if name == "up":
                continue
            assert name in told[job], f"{job} tells no {name}"
            labels = {"instance", *told[job][name]}
            used = [one for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for one in group.split(", ")]
            used += re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]) + re.findall(r"(\w+)[!=]~?\"", rest)
            assert set(used) <= labels, (target, labels)


def test_the_workers_share_the_partitions(shop: Shop) -> None:
    def held() -> list[list[int]]:
        found = []
        for one in shop.workers:
            with urlopen(f"http://127.0.0.1:{one.port}/health", timeout=10) as reply:
                found.append(msgspec.json.decode(reply.read())["partitions"])
        return found

    def spread(parts: list[list[int]]) -> list[int]:
        return sorted(one for part in parts for one in part) if all(parts) else []

    eventually(lambda: spread(held()) == [0, 1, 2, 3], lambda: str(held()), 30)


def test_events_reach_the_archive(shop: Shop) -> None:
    archived = shop.services["archive"]
    with Client(shop.url) as client:
        event = {"name": "view_item", "ts": int(time.time() * 1000), "visitor_id": "v", "item_id": "i"}
        client.post("/v1/events", [event])

    def rows() -> float:
        with urlopen(f"http://127.0.0.1:{archived.port}/health", timeout=10) as reply:
            found = msgspec.json.decode(reply.read())
            return float(found["rows_waiting"] + found["rows_written"])

    eventually(lambda: rows() > 0, archived.told)
