"""Where and with what a figure was made: machine, versions, settings that are not the default."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from core.settings import Settings

PACKAGES: Final = (
    "headwater", "numpy", "polars", "msgspec", "lightgbm", "faiss-cpu", "faiss-gpu", "torch", "transformers",
)  # fmt: skip


class Changed(msgspec.Struct, frozen=True):
    """A setting that was not left at its default, both as text."""

    name: str
    default: str
    value: str


def machine() -> str:
    """Processor, cores, memory, system and Python, as far as the system tells."""
    cores, python = f"{os.cpu_count()} cores", f"Python {platform.python_version()}"
    return ", ".join(filter(None, (_processor(), cores, _memory(), platform.system(), python)))


def versions() -> dict[str, str]:
    """Installed package → version, of those that a figure depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def changed_settings(settings: Settings) -> tuple[Changed, ...]:
    """What differs from the defaults, as section.field."""
    changes = []
    for section in msgspec.structs.fields(Settings):
        now, default = getattr(settings, section.name), getattr(Settings(), section.name)
        for field in msgspec.structs.fields(type(now)):
            ours, theirs = getattr(now, field.name), getattr(default, field.name)
            if ours != theirs:
                changes.append(Changed(f"{section.name}.{field.name}", str(theirs), str(ours)))
    return tuple(changes)


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return ""
    return f"{size / 2**30:.0f} GiB"
