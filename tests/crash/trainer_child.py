"""A verb of the command in a process that is killed: what it writes takes long enough to be met while it writes."""

import sys
import time
from pathlib import Path

import cli
import core.bundle
import core.disk
import jobs.comparison
import jobs.text_quality

SLOW_S = 0.02  # for each file that goes to the disk


def slowly(path: Path) -> None:
    time.sleep(SLOW_S)
    core.disk.sync(path)


if __name__ == "__main__":
    core.bundle.sync = slowly  # type: ignore[attr-defined]
    jobs.text_quality.FEWEST = 10  # type: ignore[misc]
    jobs.comparison.NEWER = 5  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[1:]))
