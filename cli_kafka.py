"""The verbs of production on Kafka: topics, worker, gateway, archive, trainer, and a broker for development."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from cli_common import aligned, at_address, log_to_stderr, moment_of, now_ms, places, port, tell, train_command, verb_of
from core.errors import BadSettings
from core.settings import Settings, load


def add_to(verbs: Any) -> None:
    """All of them."""
    for add in (_topics, _worker, _gateway, _archive, _trainer, _dev):
        add(verbs)


def _topics(verbs: Any) -> None:
    inner = verbs.add_parser("topics", help="make and check the topics on Kafka")
    acts = inner.add_subparsers(title="verbs", metavar="VERB", required=True)
    verb_of(acts, "create", create_topics, "make the topics that are missing; none is changed or deleted")
    verb_of(acts, "check", check_topics, "name every difference from what is wanted; 1 where there is one")
    verb_of(acts, "describe", describe_topics, "list the topics as they are")


def create_topics(asked: argparse.Namespace) -> int:
    """Make what is missing."""
    from streams import topics

    made = topics.create(load(asked.settings))
    tell([*(f"{one} made" for one in made), f"{len(made)} topics made"])
    return 0


def check_topics(asked: argparse.Namespace) -> int:
    """A line for each difference."""
    from streams import topics

    found = topics.check(load(asked.settings))
    tell(found or ["all topics are as they must be"])
    return int(bool(found))


def describe_topics(asked: argparse.Namespace) -> int:
    """A line for each topic."""
    from streams import topics

    tell(aligned(topics.describe(load(asked.settings))))
    return 0


def _worker(verbs: Any) -> None:
    add = verb_of(verbs, "worker", worker, "run the steps over Kafka, as one of any number of workers")
    add("--instance", help="this worker's own name, kept over restarts (worker.instance)")
    add("--port", type=port, help="port of the health page, 0 for any that is free (worker.port)")


def worker(asked: argparse.Namespace) -> int:
    """Work until SIGINT or SIGTERM."""
    settings = _on_kafka(load(asked.settings), "the worker")
    given = {name: value for name, value in (("instance", asked.instance), ("port", asked.port)) if value is not None}
    settings = msgspec.structs.replace(settings, worker=msgspec.structs.replace(settings.worker, **given))
    log_to_stderr()
    from jobs.embedding import Embedder, Newer
    from streams.worker import Worker

    embedder = Embedder.serving(settings)
    Worker(settings, embedder, Newer(settings, embedder)).run()
    return 0


def _gateway(verbs: Any) -> None:
    add = verb_of(verbs, "gateway", gateway, "serve the interface and pages on Kafka, as one of any number of gateways")
    add("--host", help="address to listen on (gateway.host)")
    add("--port", type=port, help="port to listen on, 0 for any that is free (gateway.port)")
    add("--access-log", action="store_true", help="log a line for each call")


def gateway(asked: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    settings = _on_kafka(at_address(load(asked.settings), asked.host, asked.port), "the gateway")
    log_to_stderr()
    from gateway.serving import gateway_on_kafka
    from jobs.embedding import Embedder

    serving = gateway_on_kafka(settings, Embedder.serving(settings), now_ms, access_log=asked.access_log)
    serving.run(lambda: print(places(settings, serving.url), flush=True), signals=True)
    return 0


def _archive(verbs: Any) -> None:
    add = verb_of(verbs, "archive", archive, "write what passes over Kafka to Parquet files, or a stream from them")
    add("--host", help="address of the health page (archive.host)")
    add("--port", type=port, help="port of the health page, 0 for any that is free (archive.port)")
    add("--export", type=Path, metavar="OUT.jsonl", help="write a recorded stream from the archive instead, and end")
    add("--archive", default="", metavar="PATH", help="with --export: another folder or URL (archive.path)")
    add("--since", type=moment_of, default=0, metavar="ISO", help="with --export: events from this time on")
    add("--queries", action="store_true", help="with --export: a query for each served list too")


def archive(asked: argparse.Namespace) -> int:
    """Archive until SIGINT or SIGTERM, or export."""
    settings = load(asked.settings)
    if asked.export is not None:
        from jobs.recordings import export

        counts = export(settings, asked.export, archive=asked.archive, since_ms=asked.since, queries=asked.queries)
        tell([f"{asked.export}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items())])
        return 0
    settings = _on_kafka(settings, "the archive")
    log_to_stderr()
    from jobs.archiver import run

    run(settings, lambda port: print(f"archiving; health page on port {port}", flush=True), host=asked.host,
        port=asked.port)  # fmt: skip
    return 0


def _trainer(verbs: Any) -> None:
    add = verb_of(verbs, "trainer", trainer, "train from the archive whenever it is due")
    add("--host", help="address of the health page (training.host)")
    add("--port", type=port, help="port of the health page, 0 for any that is free (training.port)")


def trainer(asked: argparse.Namespace) -> int:
    """Train now and then until SIGINT or SIGTERM."""
    settings = load(asked.settings)
    log_to_stderr()
    from jobs.trainer import run

    run(settings, train_command(asked), now_ms, lambda port: print(f"health page on port {port}", flush=True),
        host=asked.host, port=asked.port)  # fmt: skip
    return 0


def _on_kafka(settings: Settings, what: str) -> Settings:
    if not settings.kafka.bootstrap:
        raise BadSettings(
            f"{what} needs Kafka, and kafka.bootstrap is empty: set it to the brokers' host:port, "
            "or use `headwater up`, which needs none"
        )
    return settings


def _dev(verbs: Any) -> None:
    inner = verbs.add_parser("dev", help="what development needs beside headwater")
    acts = inner.add_subparsers(title="verbs", metavar="VERB", required=True)
    add = verb_of(acts, "kafka", dev_kafka, "run Kafka on this machine until Ctrl-C; needs Java 17 and, once, Maven")
    add("--port", type=port, default=9092, help="of the first broker (9092)")
    add("--brokers", type=int, choices=(1, 3), default=1, help="how many (1)")
    add("--folder", type=Path, metavar="DIR", help="where its data stays; without one it is deleted at the end")


def dev_kafka(asked: argparse.Namespace) -> int:
    """Run brokers."""
    from kafka_dev import run

    run(asked.port, asked.brokers, asked.folder)
    return 0
