"""The container files, checked without containers: all that they refer to is there, and means what they take it for."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]

import cli
import kafka_dev
from core.settings import PREFIX, Settings, load
from streams import topics
from tests.deploy.composed import (
    BASE,
    DASHBOARD,
    GPU,
    OURS,
    PAGES,
    ROOT,
    VARIABLE,
    address_of,
    instructions,
    mounts,
    read,
    services,
    settings_of,
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EVERYTHING = services(BASE, GPU)
VERBS = ("topics", "worker", "gateway", "archive", "trainer")
PIN = re.compile(r"v?\d+\.\d+\.\d+(-[\w.-]+)?")
URL = re.compile(r"http://[^'\s]+")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a headwater.toml."""
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------------- images
def test_every_image_names_one_version() -> None:
    images = [one["image"] for one in (*services().values(), *EVERYTHING.values())]
    images += [said.split()[0] for word, said in instructions() if word == "FROM"]
    for image in images:
        assert PIN.fullmatch(image.rpartition(":")[2]), image


def test_our_image_has_our_version_and_kafka_the_one_that_is_tested() -> None:
    version = PROJECT["project"]["version"]
    assert {one["image"] for one in OURS.values()} == {f"headwater:{version}"}
    assert {EVERYTHING[name]["image"] for name in read(GPU)["services"]} == {f"headwater:{version}-gpu"}
    assert services()["kafka"]["image"] == f"apache/kafka:{kafka_dev.VERSION}"


def test_what_the_dockerfile_copies_and_installs_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    wanted = [name for word, said in instructions() if word == "COPY" for name in said.split()[:-1]]
    assert {"constraints.txt", "pyproject.toml", "README.md", "LICENSE", "."} == set(wanted)
    wanted += ["cli.py", "demo.py", "kafka_dev.py", "examples", *PROJECT["tool"]["importlinter"]["root_packages"]]
    for name in wanted:
        assert (ROOT / name).exists(), name
        assert not [pattern for pattern in ignored if fnmatch(name, pattern)], name
    extras = PROJECT["project"]["optional-dependencies"]
    (installed,) = [said for word, said in instructions() if word == "RUN" and " -e " in said]
    asked = re.findall(r"\.\[(\S+)\]", installed)[0].split(",")
    assert asked == ["${FAISS}", "kafka"]
    assert {"cpu", "gpu", "kafka"} <= extras.keys()


def test_a_build_gets_arguments_that_the_dockerfile_takes() -> None:
    taken = dict(said.split("=", 1) for word, said in instructions() if word == "ARG")
    assert taken == {"FAISS": "cpu", "TORCH_INDEX": '""'}
    for one in (*OURS.values(), *(EVERYTHING[name] for name in read(GPU)["services"])):
        assert one["build"]["context"] == "."
        assert one["build"]["args"].keys() == taken.keys()
        assert one["build"]["args"]["FAISS"] == ("gpu" if one["image"].endswith("-gpu") else "cpu")


def test_the_layer_of_torch_stands_before_everything_that_changes_with_the_code() -> None:
    said = [f"{word} {what}" for word, what in instructions()]
    torch = next(n for n, one in enumerate(said) if one.startswith("RUN") and one.endswith(" torch"))
    assert [one for one in said[:torch] if one.startswith("COPY")] == ["COPY constraints.txt ./"]


def test_nothing_runs_as_root() -> None:
    assert [said for word, said in instructions() if word == "USER"] == ["10001:10001"]
    for name, one in EVERYTHING.items():
        assert one["user"].partition(":")[0] not in ("", "0", "root"), name
        assert "no-new-privileges:true" in one["security_opt"], name
    assert {one["user"] for one in OURS.values()} == {"10001:10001"}


# ---------------------------------------------------------------------- settings and commands
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    given = {key: value for key, value in EVERYTHING[name].get("environment", {}).items() if key.startswith(PREFIX)}
    assert all("__" in key and isinstance(value, str) for key, value in given.items())
    found = load(None, given)
    for key in given:
        section, _, field = key.removeprefix(PREFIX).lower().partition("__")
        assert field in getattr(found, section).__struct_fields__


def test_services_agree_on_brokers_partitions_and_folders() -> None:
    found = [settings_of(OURS[name]) for name in VERBS]
    assert len({(one.kafka.bootstrap, one.log, one.bundles, one.archive.path, one.encoder.cache) for one in found}) == 1
    assert len({tuple(topics.wanted(one)[0].config.items()) for one in found}) == 1


