"""The whole loop in one process, by way of HTTP: what is posted is in the log, in the state and in the next answer."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.bundle import Bundles
from core.catalogue import Item
from core.decision import Label
from core.errors import BadSettings, Unavailable
from core.ids import DAY_MS, HOUR_MS, MINUTE_MS
from core.manifest import Contents, EncoderReference, FeatureSchema
from core.settings import BundleSettings, LogSettings, PopularitySettings, Settings, TrainingSettings
from gateway.app import build_app
from gateway.embedded import EmbeddedShop
from jobs.embedding import Embedder
from ranker import bundle, features
from ranker.model import Examples, train
from streams.follower import Follower
from streams.log import EmbeddedLog, New
from streams.runner import Runner
from tests.ranker.tiny import DIM, SPACE, TinyShop, vector_of

T = 1_750_000_000_000


class WordEmbedder:
    """An encoder that knows nothing but the words of a title."""

    space_id, dim, name, weights_sha256, folder = SPACE, DIM, "words", "0", None

    def __init__(self, encoded: list[str]) -> None:
        self.encoded = encoded

    def vectors(self, items: Sequence[Item]) -> NDArray[np.float32]:
        self.encoded += [item.item_id for item in items]
        return np.stack([vector_of(item.title) for item in items])

    def query(self, text: str) -> NDArray[np.float32]:
        return vector_of(text)


@dataclass
class Running:
    """A shop that serves, with a clock that stands still until it is told to go on."""

    folder: Path
    text: bool = False
    now: int = T
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(
            log=LogSettings(path=self.folder / "log.sqlite"), bundles=BundleSettings(path=self.folder / "bundles")
        )

    @contextmanager
    def open(self, encoded: list[str] | None = None) -> Iterator[TestClient]:
        """Serve; `encoded` is told which items were given vectors."""
        told = [] if encoded is None else encoded
        embedder = cast(Embedder, WordEmbedder(told)) if self.text else None
        self.shop = EmbeddedShop(self.settings, embedder, lambda: self.now)

        @asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            self.shop.start()
            try:
                yield
            finally:
                self.shop.stop()

        app = build_app(self.settings, self.shop, self.shop, lambda: self.now, demo=self.shop, lifespan=life)
        with TestClient(app, base_url="http://shop.test") as client:
            yield client

    def logged(self, topic: str) -> list[bytes]:
        """The values of a topic, partition by partition."""
        opened = EmbeddedLog.open(self.settings.log)
        try:
            ends = [place for place in opened.ends() if place[0] == topic]
            return [entry.value or b"" for place in ends for entry in opened.read(*place, -1, 10_000)]
        finally:
            opened.close()

    def letters(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(value) for value in self.logged("dead-letter")]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


def eventually(condition: Callable[[], bool], within_s: float) -> float:
    """Seconds until it holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, "it did not come to pass in time"
        time.sleep(0.02)
    return time.monotonic() - started


def post(client: TestClient, *events: dict[str, Any], path: str = "/v1/events") -> dict[str, Any]:
    reply = client.post(path, json=list(events))
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def sell(client: TestClient, *titles: str, **fields: Any) -> None:
    post(client, *[{"item_id": title, "title": title, **fields} for title in titles], path="/v1/items")


def view(visitor: str, item: str, **fields: Any) -> dict[str, Any]:
    return {"name": "view_item", "visitor_id": visitor, "item_id": item, **fields}


def purchase(*items: str, **fields: Any) -> dict[str, Any]:
    return {"name": "purchase", "transaction_id": "t1", "currency": "EUR", "items": list(items), **fields}


def asked(client: TestClient, **params: Any) -> dict[str, Any]:
    reply = client.get("/v1/recommendations", params=params)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def listed(client: TestClient, **params: Any) -> list[str]:
    return [one["item_id"] for one in asked(client, **params)["items"]]


