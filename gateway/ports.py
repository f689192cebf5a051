"""What stands behind the HTTP interface: a log that takes writes and an engine that answers.

`gateway.embedded` implements these on one machine and `gateway.kafka_shop` on Kafka; the tests bring one in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from core.catalogue import Item, ItemChange
from core.decision import Decision, Filters, Ranked, Request
from core.events import Event
from core.profile import Profile


class Refused(msgspec.Struct, frozen=True):
    """What could not be used, for the dead-letter log.

    `index` is its place in the call, -1 for a call that could not be taken apart at all; `raw`
    holds the bytes as they came, cut short only for a whole call. `ts` is when it came, in ms.
    """

    index: int
    reason: str
    raw: bytes
    event_id: str = ""
    ts: int = 0


class Writer(Protocol):
    """The way into the log."""

    async def events(self, accepted: Sequence[Event], refused: Sequence[Refused]) -> None:
        """Append the events, and what was refused to the dead letters; durable on return.

        Never called with both empty. Repeated event ids are the log's to recognise.

        Raises:
            Unavailable: not all of it was written, as a rule nothing, and the caller should send all of it again.
        """
        ...

    async def items(self, accepted: Sequence[ItemChange], refused: Sequence[Refused]) -> None:
        """The same for changes of the catalogue, in the order given."""
        ...


class Engine(Protocol):
    """What answers. `similar` and `search` are called from threads, the rest from the event loop."""

    def recommend(self, request: Request) -> Decision:
        """Make a list and hand it to the decision log without waiting for that."""
        ...

    def similar(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text lies near, best first, without the item itself.

        Raises:
            Missing: there is no such item.
        """
        ...

    def together(self, item_id: str, n: int, filters: Filters) -> list[Ranked]:
        """Items bought with it, then carted or seen with it where too few were bought.

        Raises:
            Missing: there is no such item.
        """
        ...

    def trending(self, n: int, category: str | None, now_ms: int, filters: Filters) -> list[Ranked]:
        """What sells now, in a category or below it; filled up with the newest items to reach `n`."""
        ...

    def search(self, text: str, n: int, filters: Filters) -> list[Ranked]:
        """Items whose text vector lies nearest to the query's, best first."""
        ...

    def item(self, item_id: str) -> Item | None:
        """The catalogue's entry; called for every place of every answer, so it must be a look-up."""
        ...

    def categories(self) -> list[str]:
        """Every category path in use, with the wider ones it lies in, in the order of a menu."""
        ...

    def ready(self) -> str | None:
        """None when requests are answered from caught-up state, else what is being waited for."""
        ...

    def describe(self) -> dict[str, Any]:
        """The state of the engine, in values that JSON has.

        Known keys, all optional: bundle, ranker, encoder (str); items, shoppers, vectors,
        events, lag_events, lag_records, lag_ms (numbers); dead_letters (newest first, objects with ts, reason
        and raw); jobs (as `jobs.history.described` tells them). Other keys are
        shown as they are; numbers become gauges in /metrics.
        """
        ...


class KnownShopper(msgspec.Struct, frozen=True):
    """Somebody to try the shop as. `id` is a user id."""

    id: str
    name: str
    note: str = ""  # what they like, in a few words


class Demo(Protocol):
    """What only a demonstration shows: who the shoppers are and what is remembered of one."""

    def shoppers(self) -> Sequence[KnownShopper]:
        """A handful of shoppers with a history."""
        ...

    def profile(self, shopper: str) -> Profile:
        """What is kept of a shopper; `NOBODY` of one never heard of."""
        ...
