from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadInput
from core.ids import DAY_MS
from core.settings import Settings
from demo import DAYS, NOTE, Note, Play, history_of, inside, invented_shop, prepared, write

NOW = 1_750_000_012_345


def test_a_new_folder_is_made_and_marked(tmp_path: Path) -> None:
    note = prepared(tmp_path / "a" / "demo", {"items": 50}, fresh=False)
    assert note == Note(Play(items=50))
    assert (tmp_path / "a" / "demo" / NOTE).exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(BadInput, match="holds something else than a demonstration"):
            prepared(tmp_path, {}, fresh=fresh)
    assert (tmp_path / "diary.txt").read_text() == "mine"


def test_what_was_not_played_to_its_end_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    prepared(folder, {}, fresh=False)
    (folder / "log.sqlite").write_text("half")
    prepared(folder, {}, fresh=False)
    assert [path.name for path in folder.iterdir()] == [NOTE]


def test_what_was_played_is_kept_until_a_fresh_one_is_asked_for(tmp_path: Path) -> None:
    folder, whole = tmp_path / "demo", Note(Play(items=50), NOW)
    write(folder, whole)
    (folder / "log.sqlite").write_text("whole")
    assert prepared(folder, {}, fresh=False) == whole
    assert prepared(folder, {"items": 50}, fresh=False) == whole
    with pytest.raises(BadInput, match="with items 50, not 60: --fresh deletes it"):
        prepared(folder, {"items": 60}, fresh=False)
    assert prepared(folder, {"items": 60}, fresh=True) == Note(Play(items=60))
    assert not (folder / "log.sqlite").exists()


def test_everything_is_written_inside_the_folder() -> None:
    settings = inside(Settings(), Path("there"), Play())
    paths = {settings.log.path, settings.encoder.cache, settings.bundles.path}
    assert all(path.parent == Path("there") for path in paths)
    assert len(paths) == 3


def test_the_history_is_young_enough_for_the_gateway_and_ends_now() -> None:
    shop = invented_shop(Play(items=60, shoppers=30), NOW)
    events = list(shop.events(NOW))
    assert NOW - DAY_MS < events[-1]["ts"] < NOW
    assert events[0]["ts"] > NOW - 30 * DAY_MS
    assert all(body["ts"] >= NOW - (DAYS + 1) * DAY_MS for body in shop.catalogue(NOW))


def test_the_page_offers_shoppers_of_different_tastes_and_names() -> None:
    history = history_of(Play(items=60, shoppers=80), Settings(), NOW)
    assert len(history.known) >= 4
    assert len({one.name for one in history.known}) == len(history.known)
    assert len({one.note.split(" and ")[0] for one in history.known}) == len(history.known)
    users = {event.get("user_id") for event in invented_shop(Play(items=60, shoppers=80), NOW).events(NOW)}
    assert {one.id for one in history.known} <= users
