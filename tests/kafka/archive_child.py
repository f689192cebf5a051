"""`headwater archive` for tests that kill it: settings as JSON, and the port of the health page on the output."""

import logging
import sys
from pathlib import Path

import msgspec

from core.settings import Settings
from jobs.archiver import run


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    settings = msgspec.json.decode(sys.argv[1], type=Settings, dec_hook=lambda kind, text: Path(text))
    run(settings, lambda port: print(port, flush=True), port=0)


if __name__ == "__main__":
    main()
