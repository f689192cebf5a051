"""The verbs that train: ranker, encoder, search, and what became of it all."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cli_common import aligned, moment, now_ms, tell, verb_of
from core.errors import BadInput
from core.settings import Settings, load
from progress import shown

if TYPE_CHECKING:
    from jobs.history import Noted, Ran, Running
    from jobs.train import Outcome

TOLD: Final = 10  # runs


def add_to(verbs: Any) -> None:
    """Train and the verbs below it."""
    inner = verbs.add_parser("train", help="train a ranker or the encoder from the log, or see what came of it")
    acts = inner.add_subparsers(title="verbs", metavar="VERB", required=True)
    add = verb_of(acts, "ranker", ranker, "train a ranker, and promote it if it is better on newer lists")
    add("--force", action="store_true", help="promote it whatever the checks and the comparison say")
    add("--archive", default="", metavar="PATH", help="a folder or URL to learn from, instead of the log in use")
    add = verb_of(acts, "encoder", encoder, "train the encoder, then a ranker in its space, and promote both if better")
    add("--force", action="store_true", help="promote them whatever the checks and the comparison say")
    add("--archive", default="", metavar="PATH", help="a folder or URL to learn from, instead of the log in use")
    add("--only", action="store_true", help="write the encoder's folder alone, for encoder.model")
    add("--stream", type=Path, metavar="FILE", help="with --only: a recorded stream to learn from instead")
    add = verb_of(acts, "search", search, "look for better settings of the ranker or the encoder, and print them")
    add("--encoder", action="store_true", help="of the encoder; without it of the ranker")
    add("--ranker", action="store_true", help="of the ranker")
    add("--limit-s", type=float, default=1_800.0, metavar="N", help="end after so many seconds (1800); it can go on")
    add("--archive", default="", metavar="PATH", help="a folder or URL to learn from, instead of the log in use")
    add = verb_of(acts, "status", status, "say what trains now and how the last runs ended")
    add("--last", type=int, default=TOLD, metavar="N", help=f"so many of them ({TOLD})")


@contextmanager
def _noted(settings: Settings, what: str) -> Iterator[Noted]:
    """Alone, with progress on the screen and in the file that others read."""
    from jobs.history import noted
    from jobs.trainer import alone

    with alone(settings), shown() as progress, noted(settings, what, now_ms, progress) as run:
        yield run


def ranker(asked: argparse.Namespace) -> int:
    """Train, and say what came of it: 0 promoted, 3 held for a person, 4 refused."""
    from jobs.embedding import Embedder
    from jobs.train import EXIT, run

    settings = load(asked.settings)
    with _noted(settings, "ranker") as noted:
        embedder = Embedder.serving(settings)
        found = run(settings, embedder, now_ms(), noted.progress, force=asked.force, archive=asked.archive)
        noted.end(found.result, found.why, found.manifest.id if found.manifest else "")
    tell(_came_of(found))
    return EXIT[found.result]


def encoder(asked: argparse.Namespace) -> int:
    """The same of the encoder with all that depends on it."""
    if asked.stream is not None and not asked.only:
        raise BadInput("--stream makes an encoder alone: say --only too; a bundle is made from the log in use")
    settings = load(asked.settings)
    return _encoder_only(settings, asked) if asked.only else _encoder(settings, asked)


def _encoder(settings: Settings, asked: argparse.Namespace) -> int:
    from jobs.renewal import run
    from jobs.train import EXIT
    from jobs.train_encoder import lines

    with _noted(settings, "encoder") as noted:
        found = run(settings, now_ms(), noted.progress, archive=asked.archive, force=asked.force)
        made = found.whole.manifest if found.whole else None
        noted.end(found.result, found.why, made.id if made else "")
    tell(lines(found.encoder) if found.encoder else ["an encoder that was ready is gone on with"])
    tell(_came_of(found.whole) if found.whole else [])
    return EXIT[found.result]


def _encoder_only(settings: Settings, asked: argparse.Namespace) -> int:
    from jobs.train_encoder import lines, run

    with _noted(settings, "encoder") as noted:
        found = run(settings, now_ms(), noted.progress, archive=asked.archive, stream=asked.stream)
        noted.end("kept", found.why)
    tell([*lines(found), *([f"encoder.model = {str(found.folder)!r}"] if found.folder else [])])
    return 0


def _came_of(found: Outcome) -> list[str]:
    made = found.manifest.id if found.manifest else "no bundle"
    words = {"promoted": "promoted", "held": "held", "refused": "refused", "kept": "not promoted"}[found.result]
    said = [f"{made}, {words}; {found.lessons:,} lists; {found.why}", *(f"note: {one}" for one in found.findings)]
    if found.result == "held" and found.manifest is not None:
        said.append(f"headwater bundles promote {found.manifest.id} makes it serve all the same")
    return said


def search(asked: argparse.Namespace) -> int:
    """Search within the time, and print the best settings as a part of headwater.toml."""
    from jobs.search import lines, run

    if asked.encoder and asked.ranker:
        raise BadInput("either --ranker or --encoder, got both")
    settings = load(asked.settings)
    what: Literal["ranker", "encoder"] = "encoder" if asked.encoder else "ranker"
    with _noted(settings, "search") as noted:
        found = run(settings, what, now_ms(), noted.progress, limit_s=asked.limit_s, archive=asked.archive)
        noted.end("kept", found.why)
    tell(lines(found))
    return 0


def status(asked: argparse.Namespace) -> int:
    """A line for what runs, and one for each run that ended, newest first."""
    from jobs.history import running, runs

    settings = load(asked.settings)
    now, ended = running(settings), runs(settings)
    tell([_running(now) if now else "nothing trains now"])
    tell(aligned([_row(one) for one in ended[: asked.last]]))
    return 0


def _running(now: Running) -> str:
    far = f"{now.done:,} of {now.total:,}" if now.total else f"{now.done:,}"
    return f"{now.what} since {moment(now.begun_ms)}: {now.work or 'it begins'}, {far}"


def _row(one: Ran) -> Sequence[str]:
    took = f"{(one.ended_ms - one.begun_ms) / 1000:,.0f} s"
    return [moment(one.ended_ms), one.what, took, one.result, one.bundle or "-", one.why]
