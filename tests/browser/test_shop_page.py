"""The pages in Chromium, over a real uvicorn, with the shop in memory behind it."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from core.catalogue import ItemChange
from core.events import Event
from core.settings import Settings
from gateway.app import build_app
from tests.gateway.fakes import NOW, Guests, Log, Shop, catalogue

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS = 10_000

pytestmark = pytest.mark.browser
Open = Callable[..., "Page"]


class Served:
    """The fake shop behind a port."""

    def __init__(self) -> None:
        self.log = Log()
        self.shop = Shop(self.log, catalogue())
        app = build_app(Settings(), self.log, self.shop, lambda: NOW, demo=Guests(self.shop))
        config = uvicorn.Config(app, port=0, ws="none", lifespan="off", log_level="error", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def start(self) -> None:
        self.thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline, "uvicorn did not start within 10 s"
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    def events(self, name: str) -> list[Event]:
        return [event for event in self.log.events_in if event.name == name]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served()
    served.start()
    yield served
    served.stop()


def _absent(reason: str) -> None:
    if os.environ.get("HEADWATER_TEST_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if importlib.util.find_spec("playwright") is None:
        _absent("playwright is not installed (extra `test`)")
    if not CHROMIUM.exists():
        _absent(f"there is no Chromium at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def shop_page(browser: Browser, served: Served) -> Iterator[Open]:
    """Opens a path as a new visitor; at the end no script may have failed."""
    served.log.events_in.clear()
    contexts, failures = [], []

    def open_page(path: str = "/shop", *, ready: str = "#grid .tile", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda one: failures.append(one.text) if "Security Policy" in one.text else None)
        page.goto(served.url + path)
        page.wait_for_selector(ready)
        if path == "/shop":
            page.wait_for_selector("#for-you .tile")
        return page

    yield open_page
    served.log.down = False
    for context in contexts:
        context.close()
    assert failures == []


def strip(page: Page) -> list[str]:
    ids: list[str] = page.eval_on_selector_all("#for-you .tile", "tiles => tiles.map(tile => tile.dataset.id)")
    return ids


def until(page: Page, expression: str) -> None:
    """Wait for something to become true; Playwright's own way needs eval, which the pages forbid."""
    deadline = time.monotonic() + WAIT_MS / 1_000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"still not true: {expression}"
        page.wait_for_timeout(20)


def pick(page: Page, item_id: str, where: str = "#grid") -> None:
    """Open a product and wait until the personal list has answered to it."""
    page.click(f"{where} .tile[data-id={item_id}] a")
    until(page, "document.querySelector('#pulse').textContent.startsWith('Updated')")


def test_a_view_changes_the_list_at_once_and_says_what_and_why(shop_page: Open, served: Served) -> None:
    page = shop_page()
    before = strip(page)
    pick(page, "p33")
    page.wait_for_selector("#for-you .tile[data-change=new]")
    assert strip(page) != before
    assert "new" in page.inner_text("#pulse")
    assert page.inner_text("#for-you .tile:first-child .reason") == "because you viewed Rain shell, light"
    assert page.inner_text("#product-title") == "Rain shell, light"
    (view,) = served.events("view_item")
    assert (view.items[0].item_id, view.visitor_id is not None, view.user_id) == ("p33", True, None)


def test_a_product_picked_from_the_list_names_the_list(shop_page: Open, served: Served) -> None:
    page = shop_page()
    first = strip(page)[1]
    pick(page, first, "#for-you")
    (select,) = served.events("select_item")
    assert (select.items[0].item_id, select.items[0].index, select.placement) == (first, 1, "for-you")
    made = {request.recommendation_id for request in served.shop.asked}
    assert select.recommendation_id in made
    assert served.events("view_item")[0].recommendation_id == select.recommendation_id
    shown = served.events("view_item_list")[0]
    assert shown.recommendation_id == select.recommendation_id
    assert 3 <= len(shown.items) < 12  # those that fit beside the panel
    assert [line.index for line in shown.items] == list(range(len(shown.items)))


def test_a_basket_is_filled_and_bought(shop_page: Open, served: Served) -> None:
    page = shop_page()
    pick(page, "p08")
    page.click("#add")
    until(page, "document.querySelector('#cart-count').textContent === '1'")
    page.click("#add")
    page.click(".cart-button")
    page.wait_for_selector("#buy")
    assert "€36.00" in page.inner_text(".total")
    page.click("#buy")
    until(page, "document.querySelector('#cart-count').textContent === '0'")
    assert len(served.events("add_to_cart")) == 2
    (bought,) = served.events("purchase")
    assert (bought.currency, bought.value, bought.items[0].quantity, bought.items[0].price) == ("EUR", 36.0, 2, 18.0)
    assert bought.transaction_id


def test_what_is_not_wanted_leaves_the_list(shop_page: Open, served: Served) -> None:
    page = shop_page()
    first = strip(page)[0]
    page.hover(f"#for-you .tile[data-id={first}]")
    page.click(f"#for-you .tile[data-id={first}] .icon[aria-label^='Not for me']")
    page.wait_for_selector(f"#for-you .tile[data-id={first}]", state="detached")
    assert [event.items[0].item_id for event in served.events("hide")] == [first]


