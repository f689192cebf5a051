"""Every kind of trouble, several times over: what `make crash` runs. Prints the table of docs/crash.md.

python -m tests.crash.matrix --runs 3 --events 50000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from kafka_dev import Kafka, why_not
from tests.kafka import crashes
from tests.kafka.crashes import Outcome

HEAD = ["case", "runs", "exact", "events", "left then", "read again", "seconds to drain"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; the exit status is 1 where a run was not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each case (3)")
    parser.add_argument("--events", type=int, default=50_000, help="of each run (50,000)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their name")
    asked = parser.parse_args(arguments)
    reason = why_not()
    if reason is not None:
        print(f"no broker: {reason}", file=sys.stderr)
        return 1
    print(_line(HEAD), _line(["-" * 3] * len(HEAD)), sep="\n", flush=True)
    exact = True
    for case in (name for name in crashes.CASES if asked.only in name):
        outcomes = [_run(case, number, asked.events) for number in range(asked.runs)]
        print(_line(_row(case, outcomes)), flush=True)
        exact &= all(one.exact and one.left > 0 for one in outcomes)
    return 0 if exact else 1


def _run(case: str, number: int, events: int) -> Outcome:
    """On a broker of its own; every second run with packed records."""
    with Kafka() as broker, tempfile.TemporaryDirectory() as folder:
        pack = 10 if number % 2 else 1
        outcome = crashes.run(case, broker, "crash-", Path(folder), events, seed=number + 1, pack=pack)
    for line in outcome.wrong:
        print(f"  wrong in run {number + 1}: {line}", file=sys.stderr, flush=True)
    if outcome.left <= 0:
        print(f"  run {number + 1}: nothing was left when the harm was done", file=sys.stderr, flush=True)
    return outcome


def _row(case: str, outcomes: Sequence[Outcome]) -> list[str]:
    exact = sum(one.exact for one in outcomes)
    return [
        case,
        str(len(outcomes)),
        str(exact),
        f"{outcomes[0].events:,}",
        _range([one.left for one in outcomes]),
        _range([one.repeated for one in outcomes]),
        f"{median(one.drained_s for one in outcomes):.0f} ({_range([round(one.drained_s) for one in outcomes])})",
    ]


def _range(values: Sequence[int]) -> str:
    return f"{min(values):,} to {max(values):,}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
