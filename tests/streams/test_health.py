from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from core.errors import BadSettings, Unavailable
from streams.health import Page, serve

Said = tuple[bool, dict[str, Any]]


class Process:
    """What a page tells of; `said` may be changed, or be an error to raise."""

    def __init__(self) -> None:
        self.said: Said | Exception = (True, {"files": 3})

    def describe(self) -> Said:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def page(process: Process) -> Iterator[Page]:
    page = serve("127.0.0.1", 0, process.describe)
    yield page
    page.close()


def get(page: Page, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_process_that_is_well_says_so_with_its_figures(page: Page) -> None:
    status, body = get(page, "/health?verbose=1")
    assert (status, json.loads(body)) == (200, {"healthy": True, "files": 3})


def test_one_that_is_not_answers_503_and_goes_on_telling_metrics(page: Page, process: Process) -> None:
    process.said = (False, {"lag": {'a"b': 2, "c": 0.5}, "failing": "no disk"})
    status, body = get(page, "/health")
    assert (status, json.loads(body)["failing"]) == (503, "no disk")
    status, body = get(page, "/metrics")
    assert status == 200
    assert body.splitlines() == [
        "# TYPE headwater_healthy gauge", "headwater_healthy 0",
        "# TYPE headwater_lag gauge", r'headwater_lag{key="a\"b"} 2', 'headwater_lag{key="c"} 0.5',
    ]  # fmt: skip


def test_figures_that_cannot_be_made_are_an_ill_process_and_not_a_dead_page(page: Page, process: Process) -> None:
    process.said = RuntimeError("broken")
    assert get(page, "/health")[0] == 503
    process.said = (True, {})
    assert get(page, "/health")[0] == 200


def test_other_paths_are_not_there(page: Page) -> None:
    assert get(page, "/admin")[0] == 404


def test_a_port_in_use_and_an_address_of_another_machine_are_told(page: Page, process: Process) -> None:
    with pytest.raises(Unavailable, match=f"port {page.port} of 127.0.0.1 is in use"):
        serve("127.0.0.1", page.port, process.describe)
    with pytest.raises(BadSettings, match=r"cannot listen on 192\.0\.2\.1"):
        serve("192.0.2.1", 0, process.describe)


def test_a_closed_page_lets_its_port_go(process: Process) -> None:
    first = serve("127.0.0.1", 0, process.describe)
    first.close()
    second = serve("127.0.0.1", first.port, process.describe)
    assert second.port == first.port
    second.close()
