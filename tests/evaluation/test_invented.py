from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest

from core.catalogue import parse_change
from core.errors import BadInput
from core.events import NAMES, parse
from core.ids import DAY_MS
from evaluation.invented import DAYS, OPENED_MS, InventedShop
from evaluation.invented_words import ADJECTIVES, BRANDS, CHARACTER, COLOURS, KINDS, STYLES

END = OPENED_MS + DAYS * DAY_MS
SHOP = InventedShop(7)
EVENTS = list(SHOP.events(END))


def lines(name: str) -> list[tuple[str, str]]:
    """Who did that with which item; visitors that log in count as the user they turn out to be."""
    user_of = {event["visitor_id"]: event["user_id"] for event in EVENTS if "user_id" in event}
    return [
        (user_of.get(event["visitor_id"], event["visitor_id"]), line["item_id"])
        for event in EVENTS
        if event["name"] == name
        for line in event["items"]
    ]


def test_there_are_some_tens_of_thousands_of_events_of_nearly_every_name() -> None:
    assert 20_000 <= len(EVENTS) <= 40_000
    assert NAMES - {event["name"] for event in EVENTS} <= {"hide"}


def test_every_event_and_item_is_accepted_and_the_ids_are_unique() -> None:
    assert len({parse(event).event_id for event in EVENTS}) == len(EVENTS)
    assert len({parse_change(body).item_id for body in SHOP.catalogue()}) == 600


def test_events_come_in_time_order_and_inside_the_span_asked_for() -> None:
    assert all(one["ts"] <= two["ts"] for one, two in pairwise(EVENTS))
    assert EVENTS[0]["ts"] >= OPENED_MS
    assert EVENTS[-1]["ts"] < END


def test_the_same_seed_gives_the_same_shop_and_another_seed_another() -> None:
    def start(seed: int) -> list[Any]:
        shop = InventedShop(seed, items=120, shoppers=40)
        return [shop.catalogue(), list(shop.events(OPENED_MS + 10 * DAY_MS)), dict(shop.true_tastes())]

    assert start(1) == start(1)
    assert all(one != other for one, other in zip(start(1), start(2), strict=True))


def test_a_part_of_the_life_is_a_part_of_the_whole() -> None:
    since, until = OPENED_MS + 5 * DAY_MS + 12_345, OPENED_MS + 9 * DAY_MS + 54_321
    assert list(SHOP.events(until, since)) == [event for event in EVENTS if since <= event["ts"] < until]


def test_opening_at_another_time_moves_everything_along() -> None:
    later = InventedShop(7, opened_ms=OPENED_MS + 3 * DAY_MS)
    moved = list(islice(later.events(END), 50))
    assert [event["ts"] - 3 * DAY_MS for event in moved] == [event["ts"] for event in EVENTS[:50]]
    assert {event["event_id"] for event in moved}.isdisjoint(event["event_id"] for event in EVENTS)


def test_no_two_products_have_the_same_title_even_in_the_largest_shop() -> None:
    titles = [body["title"] for body in InventedShop(3, items=2_000, shoppers=1).catalogue()]
    assert len(set(titles)) == 2_000


def test_products_have_all_that_a_page_needs() -> None:
    for body in SHOP.catalogue():
        assert body["description"]
        assert body["brand"]
        assert body["price"] > 0
        assert body["attributes"]["emoji"]
        assert 0 <= body["attributes"]["hue"] < 360
        assert all(len(path.split(" > ")) == 2 for path in body["categories"])
    assert len({body["categories"][0].split(" > ")[0] for body in SHOP.catalogue()}) == 12


def test_new_products_appear_over_time_and_nobody_sees_them_before() -> None:
    new = SHOP.new_items_after(OPENED_MS + 1)
    assert 30 <= len(new) <= 90
    launched = {body["item_id"]: body["ts"] for body in SHOP.catalogue()}
    seen = [(event["ts"], line["item_id"]) for event in EVENTS for line in event.get("items", ())]
    assert all(ts >= launched[item_id] for ts, item_id in seen)
    assert {body["item_id"] for body in new} & {item_id for _, item_id in seen}
    assert len(SHOP.catalogue(OPENED_MS + 1)) + len(new) == 600


