"""Defaults < headwater.toml < environment, and an unknown key is an error."""

from pathlib import Path

import pytest

from core.errors import BadSettings
from core.settings import Settings, load
from core.settings_page import as_markdown, describe

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_with_nothing_given_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environment={}) == Settings()


def test_every_default_can_be_written_as_the_page_has_it(tmp_path: Path) -> None:
    lines = {section: [f"[{section}]"] for section in (one.section for one in describe())}
    for one in describe():
        lines[one.section].append(f"{one.field} = {one.default}")
    assert load(written(tmp_path, "\n".join(line for table in lines.values() for line in table)), {}) == Settings()


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    path = written(tmp_path, '[ranking]\ncandidates = 200\npool = 7\n[shop]\nname = "Tee und Kännchen"\n')
    settings = load(path, {"HEADWATER_RANKING__CANDIDATES": "100"})
    assert (settings.ranking.candidates, settings.ranking.pool) == (100, 7)
    assert (settings.shop.name, settings.gateway.port) == ("Tee und Kännchen", Settings().gateway.port)


def test_a_file_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "[gateway]\nport = 9000\n")
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).gateway.port == 9_000


def test_the_environment_of_the_process_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_GATEWAY__PORT", "9001")
    assert load().gateway.port == 9_001


def test_each_kind_of_value_can_be_given_in_the_environment() -> None:
    settings = load(
        None,
        {
            "HEADWATER_SHOP__NAME": "123",
            "HEADWATER_LOG__PATH": "/var/lib/headwater/log.sqlite",
            "HEADWATER_GATEWAY__PORT": "0",
            "HEADWATER_INDEX__RECALL": "0.9",
            "HEADWATER_TEXT__ATTRIBUTES": '["colour", "size"]',
            "HEADWATER_POPULARITY__HALF_LIVES_S": "[60, 172800]",
            "HEADWATER_CHANNELS__TEXT": "0",
        },
    )
    assert (settings.shop.name, settings.log.path) == ("123", Path("/var/lib/headwater/log.sqlite"))
    assert (settings.gateway.port, settings.index.recall, settings.channels.text) == (0, 0.9, 0)
    assert settings.text.attributes == ("colour", "size")
    assert settings.popularity.half_lives_s == (60.0, 172_800.0)


def test_variables_without_a_section_are_not_settings() -> None:
    assert load(None, {"HEADWATER_TEST_BROWSER": "required", "HOME": "/", "PATH": "a__b"}) == Settings()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[ranking]\ncandidate = 5\n", "unknown field `candidate` - at `\\$.ranking`"),
        ("[rankings]\n", "unknown field `rankings`"),
        ("ranking = 5\n", "Expected `object`, got `int` - at `\\$.ranking`"),
        ("[ranking]\ncandidates = 2.5\n", "Expected `int`, got `float` - at `\\$.ranking.candidates`"),
        ('[ranking]\ncandidates = "5"\n', "Expected `int`, got `str`"),
        ("[log]\npath = 5\n", "Expected `Path`, got `int` - at `\\$.log.path`"),
        ("[ranking]\ncandidates = 0\n", "ranking.candidates must be positive, got 0"),
        ("[log]\nretention_s = -1.0\n", "log.retention_s must be positive, got -1.0"),
        ("[log]\nretention_s = nan\n", "log.retention_s must be positive, got nan"),
        ("[log]\nretention_s = inf\n", "log.retention_s must be positive, got inf"),
        ("[channels]\ntext = -1\n", "channels.text must be positive, got -1"),
        ("[gateway]\nport = 65536\n", "gateway.port must be at most 65535, got 65536"),
        ("[index]\nrecall = 98.0\n", "index.recall must be at most 1.0, got 98.0"),
        ("[popularity]\nhalf_lives_s = [172800.0, 0.0]\n", "popularity.half_lives_s must be positive, got 0.0"),
        ("[popularity]\nhalf_lives_s = []\n", "trending_half_life_s must be one of popularity.half_lives_s"),
        ('[encoder]\ndevice = "tpu"\n', "encoder.device must be one of auto, cpu, cuda, got 'tpu'"),
        ('[index]\nkind = "hnsw"\n', "index.kind must be one of auto, exact, flat, ivf, got 'hnsw'"),
        ("[ranking\n", "is not TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadSettings, match=reason):
        load(written(tmp_path, text), {})


def test_a_file_that_cannot_be_read_as_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "headwater.toml"
    path.write_bytes(b'[shop]\nname = "\xff"\n')
    with pytest.raises(BadSettings, match="is not TOML"):
        load(path, {})
    with pytest.raises(BadSettings, match="cannot be read"):
        load(tmp_path, {})


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no settings file at"):
        load(tmp_path / "other.toml", {})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HEADWATER_RANKINGS__POOL", "5", "HEADWATER_RANKINGS__POOL: no section 'rankings'; there are shop, log"),
        ("HEADWATER_RANKING__POOLS", "5", "no setting 'pools' in ranking; there are candidates, pool"),
        ("HEADWATER_RANKING__POOL", "many", "HEADWATER_RANKING__POOL must be .*int.*, got 'many'"),
        ("HEADWATER_RANKING__POOL", "2.5", "Expected `int`, got `float` - at `\\$.ranking.pool`"),
        ("HEADWATER_RANKING__POOL", "", "HEADWATER_RANKING__POOL must be .*int.*, got ''"),
        ("HEADWATER_RANKING__CANDIDATES", "-5", "ranking.candidates must be positive, got -5"),
    ],
)
def test_a_bad_variable_is_refused_by_its_name(name: str, value: str, reason: str) -> None:
    with pytest.raises(BadSettings, match=reason):
        load(None, {name: value})


def test_a_variable_cannot_stand_in_what_is_no_section(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="ranking must be a table, got 5"):
        load(written(tmp_path, "ranking = 5\n"), {"HEADWATER_RANKING__POOL": "5"})


def test_every_setting_is_described() -> None:
    assert len({(one.section, one.field) for one in describe()}) == len(describe()) > 60
    assert [f"{one.section}.{one.field}" for one in describe() if not one.comment] == []


def test_the_page_of_settings_is_the_one_make_docs_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), "docs/settings.md is out of date: run `make docs`"
