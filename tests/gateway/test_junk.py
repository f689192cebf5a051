"""Whatever a client sends, it is the client's fault and told so: never a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from core.catalogue import ItemChange
from core.events import NAMES, Event
from core.settings import Settings
from gateway.app import build_app
from gateway.schemas import Asked
from tests.gateway.fakes import NOW, Guests, Log, Shop, catalogue

POSTS = ("/v1/events", "/v1/items", "/v1/recommendations")
GETS = ("/v1/recommendations", "/v1/trending", "/v1/search", "/v1/items/p01/similar", "/v1/items/p01", "/healthz")
FIELDS = sorted(
    {*Event.__struct_fields__, *ItemChange.__struct_fields__, *Asked.__struct_fields__}
    | {"events", "timestamp", "timestamp_micros", "quantity", "index", "category", "q", "attr.x"}
)
usual_texts = st.sampled_from([*sorted(NAMES), "p01", "EUR", "2025-06-15T12:00:00Z", "²", ""])
texts = st.one_of(st.text(max_size=20), usual_texts)
floats = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(st.integers(), floats, st.sampled_from([NOW, 0, -1, 10**30]))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), inner, max_size=5)
    ),
    max_leaves=12,
)
records = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)
usual = st.fixed_dictionaries(
    {"name": st.sampled_from(sorted(NAMES)), "visitor_id": st.just("v"), "item_id": st.just("p01")},
    optional={name: values for name in FIELDS if name not in ("name", "visitor_id", "item_id")},
)
bodies = st.one_of(values, records, usual, st.lists(st.one_of(records, usual), max_size=3))
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def gateway() -> Iterator[TestClient]:
    log = Log()
    shop = Shop(log, catalogue())
    app = build_app(Settings(), log, shop, lambda: NOW, demo=Guests(shop))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("path", POSTS)
@given(body=bodies)
@quick
def test_no_json_makes_a_post_fail_on_our_side(gateway: TestClient, path: str, body: Any) -> None:
    reply = gateway.post(path, content=msgspec.json.encode(body))
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert reply.json()["error"]["message"]


@pytest.mark.parametrize("path", POSTS)
@given(body=st.binary(max_size=60))
@quick
def test_no_bytes_make_a_post_fail_on_our_side(gateway: TestClient, path: str, body: bytes) -> None:
    assert 400 <= gateway.post(path, content=body).status_code < 500 or msgspec.json.decode(body) == {}


@pytest.mark.parametrize("path", GETS)
@given(pairs=st.lists(st.tuples(st.sampled_from(FIELDS), st.one_of(texts, numbers.map(str))), max_size=4))
@quick
def test_no_query_makes_a_get_fail_on_our_side(gateway: TestClient, path: str, pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={quote(value)}" for name, value in pairs)
    assert gateway.get(f"{path}?{query}").status_code < 500


@given(item_id=st.text(min_size=1, max_size=30))
@quick
def test_no_path_makes_a_call_fail_on_our_side(gateway: TestClient, item_id: str) -> None:
    for path in ("/v1/items/{}", "/v1/items/{}/similar", "/v1/demo/profiles/{}", "/pages/{}"):
        assert gateway.get(path.format(quote(item_id, safe=""))).status_code < 500
