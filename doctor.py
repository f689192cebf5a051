"""Is everything there that is needed? A line for each check, with what to do where it is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module, metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from core.bundle import Bundles
from core.errors import HeadwaterError, Unavailable
from core.settings import Settings, load

PYTHON: Final = (3, 11)
PACKAGES: Final = ("numpy", "msgspec", "polars", "lightgbm", "torch", "transformers", "starlette", "uvicorn", "rich")
GIB: Final = 1 << 30
DISK: Final = 2 * GIB  # below this the log and the bundles of a shop soon have no room
MEMORY: Final = 2 * GIB
CORES: Final = 2


class Check(NamedTuple):
    """What was looked at, how it is (ok, warn or FAIL), and what to do about it."""

    state: str
    what: str
    found: str

    @property
    def failed(self) -> bool:
        return self.state == "FAIL"

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.what}: {self.found}"


def checks(settings_file: Path | None) -> Iterator[Check]:
    """Every check, as it is made; what the settings decide is left out where they cannot be read."""
    yield _python()
    yield from _packages()
    yield _faiss()
    yield from _machine()
    try:
        settings = load(settings_file)
    except HeadwaterError as error:
        yield _fail("settings", str(error))
        return
    yield _ok("settings", f"{settings_file or 'headwater.toml where there is one, else defaults'}; valid")
    for what, look in _OF_SETTINGS.items():
        try:
            yield look(settings)
        except (HeadwaterError, OSError) as error:
            yield _fail(what, str(error))


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        return _fail("python", f"{version}; 3.11 or later is needed")
    return _ok("python", f"{version} at {sys.executable}")


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            import_module(name)
            yield _ok(name, metadata.version(name))
        except Exception as error:
            # A broken installation fails in its own ways: torch with OSError, numpy's users with ValueError.
            yield _fail(name, f"cannot be imported ({type(error).__name__}: {error}); make setup installs it")


def _faiss() -> Check:
    found = sorted(set(metadata.packages_distributions().get("faiss", [])))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in found)
    if len(found) > 1:
        return _fail("faiss", f"{versions}: they overwrite each other; uninstall all, then install one of them anew")
    try:
        import_module("faiss")
    except ImportError as error:
        return _fail("faiss", f"cannot be imported ({error}); install headwater[cpu] or headwater[gpu]")
    return _ok("faiss", versions or "there, but of no package that pip knows")


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _enough("cores", cores, CORES, str(cores), "training and answers share one")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield _enough("memory", memory, MEMORY, f"{memory / GIB:.1f} GiB", "the encoder alone takes one")
    try:
        torch = import_module("torch")
    except Exception as error:
        yield _warn("gpu", f"not looked for: torch cannot be imported ({error})")
        return
    if torch.cuda.is_available():
        yield _ok("gpu", torch.cuda.get_device_name(0))
    else:
        yield _ok("gpu", "none seen; everything runs without one")


def _encoder(settings: Settings) -> Check:
    if settings.encoder.model == "none":
        return _warn("encoder", "switched off (encoder.model = none): no search, no similar items, no text channel")
    from models.encoder import Encoder

    encoder = Encoder.open(settings.encoder, settings.text)
    (vector,) = encoder.encode(["a teapot for two"])
    return _ok("encoder", f"{encoder.name} encodes, {len(vector)} dimensions, {encoder.dtype} on {encoder.device}")


def _log(settings: Settings) -> Check:
    from streams.follower import GROUP
    from streams.log import EmbeddedLog
    from streams.topology import SOURCES

    path = settings.log.path
    if not path.exists():
        _writable(path.parent)
        return _ok("log", f"none at {path} yet; the first start makes it")
    if wrong := _damage(path):
        return _fail("log", f"{path} is damaged ({wrong}): restore it from a backup")
    opened = EmbeddedLog.open(settings.log)
    try:
        ends, done = opened.ends(), opened.positions(GROUP)
    finally:
        opened.close()
    lag = sum(last - done.get(place, -1) for place, last in ends.items() if place[0] in SOURCES)
    records, size = sum(last + 1 for last in ends.values()), path.stat().st_size
    if lag > settings.log.commit_every:
        return _warn("log", f"{path}, whole; {lag:,} records are not taken in: headwater up does that")
    return _ok("log", f"{path}, whole; {records:,} records ever, {size / 1e6:,.1f} MB, {lag:,} not taken in")


def _damage(path: Path) -> str:
    """What SQLite finds wrong with a file; nothing where it is whole."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            return str(error)
    return "" if found == "ok" else str(found)


def _bundles(settings: Settings) -> Check:
    store = Bundles(settings.bundles.path, settings.bundles.keep)
    found = [store.load(one.id) for one in store.list()]
    current = store.current_id()
    if current is None:
        return _ok("bundles", f"none serves in {store.root}: the blend answers until a ranker is trained")
    store.load(current)
    return _ok("bundles", f"{len(found)} in {store.root}, each file as its manifest says; {current} serves")


def _disk(settings: Settings) -> Check:
    folder = _existing(settings.log.path.parent)
    free = shutil.disk_usage(folder).free
    return _enough("disk", free, DISK, f"{free / GIB:.1f} GiB free at {folder}", "the log needs room to grow")


def _port(settings: Settings) -> Check:
    from gateway.serving import listen

    try:
        listen(settings.gateway).close()
    except Unavailable:
        if not _answers(settings):
            raise
        return _ok("port", f"headwater answers on {settings.gateway.port} of {settings.gateway.host}")
    return _ok("port", f"{settings.gateway.port} of {settings.gateway.host} is free")


def _answers(settings: Settings) -> bool:
    """Whether what listens there is a gateway of ours."""
    from gateway.client import Client

    host = settings.gateway.host
    with Client(f"http://{f'[{host}]' if ':' in host else host}:{settings.gateway.port}", timeout_s=2.0) as client:
        try:
            return bool(client.get("/healthz").get("status") == "ok")
        except (HeadwaterError, msgspec.DecodeError, AttributeError):
            return False


def _writable(folder: Path) -> None:
    there = _existing(folder)
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there} cannot be written to")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())


def _enough(what: str, got: float, wanted: float, found: str, why: str) -> Check:
    return _ok(what, found) if got >= wanted else _warn(what, f"{found}; {why}")


def _ok(what: str, found: str) -> Check:
    return Check("ok", what, found)


def _warn(what: str, found: str) -> Check:
    return Check("warn", what, found)


def _fail(what: str, found: str) -> Check:
    return Check("FAIL", what, found)


_OF_SETTINGS: Final[dict[str, Callable[[Settings], Check]]] = {
    "encoder": _encoder,
    "log": _log,
    "bundles": _bundles,
    "disk": _disk,
    "port": _port,
}
