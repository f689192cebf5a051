from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from core.catalogue import parse_change
from core.events import NAMES, parse
from gateway.openapi import ENDPOINTS
from gateway.schemas import Asked
from tests.gateway.fakes import NOW

DOCS = Path(__file__).parents[2] / "docs"
EVENTS = (DOCS / "events.md").read_text()
HTTP = (DOCS / "http.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", EVENTS, re.DOTALL)


def test_every_event_has_its_section() -> None:
    assert set(re.findall(r"^### (\w+)$", EVENTS, re.MULTILINE)) == NAMES


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_accepted(text: str) -> None:
    value = msgspec.json.decode(text)
    if "name" in value:
        assert parse(value, now_ms=NOW, received_ms=NOW).name in NAMES
    else:
        assert parse_change(value, now_ms=NOW, received_ms=NOW).item_id


def test_an_example_of_every_event_is_given() -> None:
    assert {msgspec.json.decode(text).get("name") for text in EXAMPLES} >= NAMES


def mentioned() -> set[str]:
    return set(re.findall(r"/[a-z1][\w./{}-]*", HTTP))


def test_every_route_is_in_the_guide() -> None:
    missing = [one.path for one in ENDPOINTS if not {one.path, one.path.replace("{item_id}", "t2")} & mentioned()]
    assert missing == []


def test_every_parameter_of_a_recommendation_is_in_the_guide() -> None:
    assert [name for name in Asked.__struct_fields__ if f"`{name}`" not in HTTP] == []