def details(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/healthz", params={"details": "true"}).json()["engine"]
    return found


GOODS = tuple([f"{colour} {thing}" for thing in ("tea", "bike", "hose", "cup") for colour in ("red", "green", "old")])


def opened_long_ago(client: TestClient) -> None:
    """A shop with goods that nobody finds new, and some visits and baskets of last week."""
    goods = [{"item_id": one, "title": one, "ts": T - 60 * DAY_MS + n, "price": 5.0} for n, one in enumerate(GOODS)]
    placed = [{"categories": [f"Things > {one.split()[1]}"]} for one in GOODS]
    post(client, *[one | place for one, place in zip(goods, placed, strict=True)], path="/v1/items")
    for n, title in enumerate(GOODS):
        ts = T - 7 * DAY_MS + n // 3 * HOUR_MS + n % 3 * MINUTE_MS
        post(client, *[view(f"w{k}", title, ts=ts + k) for k in range(4)], purchase(title, visitor_id="w0", ts=ts + 9))


# ---------------------------------------------------------------------- the loop
@pytest.mark.parametrize("slow_s", [0.0, 0.05])
def test_the_list_changes_with_the_very_next_request_after_three_views(
    running: Running, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    accept = Runner.accept

    def slowly(runner: Runner, message: Any) -> None:
        time.sleep(slow_s if getattr(message, "visitor_id", "") == "v" else 0.0)
        accept(runner, message)

    monkeypatch.setattr(Runner, "accept", slowly)
    with running.open() as client:
        opened_long_ago(client)
        before = listed(client, visitor_id="v")
        viewed = ["old hose", "green hose", "red hose"]
        post(client, *[view("v", item, ts=T - 3 + n) for n, item in enumerate(viewed)])
        after = asked(client, visitor_id="v")
        assert [one["item_id"] for one in after["items"]] != before
        named = {reason["item_id"] for one in after["items"] for reason in one["reasons"] if "item_id" in reason}
        assert named
        assert named <= set(viewed)
        assert listed(client, visitor_id="somebody else") != [one["item_id"] for one in after["items"]]


@pytest.mark.parametrize("text", [False, True])
def test_a_restart_changes_no_answer(tmp_path: Path, text: bool) -> None:
    running = Running(tmp_path, text=text)
    shoppers = ("v", "w0", "w3", "nobody")

    def answers(client: TestClient) -> list[Any]:
        eventually(lambda: not text or (details(client)["vectors"], details(client)["vectors_waiting"]) == (13, 0), 5)
        lists = [asked(client, user_id=one, explain="true", n=13)["items"] for one in shoppers]
        return [*lists, *[client.get(f"/v1/items/{GOODS[0]}/bought-together").json()["items"]],
                client.get("/v1/trending").json()["items"], client.get("/v1/categories").json(),
                client.get("/v1/demo/profiles/v").json()]  # fmt: skip

    with running.open() as client:
        opened_long_ago(client)
        post(client, view("v", "red tea"), purchase("red tea", "old cup", visitor_id="v"), view("w3", "red bike"))
        sell(client, "new tea")
        first = answers(client)
    with running.open() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, 5)
        assert_alike(answers(client), first)
    assert len(running.logged("clickstream")) == 4 * 3 * 5 + 3


def test_a_log_counted_with_other_half_lives_is_refused_in_words(running: Running) -> None:
    with running.open() as client:
        post(client, view("v", "a"))
    running.settings = msgspec.structs.replace(
        running.settings, popularity=PopularitySettings(half_lives_s=(172_800.0,))
    )
    with pytest.raises(BadSettings, match="counted with 6"), running.open():
        pass
    running.shop.stop()


def test_a_restart_changes_no_answer_of_a_shop_without_a_catalogue(running: Running) -> None:
    def answers(client: TestClient) -> list[Any]:
        asked_by = [asked(client, visitor_id=name, explain="true")["items"] for name in ("u0", "u1", "nobody")]
        return [*asked_by, client.get("/v1/trending").json()["items"]]

    with running.open() as client:
        for n in range(40):  # no two alike: rows are given in the order of arrival, and ties go by row
            late, shopper = T - (n * 17 % 40) * HOUR_MS, f"u{n % 3}"
            bought = {"items": [{"item_id": f"i{n % 7}", "price": 1.0 + n}], "transaction_id": f"t{n}"}
            post(client, purchase(visitor_id=shopper, ts=late + n * 1_000) | bought)
            post(client, view(shopper, f"i{(n + 1) % 7}", ts=late + n * 7_000 + MINUTE_MS))
        first = answers(client)
        assert len(first[0]) == 7
    with running.open() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, 5)
        assert_alike(answers(client), first)


