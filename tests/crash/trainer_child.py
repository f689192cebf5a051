"""A verb of the command in a process that is killed: what it writes takes long enough to be met while it writes."""

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import cli
import core.bundle
import core.disk
import jobs.comparison
import jobs.text_quality

SLOW_S = 0.02  # for each file that goes to the disk
# What takes seconds to import is there before the fork. Nothing may have computed by then: threads do not come along.
HEAVY = ("tests.crash.trainer_child", "jobs.renewal", "models.training", "models.encoder", "index.ann", "ranker.model")


def begin(arguments: Sequence[str]) -> BaseProcess:
    """A process of its own that runs a verb of the command."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(HEAVY))
    process = server.Process(target=verb, args=(tuple(arguments),))
    process.start()
    return process


def verb(arguments: Sequence[str]) -> None:
    """Run it; the process ends with its exit status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    core.bundle.sync = slowly  # type: ignore[attr-defined]
    jobs.text_quality.FEWEST = 10  # type: ignore[misc]
    jobs.comparison.NEWER = 5  # type: ignore[misc]
    sys.exit(cli.main(list(arguments)))


def slowly(path: Path) -> None:
    time.sleep(SLOW_S)
    core.disk.sync(path)
