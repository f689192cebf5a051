"""The visitors of an invented shop, for a shop that runs somewhere: what they do goes to its gateway by HTTP.

    python examples/invented_visitors.py http://127.0.0.1:8077

An empty shop gets the catalogue and four weeks of history first. Then the visits come as they happen, until Ctrl-C or
SIGTERM. The service `demo` of docker-compose.yml is this.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from core.errors import HeadwaterError
from core.ids import DAY_MS
from core.settings import Settings
from demo import Play, engine, history_of, invented_shop
from evaluation.invented import InventedShop
from gateway.client import Client
from progress import shown

AHEAD_MS: Final = DAY_MS  # of life that is thought up at a time


def main(arguments: Sequence[str] | None = None) -> int:
    """Visit until a signal comes; 1 where the gateway refuses."""
    asked = _parser().parse_args(arguments)
    play = Play(items=asked.items, shoppers=asked.shoppers)
    try:
        with Client(asked.url) as client:
            visit(client, play)
    except HeadwaterError as error:
        print(f"invented_visitors: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(description="Send the visitors of an invented shop to a gateway.")
    asked.add_argument("url", help="of the gateway, such as http://127.0.0.1:8077")
    asked.add_argument("--items", type=int, default=Play().items, help="products (%(default)s)")
    asked.add_argument("--shoppers", type=int, default=Play().shoppers, help="people (%(default)s)")
    return asked


def visit(client: Client, play: Play) -> None:
    """Bring the history into an empty shop, then live on; ends by an exception alone."""
    now = _now_ms()
    shop = invented_shop(play, now)
    if engine(client)["items"] == 0:  # a second history would count everything twice
        with shown() as progress:
            count = history_of(play, Settings(), now).bring(client, progress)
        print(f"{count:,} events of four weeks are in", flush=True)
    for kind, body in life(shop, now):
        time.sleep(max(0.0, (body["ts"] - _now_ms()) / 1000))
        for refused in client.post(f"/v1/{kind}", [body]).get("refused", ()):
            print(f"refused: {refused['reason']}", file=sys.stderr, flush=True)


def life(shop: InventedShop, since_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What happens from then on, in the order of time, for good: events, and products that appear."""
    while True:
        until_ms = since_ms + AHEAD_MS
        items = [("items", body) for body in shop.new_items_after(since_ms) if body["ts"] < until_ms]
        events = [("events", body) for body in shop.events(until_ms, since_ms)]
        yield from sorted([*items, *events], key=lambda one: one[1]["ts"])
        since_ms = until_ms


def _now_ms() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C
    sys.exit(main())
