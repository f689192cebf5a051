"""What a bundle is made of, and how that is written down and checked.

A bundle's id is derived from its manifest, so a manifest that was changed afterwards no longer
belongs to the folder it lies in.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from core.errors import BadInput, Broken, Corrupt, FutureLeak
from core.ids import digest

MANIFEST: Final = "manifest.json"
VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EncoderReference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which encoder made the vectors; the weights may lie outside the bundle, their checksum may not.

    `base` is empty for published weights. A bundle that carries an encoder says in it which `encoder.model` of
    the settings that encoder takes the place of.
    """

    name: str
    weights_sha256: str
    base: str = ""


class FeatureSchema(msgspec.Struct, frozen=True):
    """The columns a ranker reads, in order, and their hash, which decisions carry."""

    names: tuple[str, ...] = ()
    hash: str = ""

    @classmethod
    def of(cls, names: tuple[str, ...]) -> FeatureSchema:
        return cls(names, digest(*names))


class StoredFile(msgspec.Struct, frozen=True):
    """What a file of a bundle must be."""

    sha256: str
    bytes: int


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What the maker of a bundle knows of it. Times in ms since 1970, UTC."""

    created_ms: int
    space_id: str  # vectors are comparable within one space only
    encoder: EncoderReference
    text: dict[str, Any]  # settings of the item text template
    user_vector: dict[str, Any]  # the rule that makes a shopper's vector from recent items
    features: FeatureSchema
    max_event_time: int  # newest event that any part of it has seen
    ranker: str  # its kind: "blend" before there is a trained one
    metrics: dict[str, float]


class Manifest(Contents, frozen=True, kw_only=True):
    """A bundle as written. `files` maps a path below the bundle's folder, with slashes, to its checksum."""

    v: int = VERSION
    id: str
    files: dict[str, StoredFile]


def check_not_newer(manifest: Manifest, ts: int) -> None:
    """Refuse to answer a question of `ts` (ms) with a bundle that knows what came after it.

    Raises:
        FutureLeak: the bundle has seen an event newer than `ts`.
    """
    if manifest.max_event_time > ts:
        raise FutureLeak(
            f"bundle {manifest.id} has seen events up to {manifest.max_event_time}, and is asked about {ts}"
        )


def describe(contents: Contents, folder: Path) -> Manifest:
    """The manifest of a bundle that holds the files in `folder`.

    Raises:
        BadInput: a value that JSON cannot hold, a link, or a file that is named manifest.json.
    """
    try:
        plain = msgspec.json.decode(msgspec.json.encode(contents), type=Contents)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadInput(f"manifest: {error}") from None
    files = _inventory(folder)
    return Manifest(**_fields(plain), id=_identify(plain, files), files=files)


def save(manifest: Manifest, folder: Path) -> None:
    """Write the manifest beside its files, for people to read too."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def read(folder: Path) -> Manifest:
    """The manifest in a folder that is named for its bundle.

    Raises:
        Corrupt: it cannot be read, or is not the one this folder was written with.
        Broken: a later version of headwater wrote it.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{path} cannot be read: {error}") from None
    if manifest.v != VERSION:
        raise Broken(f"{path} has version {manifest.v}; this headwater reads version {VERSION}")
    if not manifest.id == folder.name == _identify(manifest, manifest.files):
        raise Corrupt(f"{path} is not the manifest that bundle {folder.name} was written with")
    return manifest


def verify(manifest: Manifest, folder: Path) -> None:
    """Read every file and compare it with its checksum.

    Raises:
        Corrupt: a file is absent or differs.
    """
    for name, wanted in manifest.files.items():
        path = folder / name
        got = _stored(path) if path.is_file() else None
        if got != wanted:
            raise Corrupt(f"bundle {manifest.id}: {name} must be {wanted}, got {got or 'no file'}")


def _fields(contents: Contents) -> dict[str, Any]:
    return {name: getattr(contents, name) for name in Contents.__struct_fields__}


def _identify(contents: Contents, files: dict[str, StoredFile]) -> str:
    """Sorts by time of creation; the same contents and files give the same id."""
    try:
        moment = _EPOCH + timedelta(milliseconds=contents.created_ms)
    except OverflowError:
        raise BadInput(f"created_ms must be milliseconds since 1970, got {contents.created_ms}") from None
    stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z"
    return f"{stamp}-{digest(*[msgspec.json.encode(part, order='sorted') for part in (_fields(contents), files)])}"


def _inventory(folder: Path) -> dict[str, StoredFile]:
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()) or name == MANIFEST:
            raise BadInput(f"a bundle holds plain files, and its own {MANIFEST}; got {name}")
        if path.is_file():
            files[name] = _stored(path)
    return files


def _stored(path: Path) -> StoredFile:
    with path.open("rb") as handle:
        checksum = hashlib.file_digest(handle, "sha256").hexdigest()
    return StoredFile(checksum, path.stat().st_size)
