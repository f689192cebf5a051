"""SIGKILL at random moments: what was acknowledged is there once, and a commit is whole or absent."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from core.settings import LogSettings
from streams.log import EmbeddedLog, Entry, New
from streams.partition import partition_of

ROOT = Path(__file__).parents[2]
KILLS = 10


def run_and_kill(*arguments: str, alive_s: float) -> list[str]:
    """Start the child, kill it so long after its first line, and give its lines."""
    command = [sys.executable, str(Path(__file__).with_name("log_child.py")), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(alive_s)
        child.send_signal(signal.SIGKILL)
        rest, errors = child.communicate()
    assert child.returncode == -signal.SIGKILL, f"the child ended before it was killed: {errors}"
    return [line for line in (first + rest).split("\n")[:-1] if line]


def everything(log: EmbeddedLog, topic: str) -> list[Entry]:
    return log.read_all([topic], {}, 1_000_000)


def check_dense(log: EmbeddedLog, entries: list[Entry]) -> None:
    for partition in range(4):
        offsets = [entry.offset for entry in entries if entry.partition == partition]
        assert offsets == list(range(len(offsets)))
        assert log.ends().get(("clickstream", partition), -1) == len(offsets) - 1


def numbered(number: int) -> New:
    return New("clickstream", b"key %d" % (number % 9), b"%d" % number, number, f"event {number}")


def test_every_acknowledged_record_is_in_the_log_once(tmp_path: Path) -> None:
    chance = random.Random(3)
    path = tmp_path / "log.sqlite"
    acknowledged: set[int] = set()
    for _ in range(KILLS):
        # The next process sends again what this one may have written without an answer.
        first = next(number for number in range(10**9) if number not in acknowledged)
        lines = run_and_kill("append", str(path), str(first), alive_s=chance.uniform(0, 0.2))
        acknowledged |= {int(line) for line in lines}
        log = EmbeddedLog.open(LogSettings(path=path))
        entries = everything(log, "clickstream")
        log.close()
        times = Counter(entry.ts for entry in entries)
        assert acknowledged <= times.keys(), "acknowledged and lost"
        assert max(times.values()) == 1, "written twice"
    log = EmbeddedLog.open(LogSettings(path=path))
    log.append([numbered(number) for number in range(max(acknowledged) + 1)])
    entries = everything(log, "clickstream")
    check_dense(log, entries)
    log.close()
    times = Counter(entry.ts for entry in entries)
    assert set(times.values()) == {1}
    assert times.keys() >= set(range(max(acknowledged) + 1))
    assert all(entry.value == b"%d" % entry.ts and entry.partition == partition_of(entry.key, 4) for entry in entries)


def test_state_positions_and_outputs_are_always_those_of_a_prefix_of_the_log(tmp_path: Path) -> None:
    chance = random.Random(4)
    path = tmp_path / "log.sqlite"
    consumed = 0
    for _ in range(KILLS):
        commits = run_and_kill("count", str(path), alive_s=chance.uniform(0, 0.2))
        log = EmbeddedLog.open(LogSettings(path=path))
        before, consumed = consumed, check_prefix(log)
        log.close()
        assert len(commits) >= 1
        assert consumed > before, "the child was killed before it had done anything"


def check_prefix(log: EmbeddedLog) -> int:
    """Compare all that the counter stored with the records up to its positions; → how many."""
    entries, positions = everything(log, "clickstream"), log.positions("counter")
    check_dense(log, entries)
    behind = [entry for entry in entries if entry.offset <= positions.get((entry.topic, entry.partition), -1)]
    assert behind == entries[: len(behind)], "consumed in order of arrival"
    counts = Counter(entry.key for entry in behind)
    assert {key: int(value) for key, value in log.table("counts")} == counts
    sources = [entry.value for entry in everything(log, "derived")]
    assert sources == [b"%d/%d" % (entry.partition, entry.offset) for entry in behind]
    return len(behind)
