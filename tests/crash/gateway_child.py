"""The gateway that the crash test kills: `headwater up` that has loaded its packages and waits for a line to begin."""

import sys

import cli
import gateway.serving  # noqa: F401 - what takes long to import, while the one before still serves

if __name__ == "__main__":
    sys.stdin.readline()
    sys.exit(cli.main(sys.argv[1:]))
