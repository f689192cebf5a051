"""The whole demonstration from end to end, as a process of its own, in small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRIED = (
    "/shop answers 200", "a new visitor is shown 10 items", "after 3 views in", "reasons name what was viewed",
    "by its text after", "it is recommended, through the channels: text, new",
)  # fmt: skip


def demo_check(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    command = [sys.executable, str(ROOT / "cli.py"), "demo", "--check", *more]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


def test_a_small_demonstration_works(tmp_path: Path) -> None:
    said = demo_check(tmp_path, "--items", "150", "--shoppers", "120")
    assert said.returncode == 0, said.stdout + said.stderr
    lines = [line for line in said.stdout.splitlines() if line.startswith("ok  ")]
    assert len(lines) == len(TRIED)
    assert all(tried in line for tried, line in zip(TRIED, lines, strict=True))
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demonstration_works(tmp_path: Path) -> None:
    said = demo_check(tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
