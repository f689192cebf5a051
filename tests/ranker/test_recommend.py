from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decision import Filters
from core.errors import Missing
from core.ids import DAY_MS, HOUR_MS, MINUTE_MS, coin
from core.settings import ChannelSettings, RankingSettings, Settings, TrainingSettings
from ranker import features
from ranker.model import Examples, train
from ranker.recommend import near, similar, together, trending
from tests.ranker.tiny import NOW, TinyShop, shown, vector_of


def small(*, text: bool = False, config: Settings | None = None) -> TinyShop:
    """Forty items in four categories and some shoppers."""
    shop = TinyShop(config, text=text)
    kinds = ("tea", "bike", "hose", "cup")
    for n in range(40):
        shop.sell(f"{kinds[n % 4]} {n}", categories=[f"Root > {kinds[n % 4]}"], price=float(n))
    for n in range(200):
        name = ("view_item", "view_item", "add_to_cart", "purchase")[int(coin(f"n{n}") * 4)]
        item = int(coin(f"i{n}") * 40)
        shop.tell(name, f"u{n % 9}", f"{kinds[item % 4]} {item}", ts=NOW - 20 * HOUR_MS + n * 5 * MINUTE_MS)
    return shop


def trained(shop: TinyShop) -> None:
    """Let a ranker answer that has learnt from made-up lists that what costs more than 19 is wanted."""
    names = features.names(shop.settings)
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(2_000, len(names)), scale=2.0).astype(np.float32)
    grades = (matrix[:, names.index("price")] > np.log1p(19.0)).astype(np.int8)
    examples = Examples(matrix, grades, np.full(100, 20, np.int64))
    shop.use(train(examples, names, features.schema(shop.settings), TrainingSettings(trees=5, leaves=7), threads=1))


# ---------------------------------------------------------------------- a pure function
@pytest.mark.parametrize("ranked", [False, True])
def test_the_same_question_has_the_same_answer(ranked: bool) -> None:
    shop = small(text=True)
    if ranked:
        trained(shop)
    asked: list[dict[str, Any]] = [
        {},
        {"diversity": 0.5},
        {"explain": True},
        {"items": ("tea 0", "unheard of", "bike 1")},
        {"context_items": ("tea 0",)},
    ]
    for fields in asked:
        first = shop.ask("u0", **fields)
        shop.ask("u1", items=("another", "unheard of"))
        assert shop.ask("u0", **fields) == first
        assert first.ranker == ("lambdarank" if ranked else "blend")


def test_two_shops_with_the_same_past_answer_alike() -> None:
    assert small().ask("u3", explain=True) == small().ask("u3", explain=True)


def test_asking_teaches_the_shop_nothing() -> None:
    shop = TinyShop()
    shop.view("u", "a")
    before = shown(shop.ask("nobody"))
    shop.ask("u", items=tuple([f"unheard of {n}" for n in range(2_000)]))
    assert shown(shop.ask("nobody")) == before == ["a"]
    assert len(shop.live) == 1
    with pytest.raises(Missing):
        together("unheard of 3", 5, Filters(), shop.snapshot)


def test_only_the_sample_of_the_log_depends_on_the_recommendation_id() -> None:
    shop = small(config=Settings(ranking=RankingSettings(pool=5)))
    one, other = shop.ask("u0", recommendation_id="one"), shop.ask("u0", recommendation_id="other")
    assert one.items == other.items
    assert one.pool != other.pool


