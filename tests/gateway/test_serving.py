from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from core.errors import BadInput, BadSettings, Missing, Unavailable
from core.settings import GatewaySettings, KafkaSettings, Settings
from gateway import serving
from gateway.client import Client
from gateway.ports import KnownShopper
from gateway.serving import Gateway, gateway_on_kafka, listen
from streams.log import EmbeddedLog
from tests.factories import small_settings
from tests.gateway.running import served

ROOT = Path(__file__).parents[2]


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return msgspec.structs.replace(small_settings(tmp_path), gateway=GatewaySettings(port=0))


def view(number: int) -> dict[str, object]:
    return {"name": "view_item", "event_id": f"e{number}", "ts": now_ms(), "visitor_id": "v", "item_id": f"i{number}"}


def test_what_was_posted_is_there_after_a_restart(settings: Settings) -> None:
    with served(Gateway(settings, None, now_ms)) as client:
        assert client.post("/v1/events", {"events": [view(1), view(2)]}) == {"accepted": 2}
        before = client.get("/v1/recommendations", visitor_id="v")["items"]
    with served(Gateway(settings, None, now_ms)) as client:
        after = client.get("/v1/recommendations", visitor_id="v")["items"]
        assert client.post("/v1/events", {"events": [view(2), view(3)]}) == {"accepted": 2}
        assert client.get("/healthz", details="true")["engine"]["events"] == 3
    assert [one["item_id"] for one in before] == [one["item_id"] for one in after]
    assert {one["item_id"] for one in after} == {"i1", "i2"}


def test_shoppers_of_a_demonstration_are_named_and_their_profiles_told(settings: Settings) -> None:
    known = [KnownShopper("ida", "Ida", "tea")]
    with served(Gateway(settings, None, now_ms, shoppers=known)) as client:
        assert client.get("/v1/demo/shoppers") == {"shoppers": [{"id": "ida", "name": "Ida", "note": "tea"}]}
        assert client.get("/v1/demo/profiles/ida")["shopper"] == "ida"


def test_without_any_no_profile_is_told(settings: Settings) -> None:
    with served(Gateway(settings, None, now_ms)) as client, pytest.raises(BadInput, match="answered 404"):
        client.get("/v1/demo/profiles/ida")


def test_the_ranker_is_trained_when_there_is_enough(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.schedule.LOOK_S", 0.05)
    monkeypatch.setattr("jobs.schedule.EVENTS_A_LIST", 0.05)
    done = settings.log.path.with_name("done")
    command = [sys.executable, "-c", f"import pathlib; pathlib.Path({str(done)!r}).touch()"]
    with served(Gateway(settings, None, now_ms, train=command)) as client:
        time.sleep(0.3)
        assert not done.exists()
        client.post("/v1/events", {"events": [view(1), view(2), view(3)]})
        _until(done.exists)


def test_the_log_is_trimmed_now_and_then(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FIRST_TRIM_S", 0.0)
    monkeypatch.setattr(serving, "TRIM_S", 0.05)
    later = [0]
    with served(Gateway(settings, None, lambda: now_ms() + later[0])) as client:
        client.post("/v1/events", {"events": [view(1)]})
        later[0] = round(2_000 * settings.log.retention_s)
        opened = EmbeddedLog.open(settings.log)
        _until(lambda: not opened.read_all(["clickstream"], {}, 10))
        opened.close()


def test_a_second_gateway_on_the_same_log_is_refused_and_frees_its_port(settings: Settings) -> None:
    gateway = Gateway(settings, None, now_ms)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    other = msgspec.structs.replace(settings, gateway=GatewaySettings(port=port))
    with served(gateway):
        with pytest.raises(Unavailable, match=r"is in use: .*process"):
            Gateway(other, None, now_ms)
        listen(other.gateway).close()


def test_without_the_packages_of_kafka_a_shop_on_kafka_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    for name in ("gateway.kafka_shop", "gateway.following"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    on_kafka = msgspec.structs.replace(settings, kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    with pytest.raises(Missing, match=r"headwater\[kafka\]"):
        Gateway(on_kafka, None, now_ms)


def test_a_gateway_on_kafka_needs_brokers(settings: Settings) -> None:
    with pytest.raises(BadSettings, match=r"kafka\.bootstrap names no broker"):
        gateway_on_kafka(settings, None, now_ms)


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1 is in use"):
            listen(GatewaySettings(port=port))


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(BadSettings, match=f"cannot listen on {host}, port 0: "):
        listen(GatewaySettings(host=host, port=0))


def test_a_client_tells_when_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unavailable, match=f"127.0.0.1:{port} does not"):
        client.get("/healthz")


def test_a_client_posts_in_full_calls_and_tells_what_was_refused(settings: Settings) -> None:
    with served(Gateway(settings, None, now_ms)) as client:
        bodies = [view(n) if n % 1_000 != 7 else {"name": "bake"} for n in range(2_100)]
        told = list(client.post_all("events", bodies))
    assert [accepted for accepted, _ in told] == [999, 999, 99]
    assert [refused[0]["index"] for _, refused in told] == [7, 7, 7]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_everything_taken_in(settings: Settings, number: signal.Signals) -> None:
    log = settings.log.path
    own = {"HEADWATER_LOG__PATH": str(log), "HEADWATER_ENCODER__MODEL": "none", "HEADWATER_LOG__PARTITIONS": "2"}
    command = [sys.executable, str(ROOT / "cli.py"), "up", "--port", "0"]
    log.parent.mkdir(exist_ok=True)
    with subprocess.Popen(
        command, cwd=log.parent, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(5)]
        url = said[1].split()[1].removesuffix("/shop")
        with Client(url) as client:
            client.post("/v1/events", {"events": [view(n) for n in range(1_000)]})
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, "")
    opened = EmbeddedLog.open(settings.log)
    try:
        assert opened.positions("runner") == opened.ends()
        assert opened.get("profile", b"v") is not None
    finally:
        opened.close()


def _until(so: Callable[[], bool]) -> None:
    for _ in range(500):
        if so():
            return
        time.sleep(0.02)
    raise AssertionError("waited ten seconds")
