from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from gateway.routes_pages import FOLDER

FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("page", ["shop", "admin", "docs"])
def test_a_page_is_served_with_everything_it_loads(client: TestClient, page: str) -> None:
    reply = client.get(f"/{page}")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="(/pages/[^"]+)"', reply.text)
    assert len(loaded) >= 4
    assert {client.get(path).status_code for path in loaded} == {200}


@pytest.mark.parametrize("name", FILES)
def test_no_file_loads_from_elsewhere(client: TestClient, name: str) -> None:
    text = client.get(f"/pages/{name}").text
    outside = [one for one in re.findall(r"https?://[^\s\"'`)]+", text) if not one.startswith("http://www.w3.org/")]
    assert outside == []
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert imported in FILES
    assert "innerHTML" not in text
    assert not re.search(r"<script>|<style|\son\w+=", text) or not name.endswith(".html")


def test_the_root_leads_to_the_shop(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "/shop"


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/pages/shop.js").headers["etag"]
    again = client.get("/pages/shop.js", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "..%2F..%2Fpyproject.toml", "%2e%2e/app.py", "shop"])
def test_nothing_but_the_pages_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/pages/{name}").status_code == 404
