"""The tower as it answers, against the net it was learnt with; and what learning comes to."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import Corrupt, Missing
from models.user_histories import Batches, Sequences
from models.user_net import Net
from models.user_tower import FILE, Shape, UserTower
from models.user_training import Plan, learn
from models.vectors import Vectors

DIM, KNOWN = 12, 5
NAMES = tuple("abcde")


def unit(rows: int, seed: int = 0, dim: int = DIM) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((rows, dim))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def some_net(layers: int = 2, length: int = 6) -> Net:
    torch.manual_seed(3)
    net = Net(DIM, KNOWN, Plan(width=16, heads=2, layers=layers, length=length))
    with torch.no_grad():
        for one in net.parameters():
            one.normal_(0.0, 0.4)
        net.ids[0] = 0.0
    return net.eval()


def some_tower(layers: int = 2, length: int = 6) -> UserTower:
    return some_net(layers, length).tower(Shape("space", layers, 2, length, 5), NAMES, torch.from_numpy(unit(KNOWN)))


@given(layers=st.integers(1, 3), items=st.integers(1, 6), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=30, deadline=None)
def test_numpy_answers_as_the_net_does(layers: int, items: int, seed: int) -> None:
    net, chance = some_net(layers), np.random.default_rng(seed)
    vectors, places = unit(items, seed), chance.integers(0, KNOWN + 1, items)
    amounts = chance.uniform(0.1, 3.0, items).astype(np.float32)
    tower = net.tower(Shape("space", layers, 2, 6, 0), NAMES, torch.from_numpy(unit(KNOWN)))
    query, state = tower.query(vectors, amounts), tower.state(vectors, places)
    with torch.no_grad():  # which reads oldest first
        read = torch.from_numpy(vectors[::-1].copy())[None]
        queries = net.queries(read, torch.from_numpy(amounts[::-1].copy())[None])
        states = net.states(read, torch.from_numpy(places[::-1].copy())[None])
    np.testing.assert_allclose(query, queries[0, -1].numpy(), atol=1e-4)
    np.testing.assert_allclose(state, states[0, -1].numpy(), atol=1e-4)
    assert np.linalg.norm(query) == pytest.approx(1.0, abs=1e-5)


def test_keys_are_those_of_the_net() -> None:
    net, vectors, places = some_net(), unit(9), np.array([0, 1, 2, 3, 4, 5, 0, 0, 1])
    with torch.no_grad():
        wanted = net.keys(torch.from_numpy(vectors), torch.from_numpy(places)).numpy()
    found = net.tower(Shape("space", 2, 2, 6, 0), NAMES, torch.from_numpy(unit(KNOWN))).keys(vectors, places)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    tower = some_tower()
    np.testing.assert_allclose(tower.known, tower.keys(unit(KNOWN), tower.places(NAMES)), atol=1e-5)


def test_before_it_has_learnt_anything_it_is_the_faded_mean() -> None:
    torch.manual_seed(1)
    net = Net(DIM, KNOWN, Plan(width=16, length=6))
    tower = net.tower(Shape("space", 2, 2, 6, 0), NAMES, torch.from_numpy(unit(KNOWN)))
    query = tower.query(unit(4), np.array([1, 2, 1, 1], np.float32))
    mean = np.array([1.0, 2 * 0.85, 0.85**2, 0.85**3]) @ unit(4)
    np.testing.assert_allclose(query, mean / np.linalg.norm(mean), atol=1e-5)


def test_what_is_older_than_its_length_is_not_read() -> None:
    tower, vectors, ones, places = some_tower(), unit(9), np.ones(9, np.float32), np.zeros(9, np.int64)
    np.testing.assert_array_equal(tower.query(vectors, ones), tower.query(vectors[:6], ones[:6]))
    np.testing.assert_array_equal(tower.state(vectors, places), tower.state(vectors[:6], places[:6]))


def test_a_later_item_changes_nothing_before_it() -> None:
    net, vectors = some_net(), torch.from_numpy(unit(5))[None]
    places, amounts = torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5)
    with torch.no_grad():
        before = net.queries(vectors, amounts), net.states(vectors, places)
        vectors[0, 4] = -vectors[0, 4]
        after = net.queries(vectors, amounts), net.states(vectors, places)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one[0, :4], other[0, :4], atol=1e-6)
        assert np.abs((one[0, 4] - other[0, 4]).numpy()).max() > 0.01


def test_items_without_a_residual_are_known_by_their_text_alone() -> None:
    tower = some_tower()
    assert tower.places(["b", "never heard of", "e"]).tolist() == [2, 0, 5]
    known, unknown = (tower.state(unit(1), np.array([n])) for n in (2, 0))
    assert np.abs(known - unknown).max() > 1e-3
    assert not tower.weights["ids"][0].any()


def test_it_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    tower = some_tower()
    tower.save(tmp_path)
    back = UserTower.load(tmp_path)
    assert back is not None
    assert (back.shape, back.items) == (tower.shape, tower.items)
    ones = np.ones(4, np.float32)
    np.testing.assert_array_equal(back.query(unit(4), ones), tower.query(unit(4), ones))
    places = np.array([0, 1, 5, 2])
    np.testing.assert_allclose(back.state(unit(4), places), tower.state(unit(4), places), atol=2e-3)  # float16


def test_a_folder_without_a_tower_has_none_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert UserTower.load(tmp_path) is None
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(Corrupt, match="cannot be read"):
        UserTower.load(tmp_path)
    UserTower(Shape("space", 2, 2, 6, 0), ("a",), some_tower().weights).save(tmp_path)
    with pytest.raises(Corrupt, match="residuals and keys of 1 items, got 6 and 5"):
        UserTower.load(tmp_path)


def test_a_tower_of_one_transformer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tower = some_tower()
    older = {name.removeprefix("foreseeing."): one for name, one in tower.weights.items() if "asking" not in name}
    UserTower(tower.shape, tower.items, older).save(tmp_path)
    with pytest.raises(Corrupt, match="train a new bundle"):
        UserTower.load(tmp_path)


# ---------------------------------------------------------------------- learning
TEXTS = unit(60, seed=9)
PLAN = Plan(width=32, layers=1, length=8, batch=16, rounds=8, patience=8, negatives=60, dropout=0.0, rate=4e-3)


def followed(shoppers: int, *, shuffled: bool = False) -> Sequences:
    """Histories in which item n is followed by item n + 1, whatever their texts are."""
    chance = np.random.default_rng(5)
    rows = (chance.integers(0, 60, shoppers)[:, None] + np.arange(7)) % 60
    if shuffled:
        rows = chance.integers(0, 60, rows.shape)
    return Sequences(np.arange(shoppers + 1) * 7, rows.ravel(), np.ones(shoppers * 7, np.float32))


def share_found(tower: UserTower, *, by_state: bool = False) -> float:
    """How often the next item is among the ten nearest of an answer; of a mean, about a tenth."""
    hits, keys = [], tower.keys(TEXTS, np.arange(60) + 1)
    for start in range(60):
        history = (start - np.arange(4)) % 60
        near = TEXTS @ tower.query(TEXTS[history], np.ones(4, np.float32))
        order = np.argsort(-(keys @ tower.state(TEXTS[history], history + 1) if by_state else near))
        hits.append((start + 1) % 60 in order[~np.isin(order, history)][:10])
    return float(np.mean(hits))


def learnt(found: Sequences, plan: Plan = PLAN) -> UserTower:
    ticks = count()
    names = tuple(f"i{n}" for n in range(60))
    judged = count()
    return learn(
        found, TEXTS, (names, np.arange(60)), plan, ("space", 7), lambda _: next(judged), lambda: next(ticks) * 1e-3
    ).tower


def test_it_learns_what_follows_and_nothing_from_shuffled_items() -> None:
    tower, nothing = learnt(followed(240)), learnt(followed(240, shuffled=True))
    assert tower.shape == Shape("space", 1, 2, 8, 7)
    assert min(share_found(tower), share_found(tower, by_state=True)) > 0.6
    assert max(share_found(nothing), share_found(nothing, by_state=True)) < 0.4


def test_a_query_may_be_learnt_alone() -> None:
    short = Plan(width=16, layers=1, length=4, rounds=1, negatives=20)
    both, alone = learnt(followed(40), short), learnt(followed(40), replace(short, foresees=False))
    assert both.weights["ids"].any()
    assert not alone.weights["ids"].any()
    assert both.weights["out.weight"].any()
    assert alone.weights["out.weight"].any()


def test_the_same_seed_gives_the_same_tower() -> None:
    short = Plan(width=16, layers=1, length=4, rounds=1, negatives=20)
    one, other = (learnt(followed(40), short) for _ in range(2))
    for name, weights in one.weights.items():
        np.testing.assert_array_equal(weights, other.weights[name])


def test_the_best_round_is_kept_and_learning_ends_when_none_is_better() -> None:
    scores = iter([0.1, 0.5, 0.2, 0.3, 0.9])
    names = tuple(f"i{n}" for n in range(60))
    towers: list[UserTower] = []

    def judge(tower: UserTower) -> float:
        towers.append(tower)
        return next(scores)

    plan = Plan(width=16, layers=1, length=4, rounds=5, patience=2, negatives=20)
    ticks = count()
    found = learn(followed(40), TEXTS, (names, np.arange(60)), plan, ("s", 0), judge, lambda: next(ticks) * 1e-3)
    assert [score for _, score, _ in found.rounds] == [0.1, 0.5, 0.2, 0.3]
    assert found.tower is towers[1]


def test_histories_of_one_item_teach_nothing() -> None:
    lonely = Sequences(np.arange(4), np.arange(3), np.ones(3, np.float32))
    with pytest.raises(Missing, match="two items"):
        learnt(lonely)


def test_long_histories_are_learnt_from_in_pieces_that_miss_nothing() -> None:
    rows = np.arange(50)
    batches = Batches(Sequences(np.array([0, 50]), rows, np.ones(50, np.float32)), length=8, size=4)
    for seed in range(20):
        targets: list[int] = []
        for part, _, new in batches.of(np.random.default_rng(seed)):
            assert part.shape[1] <= 9
            targets += part[:, 1:][new[:, 1:]].tolist()
        assert sorted(targets) == list(range(1, 50))