# ---------------------------------------------------------------------- the list
@given(
    st.integers(1, 60),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from(["u0", "u5", "nobody", ""]),
    st.sampled_from([(), ("tea 0",), ("tea 0", "bike 1", "unheard of")]),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_list_holds_n_different_items_best_first(
    n: int, diversity: float, shopper: str, context: tuple[str, ...], bought: bool
) -> None:
    shop = SHOP
    decision = shop.ask(shopper, n=n, diversity=diversity, context_items=context, exclude_bought=bought)
    listed = shown(decision)
    barred = {one for one, memory in shop.profile(shopper).memory.items() if bought and memory.first_buy} | set(context)
    assert len(listed) == len(set(listed)) == min(n, 40 - len(barred & set(shop.live.ids)))
    assert not barred & set(listed)
    assert diversity or [one.score for one in decision.items] == sorted([o.score for o in decision.items], reverse=True)


SHOP = small()


def test_an_empty_catalogue_gives_an_empty_list() -> None:
    for text in (False, True):
        decision = TinyShop(text=text).ask("u", n=5, explain=True)
        assert (decision.items, decision.pool, decision.features) == ((), (), b"")


def test_a_catalogue_of_one_item_gives_that_item() -> None:
    shop = TinyShop(text=True)
    shop.sell("tea")
    assert shown(shop.ask("nobody", n=5, diversity=1.0)) == ["tea"]
    assert shown(shop.ask("nobody", exclude_items=("tea",))) == []


def test_a_stranger_gets_what_trends() -> None:
    shop = small()
    for n in range(30):
        shop.view(f"w{n}", "hose 2")
    assert shown(shop.ask("never heard of"))[0] == "hose 2"
    assert shown(shop.ask("never heard of")) == shown(shop.ask(""))


def test_a_view_changes_the_next_list() -> None:
    shop = small()
    before = shop.ask("fresh")
    shop.view("fresh", "cup 3", "cup 7", "cup 11")
    after = shop.ask("fresh")
    assert shown(after) != shown(before)
    assert {reason.item_id for one in after.items for reason in one.reasons} & {"cup 3", "cup 7", "cup 11"}


def test_a_new_item_comes_in_by_the_channels_new_and_text() -> None:
    shop = small(text=True)
    shop.view("u0", "tea 0")
    shop.sell("tea fresh", ts=NOW - MINUTE_MS)
    found = {one.item_id: one for one in shop.ask("u0", n=41, explain=True).items}
    assert {"new", "text"} <= set(found["tea fresh"].channels)
    assert "new" in {reason.code for one in shop.ask("nobody", n=41).items for reason in one.reasons}


def test_what_no_channel_brings_is_filled_up_by_popularity() -> None:
    shop = small(config=Settings(channels=ChannelSettings(**dict.fromkeys(ChannelSettings.__struct_fields__, 0))))
    listed = shown(shop.ask("nobody", n=40))
    wanted = [one.item_id for one in trending(40, None, NOW, Filters(), shop.snapshot)]
    used = int(np.isfinite(shop.live.trend[: len(shop.live)]).sum())
    assert listed[:used] == wanted[:used]
    assert sorted(listed) == sorted(wanted)


def test_a_long_list_is_not_cut_at_the_number_of_candidates() -> None:
    shop = small(config=Settings(ranking=RankingSettings(candidates=5)))
    assert len(shop.ask("u0", n=12).items) == 12
    assert len(shop.ask("u0", n=3).items) == 3


def test_what_was_bought_is_left_out_when_asked() -> None:
    shop = small()
    bought = {one for one, memory in shop.profile("u0").memory.items() if memory.buys}
    assert bought & set(shown(shop.ask("u0", n=40)))
    assert not bought & set(shown(shop.ask("u0", n=40, exclude_bought=True)))


def test_the_page_turns_the_list_towards_its_items() -> None:
    shop = TinyShop()
    for n in range(20):
        shop.sell(f"i{n}")
        shop.view("w", f"i{n}", ts=NOW - DAY_MS + n * HOUR_MS)
    shop.buy("x", "i0", "i7", ts=NOW - 20 * DAY_MS)
    plain, turned = (shown(shop.ask("nobody", n=20, context_items=page)) for page in ((), ("i0",)))
    assert turned.index("i7") < plain.index("i7")
    assert "i0" not in turned


@pytest.mark.parametrize("n", [1, 2, 5])
def test_given_items_are_ranked_and_cut_at_n(n: int) -> None:
    shop = small()
    shop.buy("u0", "cup 3")
    shop.buy("u0", "cup 3")
    asked = ("unheard of", "tea 0", "cup 3", "cup 3")
    decision = shop.ask("u0", items=asked, n=n)
    assert shown(decision)[0] == "cup 3"
    assert len(decision.items) == min(n, 3)


def test_filters_hold_also_for_what_fills_the_list_up() -> None:
    decision = small().ask("u0", n=40, filters=Filters(categories=("Root > tea",), price_min=10.0))
    assert sorted(shown(decision)) == sorted([f"tea {n}" for n in range(12, 40, 4)])


def test_a_channel_that_is_switched_off_brings_nothing() -> None:
    off = small(config=Settings(channels=ChannelSettings(own=0, trending=0)))
    assert not {"own", "trending"} & {name for one in off.ask("u0", n=40, explain=True).items for name in one.channels}
    shop = small()
    shop.snapshot = replace(shop.snapshot, channels=("trending",))
    assert {name for one in shop.ask("u0", n=40, explain=True).items for name in one.channels} == {"trending"}


# ---------------------------------------------------------------------- what is logged and explained
@pytest.mark.parametrize("ranked", [False, True])
def test_the_logged_pool_has_a_row_of_features_for_each_item(ranked: bool) -> None:
    shop = small(text=True)
    if ranked:
        trained(shop)
    decision = shop.ask("u0", n=5)
    names = features.names(shop.settings)
    matrix = np.frombuffer(decision.features, np.float32).reshape(len(decision.pool), len(names))
    assert decision.schema == features.schema(shop.settings)
    assert list(decision.pool[:5]) == shown(decision)
    assert 5 < len(decision.pool) == len(set(decision.pool)) <= 5 + shop.settings.ranking.pool
    bought = np.array([shop.profile("u0").memory[one].buys if one in shop.profile("u0").memory else np.nan
                       for one in decision.pool])  # fmt: skip
    np.testing.assert_allclose(np.expm1(matrix[:, names.index("own_buys")]), bought, atol=1e-5)


def test_an_explanation_names_channels_and_features() -> None:
    shop = small(text=True)
    plain, explained = shop.ask("u0"), shop.ask("u0", explain=True)
    assert shown(plain) == shown(explained)
    assert all(not one.channels and not one.features for one in plain.items)
    for one in explained.items:
        assert one.channels
        assert set(one.features) <= set(features.names(shop.settings))
        assert all(rank >= 1 and np.isfinite(score) for rank, score in one.channels.values())
        assert all(np.isfinite(value) for value in one.features.values())


def test_the_ranks_of_a_channel_are_counted_from_one_without_a_gap() -> None:
    decision = small().ask("u0", n=40, explain=True)
    for channel in ("own", "trending", "seen"):
        ranks = sorted(one.channels[channel][0] for one in decision.items if channel in one.channels)
        assert ranks == list(range(1, len(ranks) + 1))


def test_a_ranker_decides_the_order() -> None:
    shop = small()
    assert not all(dear(one) for one in shown(shop.ask("u0")))
    trained(shop)
    decision = shop.ask("u0")
    assert all(dear(one) for one in shown(decision))
    assert [one.score for one in decision.items] == sorted([one.score for one in decision.items], reverse=True)


def dear(item: str) -> bool:
    """The price of an item of `small` is the number in its name."""
    return int(item.split()[1]) > 18


# ---------------------------------------------------------------------- lists about an item, or about nobody
def test_similar_items_read_alike() -> None:
    shop = TinyShop(text=True)
    for name in ("green tea", "black tea", "red bicycle", "garden hose"):
        shop.sell(name)
    found = similar("green tea", 2, Filters(), shop.snapshot)
    assert found[0].item_id == "black tea"
    assert found[0].reasons[0].text == "similar to green tea"
    assert len(found) == 2


def test_similar_items_are_found_past_those_that_are_sold_out() -> None:
    shop = TinyShop(text=True)
    shop.sell("tea")
    for n in range(150):
        shop.sell(f"tea tea {n}", in_stock=False)
    shop.sell("tea and scones")
    assert [one.item_id for one in similar("tea", 5, Filters(), shop.snapshot)] == ["tea and scones"]
    assert len(similar("tea", 5, Filters(in_stock=False), shop.snapshot)) == 5


def test_similar_needs_a_known_item_and_vectors() -> None:
    with pytest.raises(Missing, match="unknown item"):
        similar("a", 5, Filters(), TinyShop(text=True).snapshot)
    shop = TinyShop()
    shop.sell("a")
    with pytest.raises(Missing, match="switched off"):
        similar("a", 5, Filters(), shop.snapshot)
    wordless = TinyShop(text=True)
    wordless.view("u", "a")
    with pytest.raises(Missing, match="no vector yet"):
        similar("a", 5, Filters(), wordless.snapshot)


def test_a_search_finds_what_its_words_say() -> None:
    shop = TinyShop(text=True)
    for name in ("green tea", "black tea", "red bicycle"):
        shop.sell(name)
    found = near(vector_of("bicycle"), 1, Filters(), shop.snapshot)
    assert [one.item_id for one in found] == ["red bicycle"]


def test_together_gives_what_was_bought_before_what_was_seen() -> None:
    shop = TinyShop()
    shop.view("v", "a", "looked at")
    shop.tell("add_to_cart", "w", "a", ts=NOW - HOUR_MS)
    shop.tell("add_to_cart", "w", "carted", ts=NOW - HOUR_MS)
    shop.buy("x", "a", "bought")
    found = together("a", 5, Filters(), shop.snapshot)
    assert [one.item_id for one in found] == ["bought", "carted", "looked at"]
    assert [one.reasons[0].code for one in found] == ["bought_with", "carted_with", "seen_with"]
    assert len(together("a", 1, Filters(), shop.snapshot)) == 1
    with pytest.raises(Missing, match="unknown item"):
        together("unheard of", 5, Filters(), shop.snapshot)


def test_trending_is_filled_up_with_the_newest() -> None:
    shop = TinyShop()
    for n, name in enumerate(("c", "b", "a")):
        shop.sell(name, ts=NOW - (n + 1) * DAY_MS, categories=["K > T" if n else "K > C"])
    shop.view("u", "a")
    assert [one.item_id for one in trending(5, None, NOW, Filters(), shop.snapshot)] == ["a", "c", "b"]
    assert [one.item_id for one in trending(2, None, NOW, Filters(), shop.snapshot)] == ["a", "c"]
    assert [one.item_id for one in trending(5, "K > T", NOW, Filters(), shop.snapshot)] == ["a", "b"]
    assert [one.item_id for one in trending(5, "K", NOW, Filters(), shop.snapshot)] == ["a", "c", "b"]
    assert trending(5, "Nowhere", NOW, Filters(), shop.snapshot) == []
