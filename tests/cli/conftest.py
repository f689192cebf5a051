from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without an encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_ENCODER__MODEL", "none")
    return tmp_path


@pytest.fixture
def headwater(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: exit code, what it printed, what it complained of."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(one) for one in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return (code, *capsys.readouterr())

    return run