def test_what_is_out_of_stock_is_not_in_any_event() -> None:
    gone = {body["item_id"] for body in SHOP.catalogue() if not body["in_stock"]}
    assert gone
    assert gone.isdisjoint(line["item_id"] for event in EVENTS for line in event.get("items", ()))


@pytest.mark.parametrize("name", ["view_item", "purchase"])
def test_shoppers_stay_with_their_tastes_more_than_chance_would(name: str) -> None:
    tastes = SHOP.true_tastes()
    liked = {who: max(taste.styles, key=lambda style: taste.styles[style]) for who, taste in tastes.items()}
    wanted = {who: {c for c, share in taste.categories.items() if share >= 0.3} for who, taste in tastes.items()}
    groups = [(who, *SHOP.true_group(item).split("/")) for who, item in lines(name) if who in tastes]
    assert sum(style == liked[who] for who, _, style in groups) / len(groups) > 2 / len(STYLES)
    assert sum(category in wanted[who] for who, category, _ in groups) / len(groups) > 3 * 2 / 12


def test_tastes_can_be_read_off_the_purchases() -> None:
    tastes, bought = SHOP.true_tastes(), Counter(lines("purchase"))
    shoppers = [who for who, n in Counter(who for who, _ in lines("purchase")).items() if n >= 8 and who in tastes]
    right = 0
    for who in shoppers:
        styles = Counter(SHOP.true_group(item).split("/")[1] for (buyer, item) in bought if buyer == who)
        right += tastes[who].styles[styles.most_common(1)[0][0]] > 0.5
    assert len(shoppers) >= 20
    assert right / len(shoppers) > 0.8


def test_consumables_are_bought_again_and_other_things_hardly_ever() -> None:
    lasting = {f"{kind.slug}-": kind.lasts_days for kind in KINDS}
    repeated = Counter(lines("purchase"))
    again = [item for (_, item), n in repeated.items() if n > 1]
    used_up = sum(lasting[item.rstrip("0123456789")] > 0 for item in again)
    assert len(again) >= 30
    assert used_up / len(again) > 0.9


def test_a_purchase_follows_a_checkout_and_its_items_were_in_the_cart() -> None:
    carts: dict[str, set[str]] = {}
    for event in EVENTS:
        if event["name"] == "add_to_cart":
            carts.setdefault(event["session_id"], set()).add(event["items"][0]["item_id"])
        if event["name"] == "purchase":
            assert {line["item_id"] for line in event["items"]} <= carts[event["session_id"]]
            assert event["value"] == pytest.approx(
                sum(line["price"] * line["quantity"] for line in event["items"]), abs=0.01
            )


def test_some_visitors_log_in_later_under_the_id_their_tastes_are_known_by() -> None:
    tastes = SHOP.true_tastes()
    first_seen: dict[str, bool] = {}
    for event in EVENTS:
        first_seen.setdefault(event["visitor_id"], "user_id" in event)
    user_of = {event["visitor_id"]: event["user_id"] for event in EVENTS if "user_id" in event}
    joined = [visitor for visitor, known in first_seen.items() if not known and visitor in user_of]
    assert len(joined) >= 50
    assert set(user_of.values()) <= tastes.keys()
    assert sum(visitor in tastes for visitor in first_seen) >= 20


def test_attention_has_a_long_tail() -> None:
    views = sorted(Counter(item for _, item in lines("view_item")).values(), reverse=True)
    assert sum(views[:60]) / sum(views) > 0.18
    assert len(views) > 550


@pytest.mark.parametrize("items", [0, 100_000])
def test_a_shop_without_items_or_with_more_than_there_are_names_is_refused(items: int) -> None:
    with pytest.raises(BadInput, match=f"1 to [0-9]+ items, got {items}"):
        InventedShop(1, items=items)


def test_a_shop_of_one_product_still_lives() -> None:
    events = list(InventedShop(2, items=1, shoppers=20).events(END))
    assert {line["item_id"] for event in events for line in event.get("items", ())} == {KINDS[0].slug + "-01"}


def test_the_words_fit_together() -> None:
    slugs = {kind.slug for kind in KINDS}
    for kind in KINDS:
        assert set(kind.goes_with) <= slugs - {kind.slug}
        assert kind.price[0] < kind.price[1]
        assert len(ADJECTIVES[kind.family]) == len(STYLES)
    assert len(slugs) == len(KINDS)
    assert len(BRANDS) == len(CHARACTER) == len(COLOURS) == len(STYLES)
