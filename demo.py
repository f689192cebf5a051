"""The demonstration: a shop full of events, a ranker trained on them, and a page to click around in.

All goes the way it goes in a real shop: the catalogue and the events of an invented shop come in by
HTTP, the ranker job learns from the log, its gate judges, and the gateway takes the bundle.
"""

from __future__ import annotations

import heapq
import logging
import shutil
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from core.catalogue import PATH_SEPARATOR, ItemChange
from core.errors import BadInput, Broken, Unavailable
from core.events import Event
from core.ids import DAY_MS
from core.settings import Settings
from evaluation.invented import InventedShop
from gateway.client import Client
from gateway.ports import KnownShopper
from gateway.serving import Gateway
from jobs import train
from jobs.embedding import Embedder
from jobs.importing import Layout
from jobs.intake import latest, source, to_log
from progress import Progress, shown
from streams.log import EmbeddedLog

INVENTED: Final = "invented"
DAYS: Final = 28  # of the invented shop's life; the gateway takes what is up to 30 days old
WINDOW_S: Final = 14 * 86_400.0  # of it that is trained on
SEED: Final = 7
KNOWN: Final = 8  # shoppers that the page offers
PRICES: Final = ("inexpensive things", "things of a middling price", "the best there is")
NOTE: Final = "demo.json"  # lies in a folder that belongs to a demonstration
WAIT_S: Final = 120.0

Clock = Callable[[], int]


class Play(msgspec.Struct, frozen=True):
    """What is to be played: the invented shop of so many items and people, or weeks of a recorded one."""

    data: str = INVENTED
    weeks: int = 8
    items: int = 600
    shoppers: int = 700


class Note(msgspec.Struct, frozen=True):
    """What a folder holds; `ended_ms` is 0 until everything was played and trained on."""

    play: Play
    ended_ms: int = 0
    known: tuple[KnownShopper, ...] = ()


class History(NamedTuple):
    """Who is in it, and how it gets into the shop; `bring` gives the number of events."""

    known: tuple[KnownShopper, ...]
    bring: Callable[[Client, Progress], int]


def show(settings: Settings, wanted: Mapping[str, Any], now_ms: Clock, folder: Path | None, *, fresh: bool) -> int:
    """Play and train where that was not done before, then serve until Ctrl-C. `wanted` names fields of `Play`."""
    data = msgspec.convert(wanted, Play).data
    folder = folder or Path("data") / ("demo" if data == INVENTED else f"demo-{data}")
    note = prepared(folder, wanted, fresh=fresh)
    play, settings = note.play, inside(settings, folder, note.play)
    logging.basicConfig(filename=folder / "headwater.log", format="%(asctime)s %(levelname)s %(message)s")
    history = None if note.ended_ms else history_of(play, settings, now_ms())
    print(f"Starting, in {folder}; to load the encoder takes some seconds.", flush=True)
    embedder = Embedder.open(settings)
    with running(settings, embedder, now_ms, history.known if history else note.known) as gateway:
        if history:
            played(gateway, settings, embedder, history, now_ms)
            note = Note(play, now_ms(), history.known)
            write(folder, note)
        print(_what_to_do(gateway.url, note, now_ms()), flush=True)
        _until_asked_to_stop()
    return 0


def played(gateway: Gateway, settings: Settings, embedder: Embedder | None, history: History, now_ms: Clock) -> None:
    """Bring a history in, train on it, and wait until the bundle serves."""
    with Client(gateway.url) as client, shown() as progress:
        began = time.monotonic()
        count = history.bring(client, progress)
        took = time.monotonic() - began
        for figure, what in (("lag_events", "taking in what was posted"), ("vectors_waiting", "encoding texts")):
            _work_off(client, figure, what, progress)
        outcome = train.run(settings, embedder, now_ms(), progress)
        if outcome.manifest is not None and outcome.promoted:
            made = outcome.manifest.id
            _wait_for(lambda: bool(engine(client)["bundle"] == made), "the bundle serves")
    print(f"{count:,} events in {took:.1f} s, {count / took:,.0f} a second, each on the disk before the call returned")
    print(f"trained on {outcome.lessons:,} lists; {outcome.why}", flush=True)