def test_a_setting_that_is_no_default_is_given_for_a_reason() -> None:
    plain = msgspec.to_builtins(Settings(), enc_hook=str)
    for name in VERBS:
        mine = msgspec.to_builtins(settings_of(OURS[name]), enc_hook=str)
        changed = {f"{section}.{key}" for section in mine for key in mine[section] if mine[section] != plain[section]
                   and mine[section][key] != plain[section][key]}  # fmt: skip
        assert changed <= {
            "kafka.bootstrap", "kafka.spool", "bundles.path", "archive.path", "encoder.cache",
            "worker.host", "gateway.host", "archive.host", "training.host",
        }  # fmt: skip


def test_variables_of_the_host_are_settings_or_told_in_the_documentation() -> None:
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    names = VARIABLE.findall((ROOT / BASE).read_text(encoding="utf-8"))
    assert names
    for name, default in names:
        assert name in told
        if name.startswith(PREFIX):
            load(None, {name: default})


@pytest.mark.parametrize("name", VERBS)
def test_every_command_is_one_that_headwater_takes(name: str) -> None:
    asked = cli.parser().parse_args(OURS[name]["command"])
    assert callable(asked.verb)
    assert ("ENTRYPOINT", '["headwater"]') in instructions()
    assert "entrypoint" not in OURS[name]


def test_the_demonstration_calls_a_script_of_the_image() -> None:
    python, script = OURS["demo"]["entrypoint"]
    assert python == "python"
    path = ROOT / Path(script).relative_to("/app")
    options = re.findall(r'"(--\w+)"', path.read_text(encoding="utf-8"))
    url, *given = OURS["demo"]["command"]
    assert urlsplit(url).netloc == f"gateway:{address_of('gateway')[1]}"
    assert set(given[::2]) <= set(options)
    assert all(value.isdecimal() for value in given[1::2])


def test_workers_can_be_scaled() -> None:
    one = OURS["worker"]
    assert not one.keys() & {"ports", "container_name", "hostname"}
    assert settings_of(one).worker.instance == ""
    assert not [source for source, writable in mounts(one).values() if source in ("spool", "archive") and writable]


