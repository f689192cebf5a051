"""What the verbs of the command share: arguments, times, tables, the settings with an address."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from core.settings import Settings

HERE: Final = Path(__file__).resolve()

Verb = Callable[[argparse.Namespace], int]


def version() -> str:
    """The version that is installed, or that of the checkout."""
    try:
        return metadata.version("headwater")
    except metadata.PackageNotFoundError:
        project = tomllib.loads(HERE.with_name("pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])


def now_ms() -> int:
    """The wall clock, which is handed to whatever needs it."""
    return int(time.time() * 1000)


def log_to_stderr() -> None:
    """Warnings of everybody, and what headwater itself does."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("headwater", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.INFO)


def train_command(asked: argparse.Namespace) -> list[str]:
    """What trains with the same settings, as a process of its own."""
    named = ["--settings", str(asked.settings)] if asked.settings else []
    return [sys.executable, str(HERE.with_name("cli.py")), "train", "ranker", *named]


def at_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with another address."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return msgspec.structs.replace(settings, gateway=msgspec.structs.replace(settings.gateway, **given))


def places(settings: Settings, url: str) -> str:
    """What a person is told when a gateway is up."""
    log = f"Kafka at {settings.kafka.bootstrap}" if settings.kafka.bootstrap else settings.log.path
    return (
        f"headwater {version()} serves {settings.shop.name!r} from {log}\n"
        f"  shop   {url}/shop\n  docs   {url}/docs\n  admin  {url}/admin\n"
        "Ctrl-C stops it; what was accepted is on the disk."
    )


def verb_of(verbs: Any, name: str, verb: Verb, about: str) -> Callable[..., Any]:
    """Adds a verb, and gives what adds its arguments."""
    added = verbs.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    added.add_argument("--settings", type=Path, metavar="FILE", help="instead of ./headwater.toml")
    added.set_defaults(verb=verb)
    add: Callable[..., Any] = added.add_argument
    return add


def port(text: str) -> int:
    """A port, for argparse."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, got {text!r}")
    return int(text)


def moment_of(text: str) -> int:
    """ISO 8601 as ms; UTC where no offset is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a time such as 2011-10-01T08:00:00Z, got {text!r}") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def moment(ts: int) -> str:
    """Ms as a time to the second, UTC."""
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def tell(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