@contextmanager
def running(
    settings: Settings, embedder: Embedder | None, now_ms: Clock, known: Sequence[KnownShopper]
) -> Iterator[Gateway]:
    """A gateway in a thread of its own, ready to be called."""
    gateway = Gateway(settings, embedder, now_ms, shoppers=known)
    ready = threading.Event()
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            gateway.run(ready.set, signals=False)
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=serve, name="gateway")
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        with Client(gateway.url) as client:
            _wait_for(lambda: client.page("/readyz")[0] == 200, "the gateway is ready")
        yield gateway
    finally:
        gateway.stop()
        thread.join()


def _work_off(client: Client, figure: str, what: str, progress: Progress) -> None:
    """Wait until a figure of the engine has come down to 0, as long as it comes down.

    Raises:
        Unavailable: it does not any more.
    """
    total = left = engine(client)[figure]
    while left:
        before = left
        _wait_for(lambda: bool(engine(client)[figure] != before), f"{what} goes on")  # noqa: B023 - called at once
        left = engine(client)[figure]
        progress(what, max(0, total - left), total)


def engine(client: Client) -> dict[str, Any]:
    """What the engine says of itself."""
    told: dict[str, Any] = client.get("/healthz", details="true")["engine"]
    return told


# ---------------------------------------------------------------------- its folder
def prepared(folder: Path, wanted: Mapping[str, Any], *, fresh: bool) -> Note:
    """What the folder holds already; a folder of ours that holds nothing whole is emptied.

    Raises:
        BadInput: it holds something else, or another demonstration than is wanted.
    """
    path = folder / NOTE
    if folder.exists() and not path.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} holds something else than a demonstration: name another one with --folder")
    note = msgspec.json.decode(path.read_bytes(), type=Note) if path.exists() else Note(Play())
    if note.ended_ms and not fresh:
        for name, value in wanted.items():
            if getattr(note.play, name) != value:
                there = f"{folder} holds a demonstration with {name} {getattr(note.play, name)}, not {value}"
                raise BadInput(f"{there}: --fresh deletes it and plays this one")
        return note
    if folder.exists():
        shutil.rmtree(folder)
    note = Note(msgspec.convert(wanted, Play))
    write(folder, note)
    return note


