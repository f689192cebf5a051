"""Quality on recorded shops: export a protocol, replay it, have it scored by the independent scorer.

    python benchmarks/quality.py --bench FOLDER [--protocols P1 P2 P3all P3new P4t] [--twice]

FOLDER holds export_stream.py, score.py and the anchors to compare with. Answers and streams go
to a temporary folder. With --twice every protocol is replayed two times, and the answers compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = Path(__file__).resolve().parents[1] / "cli.py"
PROTOCOLS = ("P1", "P2", "P3all", "P3new", "P4t")


def call(*words: object) -> str:
    """Run a script with this Python and return what it prints; what it says of itself goes through."""
    done = subprocess.run([sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Replay and score, protocol by protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--protocols", nargs="+", default=PROTOCOLS)
    parser.add_argument("--twice", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for protocol in args.protocols:
            folder = Path(name) / protocol
            call(args.bench / "export_stream.py", "--protocol", protocol, "--out", folder)
            answers = [folder / f"{n}.jsonl" for n in range(1 + args.twice)]
            for out in answers:
                started = time.perf_counter()
                print(
                    f"== {protocol}", call(CLI, "replay", folder / "stream.jsonl", "--recommendations", out), sep="\n"
                )
                print(f"{time.perf_counter() - started:.0f} s in all")
            anchor = args.bench / "anchors" / f"{protocol}.parquet"
            against = ("--baseline", anchor) if anchor.exists() else ()
            print(call(args.bench / "score.py", "--protocol", protocol, "--recs", answers[0], *against), flush=True)
            if args.twice:
                same = answers[0].read_bytes() == answers[1].read_bytes()
                print("the second run gave", "the same lists" if same else "OTHER LISTS", flush=True)


if __name__ == "__main__":
    main()