def assert_alike(got: Any, wanted: Any) -> None:
    """The same but for the rounding of sums, whose order is not kept."""
    if isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    elif isinstance(wanted, dict):
        assert got.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_alike(got[key], value)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_alike(one, other)
    else:
        assert got == wanted


def test_a_new_item_appears_by_the_channel_new_at_once(running: Running) -> None:
    with running.open() as client:
        opened_long_ago(client)
        sell(client, "blue kite")
        found = {one["item_id"]: one for one in asked(client, user_id="w0", n=13, explain="true")["items"]}
        assert "new" in found["blue kite"]["channels"]
        assert client.get("/v1/items/blue kite").json()["title"] == "blue kite"


def test_a_new_item_is_found_by_its_words_within_five_seconds(tmp_path: Path) -> None:
    running = Running(tmp_path, text=True)
    with running.open() as client:
        opened_long_ago(client)
        post(client, view("v", "green tea"))
        sell(client, "white tea", "yellow kite")
        eventually(lambda: found_first(client, "kite") == "yellow kite", within_s=5)
        assert found_first(client, "white tea") == "white tea"
        text = {one["item_id"] for one in asked(client, visitor_id="v", n=14, explain="true")["items"]
                if "text" in one["channels"]}  # fmt: skip
        assert "white tea" in text
        near = [one["item_id"] for one in client.get("/v1/items/white tea/similar", params={"n": 3}).json()["items"]]
        assert set(near) == {"red tea", "green tea", "old tea"}


def test_a_restart_encodes_only_what_the_bundle_does_not_hold(tmp_path: Path) -> None:
    running = Running(tmp_path, text=True)
    with running.open() as client:
        sell(client, "red tea", "green tea", "old tea")
        eventually(lambda: details(client)["vectors"] == 3, within_s=5)
    shop = TinyShop(running.settings, text=True)
    for title in ("red tea", "green tea", "old tea", "sold no more"):
        shop.sell(title, ts=T)
    shop.snapshot.refresh()
    Bundles(running.settings.bundles.path, 5).promote(made(running, T, shop=shop, space_id=SPACE))
    encoded: list[str] = []
    with running.open(encoded) as client:
        assert found_first(client, "green tea") == "green tea"
        assert (details(client)["vectors"], encoded) == (3, [])
        post(client, {"item_id": "old tea", "title": "old bicycle", "ts": T + 1}, path="/v1/items")
        eventually(lambda: found_first(client, "bicycle") == "old tea", within_s=5)
    with running.open(encoded) as client:
        eventually(lambda: found_first(client, "bicycle") == "old tea", within_s=5)
    assert encoded == ["old tea", "old tea"], "the bundle holds the vector of its old text"


def found_first(client: TestClient, words: str) -> str:
    found = client.get("/v1/search", params={"q": words}).json()["items"]
    return str(found[0]["item_id"]) if found else ""


def test_a_changed_title_is_found_by_its_new_words(tmp_path: Path) -> None:
    with Running(tmp_path, text=True).open() as client:
        sell(client, "tea", "cup")
        eventually(lambda: found_first(client, "tea") == "tea", within_s=5)
        post(client, {"item_id": "tea", "title": "bicycle", "ts": T + 1}, path="/v1/items")
        eventually(lambda: found_first(client, "bicycle") == "tea", within_s=5)


def test_a_removed_item_is_neither_recommended_nor_found(tmp_path: Path) -> None:
    with Running(tmp_path, text=True).open() as client:
        sell(client, "red tea", "green tea")
        post(client, view("v", "red tea"), view("v", "green tea"))
        eventually(lambda: details(client)["vectors"] == 2, within_s=5)
        assert client.delete("/v1/items/red tea").status_code == 200
        assert listed(client, visitor_id="v") == ["green tea"]
        assert found_first(client, "red tea") == "green tea"
        assert client.get("/v1/items/red tea").status_code == 404
        assert [one["item_id"] for one in client.get("/v1/trending").json()["items"]] == ["green tea"]
        assert details(client)["items"] == 1


