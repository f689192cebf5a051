from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cli
from core.settings import load
from core.settings_page import as_markdown
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "numpy", "polars", "faiss", "lightgbm", "starlette", "uvicorn", "rich"}


def test_the_command_itself_imports_nothing_heavy() -> None:
    code = "import sys, cli; cli.parser(); print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) & HEAVY == set()


def test_serving_imports_no_torch() -> None:
    code = "import sys, gateway.serving; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "torch" not in said.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "required: VERB"),
        (("bake",), "invalid choice: 'bake'"),
        (("up", "--port", "80x"), "a port is 0 to 65535, got '80x'"),
        (("up", "--port", "70000"), "a port is 0 to 65535, got '70000'"),
        (("train",), "required: VERB"),
        (("train", "nothing"), "invalid choice: 'nothing'"),
        (("replay", "log.jsonl"), "required: --recommendations"),
        (("evaluate", "log.jsonl", "--report", "r.html", "--test-from", "soon"), "wanted a time such as"),
        (("bundles",), "required: VERB"),
        (("bundles", "promote"), "required: ID"),
        (("demo", "--data", "mine"), "invalid choice: 'mine'"),
    ],
)
def test_what_cannot_be_parsed_is_told_with_the_usage(
    headwater: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    code, said, errors = headwater(*arguments)
    assert code == 2
    assert said == ""
    assert errors.startswith("usage: headwater")
    assert complaint in errors


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("settings", "--settings", "none.toml"), 2, "no settings file at none.toml"),
        (("import", "none.csv"), 1, "no file at none.csv, and no preset of that name: ranklens, "),
        (("import",), 2, "name a file to import, or a preset"),
        (("import", "a.csv", "--map", "user"), 2, "--map takes ours=theirs, got 'user'"),
        (("import", "ranklens"), 2, "ranklens needs its file"),
        (("import", "x.csv", "--preset", "y"), 2, "no preset 'y'"),
        (("train", "ranker"), 1, "the log holds no events"),
        (("replay", "none.jsonl", "--recommendations", "o"), 1, "no recorded stream at none.jsonl"),
        (("replay", "none.jsonl", "--recommendations", "o", "--channels", "luck"), 2, "unknown channel 'luck'"),
        (("evaluate", "none.jsonl", "--report", "r.html"), 1, "no recorded stream at none.jsonl"),
        (("bundles", "promote", "mine"), 1, "no bundle 'mine'"),
        (("bundles", "rollback"), 1, "nothing to roll back to"),
        (("dead-letters", "list"), 1, "no log at"),
        (("up", "--host", "1.2.3.4"), 2, "cannot listen on 1.2.3.4"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    headwater: Run, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    got, said, errors = headwater(*arguments)
    assert (got, said) == (code, "")
    assert errors.startswith("headwater: ")
    assert complaint in errors
    assert errors.count("\n") == 1


def test_a_settings_error_names_the_variable(headwater: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LOG__PAHT", "x")
    code, _, errors = headwater("settings")
    assert code == 2
    assert "HEADWATER_LOG__PAHT: no setting 'paht' in log" in errors


def test_a_file_that_cannot_be_written_is_one_line_too(headwater: Run, folder: Path) -> None:
    (folder / "e.csv").write_text("name,user_id,item_id,ts\nview_item,u,i,1700000000\n")
    code, _, errors = headwater("import", "e.csv", "--to-stream", "nowhere/out.jsonl")
    assert code == 1
    assert re.fullmatch(r"headwater: .*No such file.*\n", errors)


def test_the_traceback_is_shown_when_asked_for(headwater: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(Exception, match="nothing to roll back to"):
        headwater("bundles", "rollback")


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} {ROOT / 'cli.py'} settings | head -1"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert said.stdout == "[shop]\n"
    assert said.stderr == ""


def test_the_version_is_that_of_the_project(headwater: Run) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert headwater("--version") == (0, f"headwater {project['version']}\n", "")


def test_the_settings_are_printed_as_a_file_that_says_the_same(
    headwater: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.toml").write_text('[shop]\nname = "Teas \\"& more\\""\n[index]\nthreads = 3\n')
    code, said, _ = headwater("settings", "--settings", "mine.toml")
    assert code == 0
    assert "threads = 3  # of one search; building takes what the process has (default 1)" in said
    (folder / "again.toml").write_text(said)
    monkeypatch.delenv("HEADWATER_ENCODER__MODEL")
    settings = load(folder / "again.toml")
    assert settings.shop.name == 'Teas "& more"'
    assert settings.index.threads == 3
    assert settings.encoder.model == "none"
    assert settings.popularity == load(environment={}).popularity


def test_the_page_of_the_settings_is_the_one_in_the_docs(headwater: Run) -> None:
    assert headwater("settings", "--markdown") == (0, as_markdown(), "")


def test_every_verb_is_in_the_operators_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [verb for verb in verbs(cli.parser()) if f"headwater {verb}" not in page] == []


def verbs(parser: argparse.ArgumentParser) -> list[str]:
    """Each verb, and each verb of a verb, as it is typed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = {name: verbs(one) for name, one in action.choices.items()}
            return [f"{name} {one}" if one else name for name, ones in inner.items() for one in ones or [""]]
    return []
