"""The command `headwater`: each verb builds what it needs and calls one function.

Heavy packages are imported by the verbs that use them, so that the others answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cli_kafka
import cli_train
from cli_common import (
    Verb,
    aligned,
    at_address,
    log_to_stderr,
    moment,
    moment_of,
    now_ms,
    places,
    port,
    tell,
    train_command,
    verb_of,
    version,
)
from core.bundle import Bundles
from core.errors import BadInput, BadSettings, HeadwaterError
from core.settings import load
from progress import shown

if TYPE_CHECKING:
    from core.settings import Settings
    from evaluation.replay import Replay
    from jobs.intake import Source, Taken
    from streams.messages import Letter

TRACEBACK: Final = "HEADWATER_TRACEBACK"  # in the environment: 1 shows where an error came from
ROWS_TOLD: Final = 5  # refused rows of an import that are named
NUMBERS: Final = ("price", "quantity", "rating", "value")  # of the values that --set gives
RAW_TOLD: Final = 160  # characters of a dead letter
JUDGED: Final = ("ndcg@10", "champion_ndcg@10")  # of a bundle's metrics


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; 0 when it did what was asked, 2 when what was asked cannot be, else 1."""
    asked = parser().parse_args(arguments)
    verb: Verb = asked.verb
    try:
        return verb(asked)
    except BrokenPipeError:  # the reader of our output has seen enough; what is left is flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (HeadwaterError, OSError) as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        print(f"headwater: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """All verbs and what they take."""
    whole = argparse.ArgumentParser(
        prog="headwater", description="A recommendation engine for online shops, fed by the shop's own event stream."
    )
    whole.add_argument("--version", action="version", version=f"headwater {version()}")
    verbs = whole.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (
        _up,
        _import,
        cli_train.add_to,
        _replay,
        _evaluate,
        _bundles,
        _dead_letters,
        _settings,
        _doctor,
        _demo,
    ):
        add(verbs)
    cli_kafka.add_to(verbs)
    return whole


# ---------------------------------------------------------------------- up
def _up(verbs: Any) -> None:
    add = verb_of(verbs, "up", up, "serve everything on this machine: interface, pages, steps, answers, training")
    add("--host", help="address to listen on (gateway.host)")
    add("--port", type=port, help="port to listen on, 0 for any that is free (gateway.port)")
    add("--access-log", action="store_true", help="log a line for each call")
    add("--no-training", action="store_true", help="never train a ranker by itself")