def test_an_event_that_is_sent_twice_counts_once(running: Running) -> None:
    with running.open() as client:
        event = view("v", "a", event_id="e1")
        assert post(client, event, event) == {"accepted": 2}
        assert post(client, event) == {"accepted": 1}
        post(client, view("v", "b", event_id="e2"))
        known = client.get("/v1/demo/profiles/v").json()["items"]
        assert {one["item_id"]: one["views"] for one in known} == {"a": 1, "b": 1}
        scores = [one["score"] for one in client.get("/v1/trending").json()["items"]]
        assert scores == pytest.approx([1.0, 1.0])
    assert len(running.logged("clickstream")) == 2


def test_what_a_visitor_did_is_known_of_the_user_who_logs_in(running: Running) -> None:
    with running.open() as client:
        opened_long_ago(client)
        post(client, view("v", "old hose"), view("v", "green hose"), view("v", "red hose"))
        stranger = listed(client, user_id="nobody", n=12)
        assert listed(client, user_id="ann", n=12) == stranger
        post(client, {"name": "begin_checkout", "visitor_id": "v", "user_id": "ann"})
        after = asked(client, user_id="ann", n=12)
        assert [one["item_id"] for one in after["items"]] != stranger
        assert {"looked", "viewed"} & {reason["code"] for one in after["items"] for reason in one["reasons"]}
        known = client.get("/v1/demo/profiles/ann").json()
        assert {one["item_id"] for one in known["items"]} == {"old hose", "green hose", "red hose"}
        assert client.get("/v1/demo/profiles/v").json()["items"] == []


def test_a_purchase_from_a_recommendation_is_a_labelled_record(running: Running) -> None:
    with running.open() as client:
        opened_long_ago(client)
        answer = asked(client, user_id="ann")
        name, bought = answer["recommendation_id"], answer["items"][0]["item_id"]
        eventually(lambda: len(running.logged("decisions")) == 1, within_s=5)
        running.now += HOUR_MS
        post(client, purchase(bought, user_id="ann", recommendation_id=name))
        eventually(lambda: len(running.logged("labelled")) == 1, within_s=5)
    (value,) = running.logged("labelled")
    label = msgspec.msgpack.decode(value, type=Label)
    wanted = (name, bought, "buy", True, HOUR_MS)
    assert (label.recommendation_id, label.item, label.outcome, label.shown, label.delay_ms) == wanted


def test_what_was_served_last_is_logged_before_the_end(running: Running) -> None:
    with running.open() as client:
        sell(client, "a")
        for n in range(30):
            asked(client, user_id=f"u{n}")
    assert len(running.logged("decisions")) == 30