def test_what_is_taken_out_of_the_basket_is_told(shop_page: Open, served: Served) -> None:
    page = shop_page()
    page.hover("#grid .tile[data-id=p08]")
    page.click("#grid .tile[data-id=p08] .icon[aria-label^='Add']")
    page.click(".cart-button")
    page.click("[aria-label^='Take out']")
    page.wait_for_selector("text=It is empty.")
    page.wait_for_selector("#sent .accepted[data-name=remove_from_cart]")
    assert served.events("remove_from_cart")[0].items[0].item_id == "p08"


def test_search_goes_by_the_interface_and_is_told(shop_page: Open, served: Served) -> None:
    page = shop_page()
    page.keyboard.press("/")
    page.keyboard.type("teapot")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view .tile[data-id=p03]")
    page.wait_for_selector("#sent .accepted[data-name=search]")
    assert served.events("search")[0].search_term == "teapot"


def test_categories_narrow_the_shelves(shop_page: Open) -> None:
    page = shop_page()
    page.click(".chip[data-path=Garden]")
    page.click(".chip[data-path='Garden > Wildlife']")
    until(page, "document.querySelectorAll('#grid .tile').length === 1")
    assert page.get_attribute(".chip[data-path=Garden]", "aria-pressed") == "true"


def test_the_panel_tells_what_was_sent_and_what_is_kept(shop_page: Open) -> None:
    page = shop_page()
    pick(page, "p33")
    page.wait_for_selector("#kept >> text=Rain shell, light")
    assert "looked at Rain shell, light" in page.inner_text("#sent")
    assert "what you looked at" in page.inner_text("#rests")


def test_forgetting_makes_a_new_visitor(shop_page: Open, served: Served) -> None:
    page = shop_page()
    pick(page, "p33")
    note = page.inner_text("#who-note")
    page.click("#forget")
    page.wait_for_selector("#for-you .tile")
    page.wait_for_selector("#grid .tile")
    assert page.inner_text("#who-note") != note
    assert page.query_selector("#for-you .tile[data-change]") is None
    assert "because you viewed" not in page.inner_text("#for-you")
    assert page.query_selector("#sent [data-name=view_item]") is None
    pick(page, "p01")
    old, new = (event.visitor_id for event in served.events("view_item"))
    assert old != new


def test_a_known_shopper_is_named_without_the_visitor(shop_page: Open, served: Served) -> None:
    page = shop_page()
    page.select_option("#shopper", label="Ada")
    until(page, "document.querySelector('#who-note').textContent === 'tea and letters'")
    page.wait_for_selector("#grid .tile")
    pick(page, "p33")
    (view,) = served.events("view_item")
    assert (view.user_id, view.visitor_id) == ("ada", None)


def test_the_keyboard_alone_opens_a_product_and_goes_on_at_its_title(shop_page: Open) -> None:
    page = shop_page()
    page.focus("#for-you .tile:first-child a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#product-title")
    until(page, "document.activeElement.id === 'product-title'")


def test_a_phone_shows_it_all_without_scrolling_sideways(shop_page: Open) -> None:
    page = shop_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for hash_ in ("#/", "#/item/p33", "#/cart", "#/search/tea"):
        page.goto(page.url.split("#")[0] + hash_)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#panel-open")
    page.wait_for_selector("#panel.open #forget")
    page.keyboard.press("Escape")
    page.wait_for_selector("#panel", state="hidden")


def test_nothing_moves_for_those_who_asked_for_calm(shop_page: Open) -> None:
    page = shop_page(reduced_motion="reduce")
    pick(page, "p33")
    page.wait_for_selector("#for-you .tile[data-change=new]")
    longest = "Math.max(0, ...document.getAnimations().map(one => one.effect.getTiming().duration))"
    assert page.evaluate(longest) <= 1


def test_a_shop_that_cannot_take_events_says_so(shop_page: Open, served: Served) -> None:
    page = shop_page()
    served.log.down = True
    page.click("#grid .tile[data-id=p33] a")
    page.wait_for_selector("#trouble >> text=the log is full")
    assert page.query_selector("#sent .refused") is not None


def test_markup_in_a_title_is_shown_as_text(shop_page: Open, served: Served) -> None:
    title = "<img src=x onerror=document.title='run'>"
    served.shop.change(ItemChange(item_id="zz", ts=NOW, title=title, categories=("Odd",)))
    try:
        page = shop_page("/shop#/item/zz", ready="#product-title")
        assert page.inner_text("#product-title") == title
        assert page.title() != "run"
    finally:
        del served.shop.stock["zz"]


def test_the_state_page_follows_the_engine(shop_page: Open, served: Served) -> None:
    page = shop_page("/admin", ready="#figures .figure")
    assert "42" in page.inner_text("#figures")
    assert "rehearsing the log, 25 %" in page.inner_text("#job")
    ended = page.inner_text("#runs")
    assert all(word in ended for word in ("encoder", "90 s", "refused", "worse"))
    page.wait_for_selector("#state.ready")
    served.shop.waiting = "the log: 7 events left"
    try:
        page.wait_for_selector("#state.waiting >> text=7 events left")
    finally:
        served.shop.waiting = None


def test_the_interface_is_listed_for_people(shop_page: Open) -> None:
    page = shop_page("/docs", ready=".route")
    text = page.inner_text("main")
    assert "/v1/recommendations" in text
    assert "Tell what shoppers did" in text
    assert "Written" in text
