from __future__ import annotations

from pathlib import Path

import pytest

from core.bundle import Bundles
from core.manifest import Contents, EncoderReference, FeatureSchema
from gateway.client import Client
from jobs.gate import Verdict, save
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
    assert head.split() == ["bundle", "made", "ranker", "NDCG@10", "against", "verdict", "lists", "bytes"]
    assert [line.split() for line in lines] == [
        [second, "2023-11-14", "22:15:00Z", "lambdarank", "0.2500", "-", "-", "1,200", "1"],
        ["*", first, "2023-11-14", "22:13:20Z", "lambdarank", "0.2500", "-", "-", "1,200", "1"],
    ]


def test_promote_and_roll_back_move_the_pointer(headwater: Run, store: Bundles) -> None:
    first, second = bundle(store, 1), bundle(store, 2)
    assert headwater("bundles", "promote", first) == (0, f"{first} serves\n", "")
    assert headwater("bundles", "promote", second) == (0, f"{second} serves\n", "")
    assert store.current_id() == second
    assert headwater("bundles", "rollback") == (0, f"{first} serves again\n", "")
    assert store.current_id() == first


def test_the_list_tells_the_verdict_on_each(headwater: Run, store: Bundles) -> None:
    held = Verdict(result="held", why="", lists=9, challenger=0.3, champion=0.2, difference=(0.1, 0.0, 0.2))
    contents = Contents(
        created_ms=9, space_id="", encoder=EncoderReference("none", ""), text={}, user_vector={},
        features=FeatureSchema(), max_event_time=0, ranker="lambdarank", metrics={},
    )  # fmt: skip
    store.write(contents, lambda folder: save(folder, held))
    assert headwater("bundles", "list")[1].splitlines()[1].split()[-3] == "held"


def test_what_was_done_by_hand_is_in_the_history(headwater: Run, store: Bundles) -> None:
    first, second = bundle(store, 1), bundle(store, 2)
    for one in (first, second):
        headwater("bundles", "promote", one)
    headwater("bundles", "rollback")
    head, *lines = headwater("train", "status")[1].splitlines()
    assert head == "nothing trains now"
    assert [line.split()[2:] for line in lines] == [
        ["rollback", "0", "s", "rolled", "back", first, "by", "hand"],
        ["promote", "0", "s", "promoted", second, "by", "hand"],
        ["promote", "0", "s", "promoted", first, "by", "hand"],
    ]


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


def test_a_bundle_is_named_to_answer_unseen_and_is_no_more(headwater: Run, store: Bundles) -> None:
    one = bundle(store, 1)
    assert headwater("bundles", "shadow") == (0, "no bundle answers unseen\n", "")
    assert headwater("bundles", "shadow", one) == (0, f"{one} answers unseen\n", "")
    assert store.shadow_id() == one
    assert headwater("bundles", "shadow", "--off") == (0, "no bundle answers unseen\n", "")
    assert store.shadow_id() is None
    code, _, errors = headwater("bundles", "shadow", one, "--off")
    assert (code, "either --off or a bundle" in errors) == (2, True)


def test_what_came_of_it_is_asked_of_the_gateway(
    headwater: Run, store: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, asked = bundle(store, 1), list[str]()
    store.shadow(one)
    engine = {"shadow": one, "shadow_lists": 1_200, "shadow_overlap": 0.8125, "shadow_same_first": 0.5,
              "shadow_ms": 4.25, "shadow_failures": 1, "shadow_left_out": 7}  # fmt: skip

    def answer(_: Client, path: str, **query: str) -> dict[str, object]:
        asked.append(path)
        return {"engine": engine}

    monkeypatch.setattr(Client, "get", answer)
    code, said, _ = headwater("bundles", "shadow")
    assert (code, asked) == (0, ["/healthz"])
    assert said.splitlines() == [
        f"{one} answers unseen",
        "1,200 lists, 81.2% of the first ten are the same items, 50.0% begin with the same one",
        "4.2 ms a list, 1 failures, 7 left out",
    ]
    monkeypatch.setattr(Client, "get", lambda *_, **__: {"engine": {}})
    assert "bundles.shadow_share is 0" in headwater("bundles", "shadow")[1]


def test_a_promotion_by_hand_begins_a_probation(headwater: Run, store: Bundles) -> None:
    for one in (bundle(store, 1), bundle(store, 2)):
        headwater("bundles", "promote", one)
    pointer = store.pointer()
    assert pointer is not None
    assert pointer.rival(pointer.since_ms + 1, 60.0) is not None
