"""The compose files as Compose reads them, as far as we use it: merged keys, defaults of variables, an override."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from core.settings import Settings, load

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "headwater.json"
PAGES = {"worker": "worker", "gateway": "gateway", "archive": "archive", "trainer": "training"}  # service: section
BASE, GPU = "docker-compose.yml", "docker-compose.gpu.yml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def read(name: str) -> dict[str, Any]:
    """One file, with every variable at its default."""
    found: dict[str, Any] = yaml.safe_load(VARIABLE.sub(r"\2", (ROOT / name).read_text(encoding="utf-8")))
    return found


def services(*names: str) -> dict[str, dict[str, Any]]:
    """All services; what a later file says goes over what an earlier one says."""
    whole: dict[str, Any] = {}
    for name in names or (BASE,):
        whole = over(whole, read(name)["services"])
    return whole


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, all else is replaced: we override no lists."""
    merged = dict(below)
    for key, value in above.items():
        held = merged.get(key)
        merged[key] = over(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def mounts(service: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """By the path inside: what is mounted there, and whether it may be written."""
    found = {}
    for one in service.get("volumes", ()):
        source, inside, *options = one.split(":")
        found[inside] = (source, "ro" not in options)
    return found


def instructions(name: str = "Dockerfile") -> list[tuple[str, str]]:
    """Instructions of a Dockerfile and what they say, a pair each."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, said) for word, said in pairs]


OURS = {name: one for name, one in services().items() if one["image"].startswith("headwater:")}


def settings_of(service: Mapping[str, Any]) -> Settings:
    return load(None, service.get("environment", {}))


def address_of(name: str) -> tuple[str, int]:
    """Where a service of ours is to listen."""
    section = getattr(settings_of(OURS[name]), PAGES[name])
    return section.host, section.port