def up(asked: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    settings = at_address(load(asked.settings), asked.host, asked.port)
    if settings.kafka.bootstrap:
        raise BadSettings("kafka.bootstrap is set: on Kafka run headwater gateway, worker, archive and trainer instead")
    log_to_stderr()
    from gateway.serving import Gateway
    from jobs.embedding import Embedder

    train = [] if asked.no_training else train_command(asked)
    gateway = Gateway(settings, Embedder.serving(settings), now_ms, train=train, access_log=asked.access_log)
    gateway.run(lambda: print(places(settings, gateway.url), flush=True), signals=True)
    return 0


# ---------------------------------------------------------------------- import
def _import(verbs: Any) -> None:
    add = verb_of(verbs, "import", import_, "take in a file of events or items, or a public data set")
    add("source", nargs="?", default="", metavar="FILE|PRESET", help="a file, or a preset that brings its own data")
    add("--preset", default="", metavar="NAME", help="read the file as this data set's")
    add("--list", action="store_true", help="list the presets with their licences")
    add("--kind", choices=("events", "items"), default="events", help="what the rows of a table are")
    add("--format", choices=("csv", "parquet", "jsonl", "stream"), default="", help="where the name does not tell it")
    add("--map", nargs="+", action="extend", default=[], metavar="OURS=THEIRS", help="columns that are named otherwise")
    add("--set", nargs="+", action="extend", default=[], metavar="OURS=VALUE", help="values of columns it lacks")
    add("--time-format", default="", help="of the column ts, as strptime has it")
    add("--time-zone", default="UTC", help="of times that name none")
    add("--to-stream", type=Path, metavar="OUT.jsonl", help="write a recorded stream instead of taking it in")


def import_(asked: argparse.Namespace) -> int:
    """Read a file or preset into the log or a stream, and say what became of it."""
    from jobs.importing import Layout, to_stream
    from jobs.intake import source, to_log
    from jobs.presets import PRESETS
    from streams.log import EmbeddedLog

    if asked.list:
        tell(line for one in PRESETS.values() for line in (f"{one.name}: {one.about}", f"    licence: {one.licence}"))
        return 0
    settings = load(asked.settings)
    columns, values = _pairs(asked.map, "--map"), _typed(_pairs(asked.set, "--set"))
    layout = Layout(columns, values, asked.format, asked.time_format, asked.time_zone)
    found = source(asked.source, asked.preset, asked.kind, layout)
    if asked.to_stream:
        counts = to_stream(found.entries, asked.to_stream)
        tell([f"{asked.to_stream}: {counts['event']:,} events, {counts['item']:,} item changes"])
    else:
        opened = EmbeddedLog.open(settings.log)
        try:
            with shown() as progress:
                taken = to_log(found.entries, opened, progress)
        finally:
            opened.close()
        tell(_taken(taken, settings.log.path))
    tell(_not_taken(found))
    return 0


def _taken(taken: Taken, path: Path) -> list[str]:
    queries = f"; {taken.queries:,} queries are not for a log" if taken.queries else ""
    return [f"{path}: {taken.events:,} events, {taken.items:,} item changes; {taken.known:,} were there{queries}"]


def _not_taken(source: Source) -> list[str]:
    refused = source.refused
    lines = [f"left out, {why}: {count:,} rows" for why, count in refused.left_out.most_common()]
    lines += [f"refused: {refused.count:,} rows"] if refused.count else []
    lines += [f"    row {one.row:,}: {one.reason}" for one in refused.first[:ROWS_TOLD]]
    lines += [f"    and {refused.count - ROWS_TOLD:,} more"] if refused.count > ROWS_TOLD else []
    return lines + ([f"data: {source.preset.attribution} ({source.preset.licence})"] if source.preset else [])


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    for one in given:
        if "=" not in one:
            raise BadInput(f"{option} takes ours=theirs, got {one!r}")
    return dict(one.split("=", 1) for one in given)


def _typed(values: dict[str, str]) -> dict[str, Any]:
    """Times as ms, numbers as numbers."""
    try:
        given = {name: float(values[name]) for name in NUMBERS if name in values}
        return values | given | ({"ts": moment_of(values["ts"])} if "ts" in values else {})
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise BadInput(f"--set: {error}") from None


# ---------------------------------------------------------------------- replay, evaluate
def _replay(verbs: Any) -> None:
    add = verb_of(verbs, "replay", replay, "answer a recorded stream's queries, each from what stands above it")
    add("stream", type=Path, help="items, events and queries in time order, one JSON object a line")
    add("--recommendations", type=Path, required=True, metavar="OUT.jsonl", help="where the answers go")
    add("--no-ranker", action="store_true", help="train no ranker: the blend of the channels ranks")
    add("--channels", metavar="A,B", help="only these channels retrieve")


def replay(asked: argparse.Namespace) -> int:
    """Replay a stream, and say how long things took."""
    from evaluation.replay import replay, write_answers
    from jobs.embedding import Embedder
    from ranker.channels import CHANNELS

    channels = tuple(asked.channels.split(",")) if asked.channels else tuple(CHANNELS)
    if unknown := [name for name in channels if name not in CHANNELS]:
        raise BadInput(f"unknown channel {unknown[0]!r}; there are {', '.join(CHANNELS)}")
    settings = load(asked.settings)
    with shown() as progress:
        found = replay(
            asked.stream,
            settings,
            Embedder.open(settings),
            channels=channels,
            ranker=not asked.no_ranker,
            progress=lambda lines: progress("replaying", lines, 0),
        )
    write_answers(asked.recommendations, found.answers)
    tell(_replayed(found, asked.recommendations))
    return 0


def _replayed(found: Replay, path: Path) -> list[str]:
    took = sorted(1e3 * one.seconds for one in found.answers) or [0.0]
    middle, slow = took[len(took) // 2], took[int(0.99 * (len(took) - 1))]
    return [
        f"{path}: {len(found.answers):,} queries answered, p50 {middle:.2f} ms, p99 {slow:.2f} ms",
        f"{found.lines:,} lines in {found.seconds:.1f} s, {found.events / max(found.seconds, 1e-9):,.0f} events/s",
        *(f"trained at {moment(one.ts)} on {one.groups:,} lists in {one.seconds:.1f} s" for one in found.trained),
        *(f"user vector at {moment(one.ts)} in {one.seconds:.0f} s: {one.why}" for one in found.users),
    ]


def _evaluate(verbs: Any) -> None:
    add = verb_of(verbs, "evaluate", evaluate, "measure on a recorded stream, beside simple baselines")
    add("stream", type=Path, help="items and events in time order, one JSON object a line")
    add("--report", type=Path, required=True, metavar="OUT.html", help="the page; its JSON twin lies beside it")
    add("--test-from", type=moment_of, metavar="ISO", help="ask from this time on (the newest fifth of the lines)")
    add("--most", type=int, default=0, metavar="N", help="ask about so many times at most (0: always)")
    add("--ablate", type=int, metavar="N", help="ask so many of them without each part too (1000; 0: none)")


def evaluate(asked: argparse.Namespace) -> int:
    """Evaluate, write the report, and print its tables."""
    from evaluation.ablation import ABLATED
    from evaluation.evaluate import run
    from evaluation.page import to_html
    from evaluation.report import print_table, to_json
    from jobs.embedding import Embedder

    settings = load(asked.settings)
    with shown() as progress:
        report = run(
            asked.stream,
            settings,
            Embedder.open(settings),
            test_from_ms=asked.test_from,
            most=asked.most,
            ablate=ABLATED if asked.ablate is None else asked.ablate,
            progress=progress,
        )
    twin = asked.report.with_suffix(".json")
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    asked.report.write_text(to_html(report), encoding="utf-8")
    twin.write_bytes(to_json(report))
    tell([print_table(report), f"{asked.report}, {twin}"])
    return 0


# ---------------------------------------------------------------------- bundles, dead letters, settings
def _bundles(verbs: Any) -> None:
    inner = verbs.add_parser("bundles", help="list the versions of what answers, and choose which one does")
    acts = inner.add_subparsers(title="verbs", metavar="VERB", required=True)
    verb_of(acts, "list", list_bundles, "list all bundles, newest first")
    verb_of(acts, "promote", promote, "make a bundle serve")("id", metavar="ID")
    verb_of(acts, "rollback", rollback, "go back to the bundle that served before")
    add = verb_of(acts, "shadow", shadow, "have a bundle answer a share of the requests unseen, or say what came of it")
    add("id", metavar="ID", nargs="?", help="which one; without it, and without --off, the figures of the gateway")
    add("--off", action="store_true", help="none any more")
    verb_of(acts, "prune", prune, "delete all but the newest (bundles.keep) and those one can go back to")


def list_bundles(asked: argparse.Namespace) -> int:
    """A line for each bundle; a star stands before the one that serves."""
    from jobs.gate import verdict_of

    store = _store(asked)
    current, found = store.current_id(), store.list()
    rows = [["", "bundle", "made", "ranker", "NDCG@10", "against", "verdict", "lists", "bytes"]] if found else []
    for one in found:
        figures = [f"{one.metrics[name]:.4f}" if name in one.metrics else "-" for name in JUDGED]
        verdict = verdict_of(store.folder(one.id))
        figures.append(verdict.result if verdict else "-")
        sizes = [f"{one.metrics.get('lists', 0):,.0f}", f"{sum(file.bytes for file in one.files.values()):,}"]
        rows.append(["*" if one.id == current else "", one.id, moment(one.created_ms), one.ranker, *figures, *sizes])
    tell(aligned(rows) or [f"no bundles in {store.root}: the blend answers; headwater train ranker makes the first"])
    return 0


def promote(asked: argparse.Namespace) -> int:
    """Verify a bundle and make it serve; a running gateway takes it within a second."""
    from jobs.history import note

    tell([f"{_store(asked).promote(asked.id, now_ms()).id} serves"])
    note(load(asked.settings), "promote", now_ms(), "promoted", "by hand", asked.id)
    return 0


def rollback(asked: argparse.Namespace) -> int:
    """Go back to the bundle that served before."""
    from jobs.history import note

    back = _store(asked).rollback()
    tell([f"{back} serves again"])
    note(load(asked.settings), "rollback", now_ms(), "rolled back", "by hand", back)
    return 0


def shadow(asked: argparse.Namespace) -> int:
    """Name the bundle that answers unseen, or ask the gateway of the settings what its answers would have changed."""
    store = _store(asked)
    if asked.off and asked.id:
        raise BadInput(f"either --off or a bundle, got both --off and {asked.id}")
    if asked.off or asked.id:
        store.shadow(asked.id)
        tell([f"{asked.id} answers unseen" if asked.id else "no bundle answers unseen"])
        return 0
    named = store.shadow_id()
    tell([f"{named} answers unseen" if named else "no bundle answers unseen"])
    if named:
        tell(_differences(load(asked.settings)))
    return 0


def _differences(settings: Settings) -> list[str]:
    from gateway.client import Client, url_of

    with Client(url_of(settings.gateway.host, settings.gateway.port)) as client:
        engine = client.get("/healthz", details="true")["engine"]
    if "shadow" not in engine:
        return ["the gateway has not taken it, or bundles.shadow_share is 0: its log says why"]
    return [
        f"{engine['shadow_lists']:,} lists, {engine['shadow_overlap']:.1%} of the first ten are the same items, "
        f"{engine['shadow_same_first']:.1%} begin with the same one",
        f"{engine['shadow_ms']:.1f} ms a list, {engine['shadow_failures']:,} failures, "
        f"{engine['shadow_left_out']:,} left out",
    ]


def prune(asked: argparse.Namespace) -> int:
    """Delete what is not kept."""
    gone = _store(asked).prune()
    tell([*(f"{one} deleted" for one in gone), f"{len(gone)} bundles deleted"])
    return 0


def _store(asked: argparse.Namespace) -> Bundles:
    settings = load(asked.settings).bundles
    return Bundles(settings.path, settings.keep)


def _dead_letters(verbs: Any) -> None:
    inner = verbs.add_parser("dead-letters", help="what was refused, and why")
    acts = inner.add_subparsers(title="verbs", metavar="VERB", required=True)
    add = verb_of(acts, "list", list_letters, "list what was refused, newest first")
    add("--limit", type=int, default=20, metavar="N", help="at most so many (20)")
    add = verb_of(acts, "replay", replay_letters, "try again what was refused, and append what is good now")
    add("--match", default="", metavar="TEXT", help="only letters with this in their reason or origin")


def list_letters(asked: argparse.Namespace) -> int:
    """Two lines for each letter: why, and what."""
    from streams.letters import newest

    found = newest(load(asked.settings), asked.limit)
    tell(_written(one) for one in found)
    tell([] if found else ["no dead letters"])
    return 0


def replay_letters(asked: argparse.Namespace) -> int:
    """A line for each letter; 1 where one is still refused."""
    from streams.letters import replay

    outcomes = replay(load(asked.settings), now_ms(), asked.match)
    for one in outcomes:
        print(f"{one.letter.origin}  {one.reason or f'{one.records} records appended'}")
    refused = sum(bool(one.reason) for one in outcomes)
    tell([f"{len(outcomes) - refused} letters replayed, {refused} still refused"])
    return int(refused > 0)


def _written(letter: Letter) -> str:
    raw = letter.raw if len(letter.raw) <= RAW_TOLD else letter.raw[:RAW_TOLD] + "…"
    return f"{moment(letter.ts)}  {letter.origin}  {letter.reason}\n    {raw!r}"


def _settings(verbs: Any) -> None:
    add = verb_of(verbs, "settings", settings, "print the settings as they are in force, as headwater.toml has them")
    add("--markdown", action="store_true", help="print the page docs/settings.md instead")


def settings(asked: argparse.Namespace) -> int:
    """Print every setting with what it means; what is no default says so."""
    from core.settings_page import as_markdown, as_toml

    print(as_markdown() if asked.markdown else as_toml(load(asked.settings)), end="")
    return 0


# ---------------------------------------------------------------------- doctor, demo
def _doctor(verbs: Any) -> None:
    verb_of(verbs, "doctor", doctor, "check whether everything that is needed is there")


def doctor(asked: argparse.Namespace) -> int:
    """A line for each check; 1 where one failed."""
    from doctor import checks

    failed = False
    for one in checks(asked.settings):
        print(one, flush=True)
        failed = failed or one.failed
    return int(failed)


def _demo(verbs: Any) -> None:
    add = verb_of(verbs, "demo", demo, "play an invented shop, train on it, and serve it to click around in")
    add("--folder", type=Path, help="where all that belongs to it lies (data/demo)")
    add("--fresh", action="store_true", help="delete what an earlier demo left, and start over")
    add("--check", action="store_true", help="check in a folder of its own that it works, and end")
    add("--data", choices=("invented", "complete-journey"), help="whose events are played (invented)")
    add("--weeks", type=int, metavar="N", help="of complete-journey: its last so many weeks (8)")
    add("--items", type=int, metavar="N", help="products of the invented shop (600)")
    add("--shoppers", type=int, metavar="N", help="people of the invented shop (700)")
    add("--host", help="address to listen on (gateway.host)")
    add("--port", type=port, help="port to listen on (gateway.port)")


def demo(asked: argparse.Namespace) -> int:
    """Play, train and serve; with --check, see whether it works."""
    from demo import Play, show
    from demo_check import check

    given = {name: getattr(asked, name) for name in Play.__struct_fields__}
    wanted = {name: value for name, value in given.items() if value is not None}
    settings = at_address(load(asked.settings), asked.host, asked.port)
    if asked.check:
        return check(settings, Play(**wanted), now_ms)
    return show(settings, wanted, now_ms, asked.folder, fresh=asked.fresh)


if __name__ == "__main__":
    sys.exit(main())
