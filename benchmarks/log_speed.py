"""How fast the embedded log takes records: by call size, by concurrency, with and without event ids.

    python benchmarks/log_speed.py [--seconds 2] [--seen 1000000] [--folder DIR]

Every append is on the disk before it returns, so small calls go as fast as the disk's fsync: its
own speed stands in the first line. Put the folder on the disk that the log will be on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from core.ids import signed64
from core.settings import LogSettings
from streams.database import Writer
from streams.log import EmbeddedLog, New

VALUE = b"x" * 220  # an event in JSON
WARM_UP = 3  # calls that are not counted
CASES = ((1, 1), (1, 8), (1, 32), (100, 1), (100, 8), (1_000, 1), (1_000, 8))  # records per call, threads


def fsyncs(folder: Path, seconds: float) -> tuple[int, list[float]]:
    """What the disk alone does: 8 KiB written to the end of a file, then fsync."""
    with (folder / "fsync").open("wb", buffering=0) as file:

        def write() -> int:
            file.write(b"x" * 8192)
            os.fsync(file.fileno())
            return 1

        return _repeat(write, seconds)


def appends(folder: Path, *, size: int, threads: int, seen: int | None, seconds: float) -> tuple[int, list[float]]:
    """Append in calls of `size` from `threads` threads; `seen`: event ids known before, None sends none."""
    settings = LogSettings(path=folder / "log.sqlite")
    log = EmbeddedLog.open(settings)
    if seen:
        _fill(settings, seen)
    numbers = count()

    def write() -> int:
        first = next(numbers) * size
        ids = range(first, first + size)
        log.append(
            [New("clickstream", b"s%d" % (n % 5_000), VALUE, n, f"e{n}" if seen is not None else "") for n in ids]
        )
        return size

    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(_repeat, write, seconds) for _ in range(threads)]
        done = [run.result() for run in runs]
    log.close()
    return sum(records for records, _ in done), [took for _, times in done for took in times]


def reads(folder: Path, records: int) -> float:
    """Records a second that `read_all` gives to a runner that takes 2,000 at a time."""
    log = EmbeddedLog.open(LogSettings(path=folder / "log.sqlite"))
    for first in range(0, records, 1_000):
        log.append([New("clickstream", b"s%d" % (n % 5_000), VALUE, n) for n in range(first, first + 1_000)])
    after: dict[tuple[str, int], int] = {}
    started = time.perf_counter()
    while entries := log.read_all(("clickstream", "feedback"), after, 2_000):
        after |= {(entry.topic, entry.partition): entry.offset for entry in entries}
    took = time.perf_counter() - started
    log.close()
    return records / took


def commits(folder: Path, *, keys: int, value_bytes: int, seconds: float) -> tuple[int, list[float]]:
    """Commit `keys` changed keys of one table, out of ten times as many."""
    log = EmbeddedLog.open(LogSettings(path=folder / "log.sqlite"))
    rounds = count()

    def write() -> int:
        start = next(rounds) * keys
        table: dict[bytes, bytes | None] = {
            b"s%d" % ((start + n * 7) % (keys * 10)): b"x" * value_bytes for n in range(keys)
        }
        log.commit("runner", positions={("clickstream", 0): start}, tables={"profiles": table})
        return keys

    done = _repeat(write, seconds)
    log.close()
    return done


def _fill(settings: LogSettings, ids: int) -> None:
    now_ms = int(time.time() * 1000)
    writer = Writer(settings)
    with writer.lock, writer.transaction() as db:
        hashes = sorted(signed64(f"old{n}") for n in range(ids))
        db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", ((one, now_ms) for one in hashes))
    writer.close()


def _repeat(act: Callable[[], int], seconds: float) -> tuple[int, list[float]]:
    for _ in range(WARM_UP):
        act()
    done, times = 0, []
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        done += act()
        times.append(time.perf_counter() - started)
    return done, times


def _line(name: str, records: int, times: list[float], seconds: float) -> str:
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    milliseconds = f"{cuts[49] * 1e3:>9.2f}{cuts[98] * 1e3:>9.2f}"
    return f"{name:<44}{len(times) / seconds:>10,.0f}{records / seconds:>12,.0f}{milliseconds}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--seen", type=int, default=1_000_000, help="event ids known before, in the last measurements")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if absent")
    asked = parser.parse_args()
    print(f"{'':<44}{'calls/s':>10}{'records/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    with tempfile.TemporaryDirectory(dir=asked.folder) as top:
        print(_line("the disk alone: 8 KiB + fsync", *fsyncs(_folder(top), asked.seconds), asked.seconds))
        for seen, note in ((None, "no event ids"), (0, "event ids"), (asked.seen, f"{asked.seen:,} ids known")):
            for size, threads in CASES:
                name = f"append, {size:,} a call, threads: {threads}, {note}"
                done = appends(_folder(top), size=size, threads=threads, seen=seen, seconds=asked.seconds)
                print(_line(name, *done, asked.seconds), flush=True)
        for value_bytes in (200, 4_000):
            done = commits(_folder(top), keys=2_000, value_bytes=value_bytes, seconds=asked.seconds)
            print(_line(f"commit, 2,000 keys of {value_bytes:,} bytes", *done, asked.seconds))
        print(f"{'read_all, 2,000 at a time':<54}{reads(_folder(top), 100_000):>12,.0f}")


def _folder(top: str) -> Path:
    return Path(tempfile.mkdtemp(dir=top))


if __name__ == "__main__":
    main()
