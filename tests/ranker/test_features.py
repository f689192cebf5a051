from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from core.decision import Request
from core.ids import DAY_MS, HOUR_MS, coin
from core.settings import PopularitySettings, Settings
from ranker import features
from ranker.channels import CHANNELS, Found
from ranker.context import Context, understand
from tests.ranker.tiny import NOW, TinyShop

PER_LIST = ("_share", "_rank")  # endings of the columns that may depend on the other candidates


def busy(*, text: bool = True, settings: Settings | None = None) -> TinyShop:
    """A shop with every kind of event, repeat purchases, items without price, category or text."""
    shop = TinyShop(settings, text=text)
    for n in range(30):
        fields: dict[str, Any] = {"price": n + 0.5} if n % 3 else {}
        if n % 4:
            fields["categories"] = [f"Root {n % 3} > Leaf {n % 5}"]
        shop.sell(f"i{n}", ts=NOW - (n + 1) * DAY_MS, **fields)
    names = ("view_item", "add_to_cart", "purchase", "refund", "like", "dislike", "add_to_wishlist", "remove_from_cart")
    for n in range(400):
        ts = NOW - int(coin(f"ts{n}") * 40 * DAY_MS)
        shop.tell(names[n % 3 if n % 5 else n % 8], f"u{n % 7}", f"i{int(coin(f'item{n}') * 35)}", ts=ts)
    for n in range(30):
        shop.tell("view_item_list", f"u{n % 7}", *[f"i{(n + k) % 30}" for k in range(5)], ts=NOW - n * HOUR_MS)
    return shop


def computed(
    shop: TinyShop, shopper: str, items: list[str], **fields: Any
) -> tuple[NDArray[np.float32], dict[str, Found], Context]:
    shop.snapshot.refresh()
    request = Request(recommendation_id="r", ts=NOW, shopper=shopper, **fields)
    live, space = shop.live, shop.snapshot.space
    ctx = understand(request, shop.profile(shopper), live, space)
    found = {name: channel(ctx, live, space, 20) for name, channel in CHANNELS.items()}
    rows = shop.rows(*items) if items else np.zeros(0, np.int64)
    return features.compute(ctx, rows, found, np.zeros(len(rows), np.float32), live, space), found, ctx


SHOPPERS = ("u0", "u1", "nobody")
ALL = [f"i{n}" for n in range(35)]


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("shopper", SHOPPERS)
def test_there_is_a_column_for_every_name_and_no_infinity(shopper: str, text: bool) -> None:
    shop = busy(text=text)
    matrix = computed(shop, shopper, ALL)[0]
    assert matrix.shape == (35, len(features.names(shop.settings)))
    assert not np.isinf(matrix).any()
    assert len(set(features.names(shop.settings))) == matrix.shape[1]


@pytest.mark.parametrize("shopper", SHOPPERS)
def test_an_items_features_do_not_depend_on_the_other_candidates(shopper: str) -> None:
    shop = busy()
    whole, part = computed(shop, shopper, ALL)[0], computed(shop, shopper, ALL[5:12][::-1])[0]
    for place, name in enumerate(features.names(shop.settings)):
        if not name.endswith(PER_LIST):
            # matrix products of another size may round in another way
            np.testing.assert_allclose(whole[5:12, place], part[::-1, place], rtol=1e-5, atol=1e-7, err_msg=name)


def test_asking_twice_gives_the_same_features() -> None:
    shop = busy()
    first = computed(shop, "u0", ALL)[0]
    np.testing.assert_array_equal(first, computed(shop, "u0", ALL)[0])


def test_no_candidates_have_no_features() -> None:
    shop = busy()
    assert computed(shop, "u0", [])[0].shape == (0, len(features.names(shop.settings)))


def test_of_a_shop_that_just_opened_nothing_is_known() -> None:
    shop = TinyShop()
    shop.sell("a", ts=NOW)
    matrix = computed(shop, "nobody", ["a"])[0]
    values = dict(zip(features.names(shop.settings), matrix[0].tolist(), strict=True))
    assert not np.isinf(matrix).any()
    assert np.isnan([values["price"], values["own_buys"], values["text_taste"], values["since_buy"]]).all()
    assert values["age"] == 0.0


def test_a_channels_columns_say_how_it_found_an_item() -> None:
    shop = busy()
    matrix, found, _ = computed(shop, "u0", ALL)
    for channel in CHANNELS:
        rows, scores = found[channel]
        of = dict(zip(shop.ids(rows), scores.tolist(), strict=True))
        place = features.names(shop.settings).index(f"{channel}_score")
        expected = np.array([of.get(name, np.nan) for name in ALL], np.float32)
        np.testing.assert_array_equal(matrix[:, place], expected, err_msg=channel)


def test_what_is_measured_is_what_happened() -> None:
    shop = TinyShop(text=True)
    shop.sell("a", price=10.0, categories=["K > T"], ts=NOW - 2 * DAY_MS)
    shop.sell("b", price=20.0, categories=["K > C"])
    for n in range(4):
        shop.buy("u", "a", ts=NOW - (n + 1) * DAY_MS)
    shop.view("w", "b")
    matrix = computed(shop, "u", ["a", "b"])[0]
    values = [dict(zip(features.names(shop.settings), row.tolist(), strict=True)) for row in matrix]
    assert values[0]["buy_ever"] == pytest.approx(np.log1p(4))
    assert values[0]["own_buys"] == pytest.approx(np.log1p(4))
    assert values[0]["own_basket_share"] == 1.0
    assert values[0]["own_gap_ratio"] == pytest.approx(np.log1p(1.0)), "due: the usual gap has just passed"
    assert values[0]["own_since_buy"] == pytest.approx(np.log1p(DAY_MS / 1000))
    assert values[0]["price"] == pytest.approx(np.log1p(10.0))
    assert values[1]["price_ratio"] == pytest.approx(np.log(2.0), abs=1e-2)
    assert values[0]["age"] == pytest.approx(np.log1p(2 * DAY_MS / 1000))
    assert values[0]["baskets"] == values[1]["baskets"] == pytest.approx(np.log1p(4))
    assert (values[0]["category_share"], values[1]["category_share"]) == (1.0, 0.0)
    assert values[1]["root_share"] == 1.0
    assert np.isnan(values[1]["own_buys"])
    assert values[1]["view_ever"] == pytest.approx(np.log1p(1))


def test_the_schema_follows_the_half_lives_and_nothing_else() -> None:
    usual, other = Settings(), Settings(popularity=PopularitySettings(half_lives_s=(3_600.0, 172_800.0)))
    assert features.schema(usual) == features.schema(msgspec.structs.replace(usual, shop=usual.shop))
    assert features.schema(usual) != features.schema(other)
    assert features.names(usual) != features.names(other)


@pytest.mark.parametrize("lives", [(172_800.0,), (3_600.0, 172_800.0), (60.0, 90.0, 172_800.0, 86_400.0 * 365)])
def test_other_half_lives_give_other_columns_that_fit(lives: tuple[float, ...]) -> None:
    settings = Settings(popularity=PopularitySettings(half_lives_s=lives))
    matrix = computed(busy(settings=settings), "u0", ALL)[0]
    assert matrix.shape == (35, len(features.names(settings)))
    assert not np.isinf(matrix).any()
