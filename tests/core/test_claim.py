from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.claim import Claim
from core.errors import Unavailable


def test_a_second_claim_is_refused_and_says_who_has_it(tmp_path: Path) -> None:
    refused = pytest.raises(Unavailable, match=rf"^the shop is in use \(process {os.getpid()} has it\)$")
    with Claim(tmp_path / "a" / "lock", "the shop is in use"), refused:
        Claim(tmp_path / "a" / "lock", "the shop is in use")
    Claim(tmp_path / "a" / "lock", "the shop is in use").release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import sys, pathlib, time; from core.claim import Claim; one = Claim(pathlib.Path(sys.argv[1]), 'busy');"
    script += "print('has it', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(Unavailable, match=f"process {other.pid}"):
            Claim(path, "busy")
        other.kill()
        other.wait()
        Claim(path, "busy").release()
