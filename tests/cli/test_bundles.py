from __future__ import annotations

from pathlib import Path

import pytest

from core.bundle import Bundles
from core.manifest import Contents, EncoderReference, FeatureSchema
from tests.cli.conftest import Run


def bundle(store: Bundles, created_ms: int) -> str:
    contents = Contents(
        created_ms=created_ms,
        space_id="",
        encoder=EncoderReference("none", ""),
        text={},
        user_vector={},
        features=FeatureSchema(),
        max_event_time=0,
        ranker="lambdarank",
        metrics={"ndcg@10": 0.25, "lists": 1_200.0},
    )
    return store.write(contents, fill).id


def fill(folder: Path) -> None:
    (folder / "f").write_text("x")


@pytest.fixture
def store(folder: Path) -> Bundles:
    return Bundles(folder / "data" / "bundles", 5)


def test_without_bundles_the_list_says_what_to_do(headwater: Run) -> None:
    code, said, _ = headwater("bundles", "list")
    assert code == 0
    assert said == "no bundles in data/bundles: the blend answers; headwater train ranker makes the first\n"


def test_the_list_stars_the_bundle_that_serves(headwater: Run, store: Bundles) -> None:
    first, second = bundle(store, 1_700_000_000_000), bundle(store, 1_700_000_100_000)
    store.promote(first)
    head, *lines = headwater("bundles", "list")[1].splitlines()
    assert head.split() == ["bundle", "made", "ranker", "NDCG@10", "against", "lists", "bytes"]
    assert [line.split() for line in lines] == [
        [second, "2023-11-14", "22:15:00Z", "lambdarank", "0.2500", "-", "1,200", "1"],
        ["*", first, "2023-11-14", "22:13:20Z", "lambdarank", "0.2500", "-", "1,200", "1"],
    ]


def test_promote_and_roll_back_move_the_pointer(headwater: Run, store: Bundles) -> None:
    first, second = bundle(store, 1), bundle(store, 2)
    assert headwater("bundles", "promote", first) == (0, f"{first} serves\n", "")
    assert headwater("bundles", "promote", second) == (0, f"{second} serves\n", "")
    assert store.current_id() == second
    assert headwater("bundles", "rollback") == (0, f"{first} serves again\n", "")
    assert store.current_id() == first


def test_a_damaged_bundle_is_not_promoted(headwater: Run, store: Bundles) -> None:
    one = bundle(store, 1)
    (store.folder(one) / "f").write_text("y")
    code, _, errors = headwater("bundles", "promote", one)
    assert code == 1
    assert "f must be" in errors
    assert store.current_id() is None


def test_prune_deletes_all_but_the_newest(headwater: Run, store: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [bundle(store, n) for n in range(4)]
    monkeypatch.setenv("HEADWATER_BUNDLES__KEEP", "3")
    assert headwater("bundles", "prune") == (0, f"{ids[0]} deleted\n1 bundles deleted\n", "")
    assert [one.id for one in store.list()] == ids[:0:-1]
