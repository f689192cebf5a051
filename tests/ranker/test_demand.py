import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import DAY_MS
from ranker import demand
from ranker.arrays import ranks
from tests.ranker.tiny import NOW, TinyShop


def table(shop: TinyShop, *items: str) -> dict[str, list[float]]:
    shop.snapshot.refresh()
    columns = demand.columns(shop.live.counters.all_at(shop.rows(*items), NOW), shop.live)
    assert len(columns) == len(demand.NAMES)
    return {name: np.asarray(column).tolist() for name, column in zip(demand.NAMES, columns, strict=True)}


def test_first_sales_leave_out_those_who_buy_again() -> None:
    shop = TinyShop()
    for n in range(4):
        shop.buy("faithful", "again", ts=NOW - (n + 1) * DAY_MS)
        shop.buy(f"s{n}", "once", ts=NOW - (n + 1) * DAY_MS)
    told = table(shop, "again", "once")
    assert told["first_30d"][0] < told["first_30d"][1]
    assert told["first_share"][0] < told["first_share"][1]
    assert np.isnan(told["buy_30d_rank"]).all(), "sold alike"


def test_what_newcomers_take_is_told_apart_from_what_those_take_who_know_the_shop() -> None:
    shop = TinyShop()
    for n in range(4):
        shop.buy(f"s{n}", "first", ts=NOW - (n + 2) * DAY_MS)
        shop.buy(f"s{n}", "later", ts=NOW - (n + 1) * DAY_MS)
    shop.sell("never")
    told = table(shop, "first", "later", "never")
    assert told["newcomer_7d"][0] > told["newcomer_7d"][1] == 0
    assert told["newcomer_rate"][0] > told["newcomer_rate"][2] > told["newcomer_rate"][1]
    assert told["newcomer_rate"][2] == pytest.approx(0.5), "of what nobody bought, as of all that is sold"


def test_the_best_sold_of_the_list_is_first() -> None:
    shop = TinyShop()
    for n, item in enumerate(["much", "much", "much", "less", "less", "least"]):
        shop.buy(f"s{n}", item)
    shop.sell("never")
    assert table(shop, "least", "much", "never", "less")["buy_7d_rank"] == pytest.approx(np.log1p([2, 0, 3, 1]))


def test_where_all_are_alike_there_is_no_rank() -> None:
    shop = TinyShop()
    shop.sell("a")
    shop.sell("b")
    assert np.isnan(table(shop, "a", "b")["view_1d_rank"]).all()
    assert table(shop)["buy_1d_rank"] == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ranks_are_mean_places_from_the_top_whatever_the_order(counts: list[int]) -> None:
    values = np.array(counts, np.float32)
    above = (values[None, :] > values[:, None]).sum(1)
    same = (values[None, :] == values[:, None]).sum(1)
    np.testing.assert_allclose(ranks(values[:, None])[:, 0], above + (same - 1) / 2)
    np.testing.assert_array_equal(ranks(values[:, None])[::-1], ranks(values[::-1, None]))