def write(folder: Path, note: Note) -> None:
    """Note what the folder holds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).write_bytes(msgspec.json.encode(note))


def inside(settings: Settings, folder: Path, play: Play) -> Settings:
    """The settings, with everything that is written inside the folder, and a training that nobody waits long for."""
    replace = msgspec.structs.replace
    name, currency = ("Invented shop", "EUR") if play.data == INVENTED else ("The Complete Journey", "USD")
    return replace(
        settings,
        shop=replace(settings.shop, name=name, currency=currency),
        log=replace(settings.log, path=folder / "log.sqlite"),
        encoder=replace(settings.encoder, cache=folder / "vectors.sqlite"),
        bundles=replace(settings.bundles, path=folder / "bundles"),
        training=replace(settings.training, window_s=WINDOW_S, negatives=60, trees=60),
    )


# ---------------------------------------------------------------------- its data
def history_of(play: Play, settings: Settings, now_ms: int) -> History:
    """What is played, so that it ends now.

    Raises:
        Missing: the recorded shop's data is not installed.
    """
    if play.data == INVENTED:
        return _invented(invented_shop(play, now_ms), now_ms)
    return _recorded(play, settings, now_ms)


def invented_shop(play: Play, now_ms: int) -> InventedShop:
    """The invented shop, opened four weeks ago."""
    opened_ms = now_ms - now_ms % DAY_MS - DAYS * DAY_MS
    return InventedShop(SEED, play.items, play.shoppers, opened_ms=opened_ms)


def _invented(shop: InventedShop, now_ms: int) -> History:
    events = list(shop.events(now_ms))
    bodies = list(heapq.merge(shop.catalogue(now_ms), events, key=lambda body: body["ts"]))

    def bring(client: Client, progress: Progress) -> int:
        """In the order of time, as it would have come."""
        done = 0
        for kind, some in groupby(bodies, key=lambda body: "events" if "name" in body else "items"):
            for accepted, refused in client.post_all(kind, some):
                if refused:
                    raise Broken(f"the gateway refused {len(refused)} {kind}; the first: {refused[0]['reason']}")
                done += accepted
                progress("posting the catalogue and the events", done, len(bodies))
        return len(events)

    visits = Counter(event["user_id"] for event in events if "user_id" in event)
    tastes = shop.true_tastes()
    known: dict[str, KnownShopper] = {}
    for user, _ in visits.most_common():
        first, second = sorted(tastes[user].categories, key=lambda name: -tastes[user].categories[name])[:2]
        style = max(tastes[user].styles, key=lambda name: tastes[user].styles[name])
        name = user.partition("-")[0].title()
        if all(one.name != name for one in known.values()):
            note = f"{first} and {second}, {style} style, {PRICES[tastes[user].level]}"
            known.setdefault(first, KnownShopper(user, name, note))
    return History(tuple(known.values())[:KNOWN], bring)


def _recorded(play: Play, settings: Settings, now_ms: int) -> History:
    """Its last weeks go into the log as an import does: the gateway takes nothing that is months old."""
    print(f"Reading the last {play.weeks} weeks of {play.data}; its texts take minutes to encode.", flush=True)
    entries = latest(source("", play.data, "events", Layout()).entries, play.weeks * 7 * DAY_MS, now_ms)

    def bring(client: Client, progress: Progress) -> int:
        opened = EmbeddedLog.open(settings.log)
        try:
            return to_log(entries, opened, progress).events
        finally:
            opened.close()

    baskets: dict[str, list[Event]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, Event):
            baskets[entry.shopper].append(entry)
    root = {
        entry.item_id: entry.categories[0].split(PATH_SEPARATOR)[0].title()
        for entry in entries
        if isinstance(entry, ItemChange) and entry.categories
    }
    known = []
    for shopper, own in sorted(baskets.items(), key=lambda pair: -len(pair[1]))[:KNOWN]:
        bought = Counter(root[line.item_id] for one in own for line in one.items if line.item_id in root)
        favourites = " and ".join(name for name, _ in bought.most_common(2))
        known.append(KnownShopper(shopper, f"Household {shopper}", f"{len(own)} baskets, most of all {favourites}"))
    return History(tuple(known), bring)


# ---------------------------------------------------------------------- waiting and telling
def _wait_for(done: Callable[[], bool], what: str) -> None:
    """Look until it is so.

    Raises:
        Unavailable: it is not so for two minutes.
    """
    until = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > until:
            raise Unavailable(f"waited {WAIT_S:.0f} s until {what}; headwater.log may say why it does not")
        time.sleep(0.1)


def _what_to_do(url: str, note: Note, now_ms: int) -> str:
    days = (now_ms - note.ended_ms) / DAY_MS
    old = f"\nThis was played {days:.0f} days ago; --fresh plays it anew, up to now." if days > 1 else ""
    kind = "garden" if note.play.data == INVENTED else "dairy"
    names = " or ".join(one.name for one in note.known[:2])
    return (
        f"\n  Open {url}/shop\n\n"
        f"  Click three {kind} things: the list changes at once, and says why.\n"
        f"  Shop as {names}, whom it knows. Search for what you mean.\n"
        f"  {url}/docs is the interface, {url}/admin what goes on.\n{old}\n"
        "Ctrl-C ends it; the next start is ready in seconds."
    )


def _until_asked_to_stop() -> None:
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    while not asked.wait(1.0):
        pass
    print("\nStopping.", flush=True)