def test_many_at_a_time_each_see_what_they_did(tmp_path: Path) -> None:
    failures: list[str] = []
    with Running(tmp_path, text=True).open() as client:
        sell(client, *GOODS)

        def shopper(name: str) -> None:
            for n in range(15):
                post(client, view(name, GOODS[n % 12], ts=T - 100 + n))
                post(client, {"item_id": f"{name} {n}", "title": f"{name} {n}"}, path="/v1/items")
                known = client.get(f"/v1/demo/profiles/{name}").json()["items"]
                if sum(one["views"] for one in known) != n + 1:
                    failures.append(f"{name} did not see view {n}")
                if not listed(client, visitor_id=name) or found_first(client, "red") not in GOODS:
                    failures.append(f"{name} got nothing at {n}")

        threads = [threading.Thread(target=shopper, args=(f"s{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert details(client)["items"] == 12 + 45
        eventually(lambda: details(client)["vectors"] == 12 + 45, within_s=5)
    assert not failures


def test_the_same_log_is_served_by_one_process_at_a_time(running: Running) -> None:
    with running.open(), pytest.raises(Unavailable, match="in use"):
        EmbeddedShop(running.settings, None, lambda: T)


def test_a_shop_whose_runner_died_says_so_and_takes_nothing_in(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def dies(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Follower, "run", dies)
    with running.open() as client:
        eventually(lambda: "out of luck" in client.get("/readyz").json().get("reason", ""), within_s=5)
        assert client.get("/readyz").status_code == 503
        reply = client.post("/v1/events", json=[view("v", "a")])
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "out of luck" in caplog.text
    assert running.logged("clickstream") == []


# ---------------------------------------------------------------------- bundles
def made(running: Running, created_ms: int, shop: TinyShop | None = None, **contents: Any) -> str:
    """A bundle of a shop, with a ranker that was trained on noise."""
    settings = running.settings
    names, schema = features.names(settings), features.schema(settings)
    rng = np.random.default_rng(created_ms)
    matrix = rng.normal(size=(1_000, len(names))).astype(np.float32)
    examples = Examples(matrix, (matrix[:, 0] > 1).astype(np.int8), np.full(50, 20, np.int64))
    ranker = train(examples, names, schema, TrainingSettings(trees=3, leaves=7), threads=1)
    given = {"space_id": "", "features": FeatureSchema.of(names), **contents}
    described = Contents(
        created_ms=created_ms, encoder=EncoderReference("none", ""), text={}, user_vector={}, max_event_time=0,
        ranker="lambdarank", metrics={}, **given,
    )  # fmt: skip
    snapshot = (shop or TinyShop(settings)).snapshot
    return Bundles(settings.bundles.path, 5).write(described, lambda folder: bundle.save(folder, ranker, snapshot)).id


def test_a_promoted_bundle_serves_within_two_seconds_and_so_does_a_rollback(running: Running) -> None:
    store = Bundles(running.settings.bundles.path, 5)
    with running.open() as client:
        sell(client, *GOODS)
        assert (asked(client)["bundle"], asked(client)["ranker"]) == ("", "blend")
        first, second = made(running, T), made(running, T + 1)
        for name in (first, second):
            store.promote(name)
            eventually(lambda name=name: asked(client)["bundle"] == name, within_s=2)  # type: ignore[misc]
            assert asked(client)["ranker"] == "lambdarank"
        assert store.rollback() == first
        eventually(lambda: asked(client)["bundle"] == first, within_s=2)
    with running.open() as client:
        assert (asked(client)["bundle"], asked(client)["ranker"]) == (first, "lambdarank")


@pytest.mark.parametrize("broken", ["features", "file", "pointer"])
def test_a_bundle_that_cannot_serve_leaves_the_one_that_does(
    running: Running, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    root = running.settings.bundles.path
    with running.open() as client:
        sell(client, *GOODS)
        good = made(running, T)
        Bundles(root, 5).promote(good)
        eventually(lambda: asked(client)["bundle"] == good, within_s=2)
        names = ("other",) if broken == "features" else features.names(running.settings)
        bad = made(running, T + 1, features=FeatureSchema.of(names))
        if broken == "file":
            (root / bad / "ranker.txt").write_text("nonsense")
        pointer = b"nonsense" if broken == "pointer" else msgspec.json.encode({"id": bad, "previous": [good]})
        (root / "current").write_bytes(pointer)
        eventually(lambda: "not loaded" in caplog.text, within_s=3)
        assert asked(client)["bundle"] == good
        assert client.get("/readyz").status_code == 200
        Bundles(root, 5).load(good)
        (root / "current").write_bytes(msgspec.json.encode({"id": good}))
    with running.open() as client:
        assert asked(client)["bundle"] == good


def test_a_bundle_of_another_encoder_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = Running(tmp_path, text=True)
    with running.open() as client:
        Bundles(running.settings.bundles.path, 5).promote(made(running, T, space_id="another"))
        eventually(lambda: "of space another" in caplog.text, within_s=3)
        assert asked(client)["bundle"] == ""


# ---------------------------------------------------------------------- what cannot be used
@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, TestClient]]:
    """One shop for everything that is refused."""
    running = Running(tmp_path_factory.mktemp("hard"))
    with running.open() as client:
        yield running, client


BIG = b'{"name": "view_item", "visitor_id": "v", "item_id": "' + b"a" * 10_000_000 + b'"}'
MANY = b"[" + b",".join([b'{"name":"view_item","visitor_id":"v","item_id":"a"}'] * 100_000) + b"]"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b'{"name": "view_item", "visitor', 400, "not JSON"),
        (b"\xff\xfe\x00", 400, "not JSON"),
        (b"", 400, "the body is empty"),
        ({"name": "stare", "visitor_id": "v", "item_id": "a"}, 400, "unknown event name 'stare'"),
        ({"name": "view_item", "visitor_id": "v"}, 400, "view_item needs an item_id"),
        (purchase("a", visitor_id="v") | {"currency": None}, 400, "purchase needs a currency"),
        (view("v", "a", ts=T - 40 * DAY_MS), 400, "40.0 days old; at most 30"),
        (view("v", "a", ts=T + DAY_MS), 400, "1440 minutes ahead"),
        (BIG, 413, "at most 4000000 are accepted"),
        (MANY, 413, "at most 4000000 are accepted"),
        ([{"name": "view_item", "visitor_id": "v", "item_id": "a"}] * 1_001, 400, "at most 1000 events"),
        ({"events": []}, 400, "at least one of events is wanted"),
        ([[[[]]]], 400, "an event is a JSON object"),
        (view("v", "a" * 300), 400, "item_id is longer than 256"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_used_is_told_and_lies_in_the_dead_letters(
    hard: tuple[Running, TestClient], body: Any, status: int, reason: str
) -> None:
    running, client = hard
    before, events = len(running.letters()), len(running.logged("clickstream"))
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    reply = client.post("/v1/events", content=content)
    assert reply.status_code == status
    assert reason in reply.json()["error"]["message"]
    letters = running.letters()[before:]
    assert len(letters) == 1
    assert reason in letters[0]["reason"]
    assert letters[0]["origin"] == "gateway"
    assert len(running.logged("clickstream")) == events
    assert reason in details(client)["dead_letters"][0]["reason"]


def test_an_item_that_cannot_be_used_is_told_and_lies_in_the_dead_letters(hard: tuple[Running, TestClient]) -> None:
    running, client = hard
    reply = client.post("/v1/items", json=[{"title": "nameless"}, {"item_id": "ok"}, {"item_id": "x", "price": -1}])
    assert reply.status_code == 202
    assert [one["index"] for one in reply.json()["refused"]] == [0, 2]
    raws = [letter["raw"] for letter in running.letters()[-2:]]
    assert raws == ['{"title":"nameless"}', '{"item_id":"x","price":-1}']


def test_what_cannot_be_used_does_not_hold_up_what_can(hard: tuple[Running, TestClient]) -> None:
    _, client = hard
    reply = client.post("/v1/events", json=[view("mixed", "a"), {"name": "stare"}, view("mixed", "b")])
    assert (reply.status_code, reply.json()["accepted"]) == (202, 2)
    assert len(client.get("/v1/demo/profiles/mixed").json()["items"]) == 2


def test_an_unknown_user_gets_a_list(hard: tuple[Running, TestClient]) -> None:
    _, client = hard
    sell(client, "for everybody")
    assert "for everybody" in listed(client, user_id="never heard of", n=100)


USUAL = [
    "n=5", "n=100", "user_id=w0", "visitor_id=v", "item_id=a", "category=Nowhere", "brand=b", "price_min=1", "q=tea",
    "attr.a=b", "diversity=1", "explain=true", "exclude_bought=true", "items=a,zz", "in_stock=false", "exclude=a",
    "context_items=b,zz",
]  # fmt: skip
PATHS = ("recommendations", "trending", "search", "items/a/similar", "items/a/bought-together")


@pytest.mark.parametrize("path", PATHS)
@given(params=st.lists(st.sampled_from(USUAL), max_size=5, unique=True))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_combination_of_what_can_be_asked_is_a_failure_of_ours(
    hard: tuple[Running, TestClient], path: str, params: list[str]
) -> None:
    _, client = hard
    reply = client.get(f"/v1/{path}?{'&'.join(params)}")
    assert reply.status_code in (200, 400, 404), reply.text
    if reply.status_code == 200:
        scores = [one["score"] for one in reply.json()["items"]]
        assert all(isinstance(score, float) for score in scores)


@pytest.mark.parametrize("text", [False, True])
def test_an_empty_catalogue_gives_empty_lists_and_clear_answers(tmp_path: Path, text: bool) -> None:
    with Running(tmp_path, text=text).open() as client:
        for path in ("/v1/recommendations?user_id=u", "/v1/recommendations?diversity=1&explain=true", "/v1/trending",
                     "/v1/recommendations?category=Nowhere&brand=None", "/v1/trending?category=Nowhere"):  # fmt: skip
            reply = client.get(path)
            assert (reply.status_code, reply.json()["items"]) == (200, []), path
        search = client.get("/v1/search?q=tea")
        assert (search.status_code, search.json().get("items")) == ((200, []) if text else (404, None))
        for path in ("/v1/items/a", "/v1/items/a/similar", "/v1/items/a/bought-together"):
            reply = client.get(path)
            assert reply.status_code == 404
            assert "'a'" in reply.json()["error"]["message"]
        assert client.get("/v1/categories").json() == {"categories": []}
        ranked = client.post("/v1/recommendations", json={"user_id": "u", "items": ["a", "b"]}).json()
        assert {one["item_id"] for one in ranked["items"]} == {"a", "b"}
        assert client.get("/v1/trending").json()["items"] == [], "what was only asked about is not there"
        assert client.get("/readyz").status_code == 200
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("text", [False, True])
def test_a_catalogue_of_one_item_gives_that_item(tmp_path: Path, text: bool) -> None:
    with Running(tmp_path, text=text).open() as client:
        sell(client, "only tea", categories=["Tea"], price=3.0)
        eventually(lambda: not text or details(client)["vectors"] == 1, within_s=5)
        post(client, view("v", "only tea"), purchase("only tea", visitor_id="v"))
        has: list[dict[str, Any]] = [{}, {"visitor_id": "v"}, {"diversity": 1.0, "n": 100}, {"category": "Tea"}]
        lacks: list[dict[str, Any]] = [{"visitor_id": "v", "exclude_bought": "true"}, {"item_id": "only tea"}]
        assert [listed(client, **params) for params in has] == [["only tea"]] * 4
        assert [listed(client, **params) for params in [*lacks, {"price_min": 4}]] == [[]] * 3
        assert client.get("/v1/items/only tea/bought-together").json()["items"] == []
        similar = client.get("/v1/items/only tea/similar")
        assert (similar.status_code, similar.json().get("items")) == ((200, []) if text else (404, None))
        assert [one["item_id"] for one in client.get("/v1/trending").json()["items"]] == ["only tea"]


BAD_RECORDS = [
    ("clickstream", b"not json", "not JSON"),
    ("clickstream", b'{"name":"stare","visitor_id":"v","ts":1}', "unknown event name 'stare'"),
    ("clickstream", b"[" * 10_000, "not JSON"),
    ("clickstream", b"\xff", "not JSON"),
    ("feedback", b'{"name":"rating","visitor_id":"v","item_id":"a","ts":1}', "needs a rating"),
    ("items", b"{}", "an item needs an item_id"),
    ("items", b'{"item_id":', "cannot be read"),
    ("items", b'{"item_id":"a","price":"dear"}', "item 'a'"),
    ("decisions", b"\xc1", "cannot be read"),
]


def test_bad_records_in_the_log_end_in_the_dead_letters_and_hold_nothing_up(hard: tuple[Running, TestClient]) -> None:
    running, client = hard
    before = len(running.letters())
    other = EmbeddedLog.open(running.settings.log)
    placed = other.append([New(topic, b"k", value, T) for topic, value, _ in BAD_RECORDS])
    other.close()
    post(client, view("after", "a"))
    assert len(client.get("/v1/demo/profiles/after").json()["items"]) == 1
    eventually(lambda: len(running.letters()) == before + len(BAD_RECORDS), within_s=5)
    for letter, place, (topic, value, reason) in zip(running.letters()[before:], placed, BAD_RECORDS, strict=True):
        assert reason in letter["reason"]
        assert place is not None
        assert letter["origin"] == f"{topic}/{place[0]}/{place[1]}"
        assert letter["raw"] == value.decode("utf-8", "replace")
    assert client.get("/readyz").status_code == 200


def test_a_batch_in_the_log_is_taken_in_but_for_its_bad_events(hard: tuple[Running, TestClient]) -> None:
    running, client = hard
    batch = msgspec.json.encode([view("packed", "a", ts=T), {"name": "stare"}, view("packed", "b", ts=T)])
    other = EmbeddedLog.open(running.settings.log)
    other.append([New("clickstream", b"packed", batch, T)])
    other.close()
    eventually(lambda: len(client.get("/v1/demo/profiles/packed").json()["items"]) == 2, within_s=5)