# ---------------------------------------------------------------------- addresses and health
@pytest.mark.parametrize("name", PAGES)
def test_a_service_listens_where_its_health_check_asks(name: str) -> None:
    host, port = address_of(name)
    assert host == "0.0.0.0"  # of its container
    kind, python, option, code = OURS[name]["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    compile(code, name, "exec")
    (url,) = URL.findall(code)
    assert urlsplit(url).port == port
    assert urlsplit(url).path == ("/readyz" if name == "gateway" else "/health")


def test_whatever_goes_on_running_has_a_health_check_and_is_started_again() -> None:
    ending = {"topics"}
    for name, one in services().items():
        assert one["restart"] == ("no" if name in ending else "unless-stopped"), name
        assert ("healthcheck" in one) == (name not in ending | {"demo"}), name


def test_what_is_waited_for_can_come_to_pass() -> None:
    for one in services().values():
        for name, how in one.get("depends_on", {}).items():
            wanted = services()[name]
            assert "profiles" not in wanted or one.get("profiles") == wanted["profiles"]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in wanted
            else:
                assert how["condition"] == "service_completed_successfully"
                assert wanted["restart"] == "no"
    assert all("topics" in OURS[name]["depends_on"] for name in PAGES)


def test_published_ports_are_for_this_host_alone_and_lead_to_what_listens() -> None:
    inside = {"kafka": {9094}, "prometheus": {9090}, "grafana": {3000}, "gateway": {address_of("gateway")[1]}}
    published: list[str] = []
    for name, one in services().items():
        for port in one.get("ports", ()):
            address, outer, inner = port.split(":")
            assert address == "127.0.0.1"
            assert int(inner) in inside[name]
            published.append(outer)
        for port in one.get("expose", ()):
            assert int(port) == address_of(name)[1]
    assert len(published) == len(set(published)) == 4


def test_kafka_is_told_where_services_look_for_it() -> None:
    environment = services()["kafka"]["environment"]
    listeners = dict(re.findall(r"(\w+)://([^,]*)", environment["KAFKA_LISTENERS"]))
    advertised = dict(re.findall(r"(\w+)://([^,]*)", environment["KAFKA_ADVERTISED_LISTENERS"]))
    (bootstrap,) = {settings_of(OURS[name]).kafka.bootstrap for name in VERBS}
    assert advertised["INSIDE"] == bootstrap
    assert listeners["INSIDE"] == ":" + bootstrap.rpartition(":")[2]
    assert services()["kafka"]["ports"] == [f"{advertised['HOST']}:{listeners['HOST'].lstrip(':')}"]
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == "1@kafka" + listeners["CONTROLLER"]
    assert bootstrap in services()["kafka"]["healthcheck"]["test"]
    assert environment["KAFKA_LOG_DIRS"] in mounts(services()["kafka"])
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


# ---------------------------------------------------------------------- volumes and files
def test_every_volume_is_declared_and_used_and_every_file_is_there() -> None:
    declared, used = set(read(BASE)["volumes"]), set()
    for name, one in services().items():
        for source, writable in mounts(one).values():
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert not writable, f"{name} may write to the checkout"
            else:
                used.add(source)
    assert used == declared


def test_whatever_a_service_keeps_lies_in_a_volume_of_an_owner_that_may_write() -> None:
    owned = next(said for word, said in instructions() if word == "RUN" and "install --directory" in said)
    folders = {word for word in shlex.split(owned) if word.startswith("/data")}
    writes = {
        "worker": {"cache"},
        "gateway": {"spool", "cache"},
        "archive": {"archive"},
        "trainer": {"bundles", "cache"},
    }
    reads = {"gateway": {"bundles"}, "trainer": {"archive"}}
    for name, kept in writes.items():
        found = settings_of(OURS[name])
        paths = {
            "cache": str(found.encoder.cache.parent),
            "spool": str(found.kafka.spool),
            "archive": found.archive.path,
            "bundles": str(found.bundles.path),
        }
        mounted = mounts(OURS[name])
        assert {paths[one] for one in kept} == {inside for inside, (_, writable) in mounted.items() if writable}
        assert {paths[one] for one in reads.get(name, ())} == {inside for inside, (_, w) in mounted.items() if not w}
        assert mounted.keys() <= folders


def test_a_gpu_is_asked_for_where_text_is_encoded() -> None:
    for name in read(GPU)["services"]:
        (device,) = EVERYTHING[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        assert load(None, EVERYTHING[name]["environment"]).encoder.device == "cuda"
        assert EVERYTHING[name]["command"] == OURS[name]["command"]


# ---------------------------------------------------------------------- what looks on
def test_prometheus_asks_every_service_of_ours_where_it_listens() -> None:
    (path,) = [source for source, _ in mounts(services()["prometheus"]).values() if source.startswith(".")]
    flags = services()["prometheus"]["command"]
    assert f"--config.file={next(iter(mounts(services()['prometheus'])))}" in flags
    jobs = {one["job_name"]: one for one in yaml.safe_load((ROOT / path).read_text())["scrape_configs"]}
    assert jobs.keys() == {*PAGES, "prometheus"}
    for name in PAGES:
        port = address_of(name)[1]
        if name == "worker":  # any number of them
            (how,) = jobs[name]["dns_sd_configs"]
            assert (how["names"], how["type"], how["port"]) == ([name], "A", port)
        else:
            assert jobs[name]["static_configs"] == [{"targets": [f"{name}:{port}"]}]


def test_grafana_finds_the_datasource_and_the_dashboard() -> None:
    folders = {source: inside for inside, (source, _) in mounts(services()["grafana"]).items()}
    (datasource,) = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yml").read_text())["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards/headwater.yml").read_text())["providers"]
    assert provider["options"]["path"] == folders["./deploy/grafana/dashboards"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folders['./deploy/grafana/dashboards']}/{DASHBOARD.name}"
    board = msgspec.json.decode(DASHBOARD.read_bytes())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    assert {target["datasource"]["uid"] for one in panels for target in one["targets"]} == {datasource["uid"]}
    asked = {job for one in panels for target in one["targets"] for job in re.findall(r'job="(\w+)"', target["expr"])}
    assert asked == set(PAGES)


def test_the_panels_of_the_dashboard_lie_beside_each_other() -> None:
    board = msgspec.json.decode(DASHBOARD.read_bytes())
    assert len({one["id"] for one in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for one in board["panels"]:
        at = one["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, one["title"]
        taken |= cells


def test_the_documentation_names_every_service_and_profile() -> None:
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## With containers")[2]
    assert told
    for name, one in services().items():
        assert f"`{name}`" in told
        for profile in one.get("profiles", ()):
            assert f"--profile {profile}" in told
