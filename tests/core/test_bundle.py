"""Bundles on the disk: checksums, the pointer, two processes, and a kill at any moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from core.bundle import POINTER, Bundles
from core.errors import BadInput, Broken, Corrupt, Missing
from core.manifest import MANIFEST, Contents, EncoderReference, FeatureSchema, Manifest

ROOT = Path(__file__).parents[2]
CONTENTS = Contents(
    created_ms=1_700_000_000_123,
    space_id="minilm-1",
    encoder=EncoderReference("minilm", "53aa"),
    text={"template": "{title}", "attributes": ["colour"], "description_words": 30},
    user_vector={"items": 20, "half_life_s": 3600.0},
    features=FeatureSchema.of(("views", "price")),
    max_event_time=1_699_999_999_000,
    ranker="lightgbm",
    metrics={"ndcg@10": 0.25, "lists": 12},
)


def fill(folder: Path) -> None:
    (folder / "index").mkdir()
    (folder / "index" / "vectors.bin").write_bytes(bytes(range(256)))
    (folder / "ranker.txt").write_text("trees")


def bundles(tmp_path: Path, keep: int = 3) -> Bundles:
    return Bundles(tmp_path / "bundles", keep)


def written(store: Bundles, number: int) -> str:
    return store.write(msgspec.structs.replace(CONTENTS, created_ms=1_700_000_000_000 + number), fill).id


def test_what_was_written_is_what_is_loaded(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    manifest = store.write(CONTENTS, fill)
    assert store.load(manifest.id) == manifest
    assert (manifest.space_id, manifest.metrics, manifest.features.names) == (
        "minilm-1",
        {"ndcg@10": 0.25, "lists": 12.0},
        ("views", "price"),
    )
    assert {name: stored.bytes for name, stored in manifest.files.items()} == {
        "index/vectors.bin": 256,
        "ranker.txt": 5,
    }
    assert (store.folder(manifest.id) / "ranker.txt").read_text() == "trees"


def test_an_id_tells_the_time_and_the_contents(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    manifest = store.write(CONTENTS, fill)
    assert manifest.id.startswith("20231114T221320123Z-")
    assert manifest.id != store.write(msgspec.structs.replace(CONTENTS, ranker="blend"), fill).id
    assert manifest.id != store.write(CONTENTS, lambda folder: None).id


def test_ids_sort_as_the_times_of_creation(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    ids = [written(store, number) for number in (999, 1, 1_000, 60_000, 2)]
    assert [manifest.id for manifest in store.list()] == sorted(ids, reverse=True)
    assert [manifest.created_ms % 100_000 for manifest in store.list()] == [60_000, 1_000, 999, 2, 1]


def test_writing_the_same_twice_is_one_bundle(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    assert store.write(CONTENTS, fill) == store.write(CONTENTS, fill)
    assert len(store.list()) == 1
    assert names(store) == {".lock", store.list()[0].id}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = bundles(tmp_path)

    def full_disk(folder: Path) -> None:
        fill(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write(CONTENTS, full_disk)
    assert names(store) == {".lock"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metrics": {"ndcg": float("nan")}}, "metrics"),
        ({"created_ms": "now"}, "created_ms"),
        ({"created_ms": 10**17}, "created_ms must be"),
        ({"text": {"template": object()}}, "object"),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        bundles(tmp_path).write(msgspec.structs.replace(CONTENTS, **change), fill)


def test_links_and_a_manifest_of_ones_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="got link"):
        bundles(tmp_path).write(CONTENTS, lambda folder: (folder / "link").symlink_to(tmp_path))
    with pytest.raises(BadInput, match=MANIFEST):
        bundles(tmp_path).write(CONTENTS, lambda folder: (folder / MANIFEST).touch())


@pytest.mark.parametrize("damage", ["flip", "shorten", "delete"])
def test_a_damaged_file_is_found_and_never_promoted(tmp_path: Path, damage: str) -> None:
    store = bundles(tmp_path)
    good, bad = written(store, 1), written(store, 2)
    store.promote(good)
    path = store.folder(bad) / "index" / "vectors.bin"
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "shorten":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    for act in (store.load, store.promote):
        with pytest.raises(Corrupt, match=r"index/vectors\.bin"):
            act(bad)
    assert store.current_id() == good


@pytest.mark.parametrize("field", ["space_id", "max_event_time", "files"])
def test_a_manifest_that_was_edited_is_found(tmp_path: Path, field: str) -> None:
    store = bundles(tmp_path)
    bundle_id = written(store, 1)
    path = store.folder(bundle_id) / MANIFEST
    tree = json.loads(path.read_text())
    tree[field] = {"space_id": "other", "max_event_time": 0, "files": {}}[field]
    path.write_text(json.dumps(tree))
    with pytest.raises(Corrupt, match="not the manifest"):
        store.load(bundle_id)


def test_a_manifest_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    bundle_id = written(store, 1)
    path = store.folder(bundle_id) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"v": 2}))
    with pytest.raises(Broken, match="version 2"):
        store.load(bundle_id)


@pytest.mark.parametrize("bundle_id", ["20231114T221320123Z-0123456789abcdef0123", "../elsewhere", "", "current"])
def test_promoting_an_unknown_id_names_those_there_are(tmp_path: Path, bundle_id: str) -> None:
    store = bundles(tmp_path)
    there = written(store, 1)
    with pytest.raises(Missing, match=there):
        store.promote(bundle_id)
    assert store.current_id() is None


def test_nothing_serves_before_the_first_promotion(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    assert (store.current(), store.current_id(), store.list(), store.prune()) == (None, None, (), ())
    with pytest.raises(Missing, match="nothing to roll back to"):
        store.rollback()


def test_rollback_twice_goes_two_bundles_back_and_then_no_further(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    first, second, third = [written(store, number) for number in (1, 2, 3)]
    for bundle_id in (first, second, third):
        assert store.promote(bundle_id).id == bundle_id
    assert store.rollback() == second
    assert store.rollback() == first
    assert current(store).id == first
    with pytest.raises(Missing, match=f"no bundle served before {first}"):
        store.rollback()
    assert store.current_id() == first


def test_promoting_what_serves_changes_nothing(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    first, second = written(store, 1), written(store, 2)
    for bundle_id in (first, second, second, second):
        store.promote(bundle_id)
    assert store.rollback() == first


def test_a_damaged_bundle_is_not_rolled_back_to(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    first, second = written(store, 1), written(store, 2)
    store.promote(first)
    store.promote(second)
    (store.folder(first) / "ranker.txt").write_text("other trees")
    with pytest.raises(Corrupt, match=r"ranker\.txt"):
        store.rollback()
    assert store.current_id() == second


def test_a_damaged_pointer_is_an_error_and_not_a_first_start(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    store.promote(written(store, 1))
    (store.root / POINTER).write_bytes(b"")
    with pytest.raises(Corrupt, match=POINTER):
        store.current_id()


def test_prune_keeps_the_newest_the_current_and_the_ones_before_it(tmp_path: Path) -> None:
    store = bundles(tmp_path, keep=2)
    ids = [written(store, number) for number in range(8)]
    for number in (3, 0, 1, 2):
        store.promote(ids[number])
    assert set(store.prune()) == {ids[number] for number in (3, 4, 5)}
    assert {manifest.id for manifest in store.list()} == {ids[number] for number in (0, 1, 2, 6, 7)}
    assert store.prune() == ()
    assert (store.rollback(), store.rollback()) == (ids[1], ids[0])


KILLER = """
import os, signal, sys
from itertools import count
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_bundle as t
folder, act = Path(sys.argv[3]), sys.argv[4]
calls = deadly = 0

def mortal(owner, name):
    real = getattr(owner, name)
    def wrapped(*args, **kwargs):
        moment()
        result = real(*args, **kwargs)
        moment()
        return result
    setattr(owner, name, wrapped)

def moment():
    global calls
    calls += 1
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

def write_bytes(path, data):
    with path.open("wb") as file:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            moment()
            file.write(half)
            file.flush()
    moment()

for deadly in count(1):
    store = t.prepared(folder / str(deadly), act)
    if (child := os.fork()) == 0:
        for name in ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir"):
            mortal(os, name)
        for name in ("mkdir", "rename", "replace", "unlink"):
            mortal(Path, name)
        Path.write_bytes = write_bytes
        t.act(store, act)
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
"""


def prepared(folder: Path, act: str) -> Bundles:
    store = Bundles(folder / "bundles", 1)
    if act != "write":
        ids = [written(store, number) for number in range(4)]
        store.promote(ids[0])
    return store


def act(store: Bundles, act: str) -> None:
    if act == "write":
        written(store, 7)
    elif act == "promote":
        store.promote(store.list()[0].id)
    else:
        store.prune()


def killed_at_every_moment(folder: Path, act: str) -> list[Bundles]:
    """What is left of a store by a process killed before its first call to the disk, after it, ..."""
    arguments = [str(ROOT), str(Path(__file__).parent), str(folder), act]
    subprocess.run([sys.executable, "-c", KILLER, *arguments], check=True)
    moments = sorted(int(path.name) for path in folder.iterdir())
    return [Bundles(folder / str(moment) / "bundles", 1) for moment in moments]


def names(store: Bundles) -> set[str]:
    return {path.name for path in store.root.iterdir()}


def current(store: Bundles) -> Manifest:
    manifest = store.current()
    assert manifest is not None
    return manifest


def test_a_kill_at_any_moment_of_a_write_leaves_no_half_bundle(tmp_path: Path) -> None:
    stores = killed_at_every_moment(tmp_path, "write")
    assert len(stores) > 20
    assert {len(store.list()) for store in stores} == {0, 1}
    for moment, store in enumerate(stores):
        for manifest in store.list():
            store.load(manifest.id)
        there = written(store, 7)
        assert names(store) == {".lock", there}, f"leftovers of the kill at moment {moment}"
        assert store.promote(there).id == there


def test_a_kill_at_any_moment_of_a_promotion_leaves_the_old_pointer_or_the_new(tmp_path: Path) -> None:
    stores = killed_at_every_moment(tmp_path, "promote")
    assert len(stores) > 8
    served = [store.load(current(store).id).created_ms % 1_000 for store in stores]
    assert sorted(served) == served
    assert set(served) == {0, 3}
    for store in stores:
        there = written(store, 7)
        assert not {name for name in names(store) if name.startswith(".writing")}
        assert store.promote(there).id == there


def test_a_kill_at_any_moment_of_pruning_leaves_whole_bundles(tmp_path: Path) -> None:
    stores = killed_at_every_moment(tmp_path, "prune")
    assert {len(store.list()) for store in stores} == {2, 3, 4}
    for store in stores:
        for manifest in store.list():
            store.load(manifest.id)
        store.prune()
        assert names(store) == {".lock", POINTER, *[manifest.id for manifest in store.list()]}
        assert [manifest.created_ms % 1_000 for manifest in store.list()] == [3, 0]


def test_a_living_writer_is_not_swept_away_by_another(tmp_path: Path) -> None:
    store = bundles(tmp_path)

    def slow(folder: Path) -> None:
        fill(folder)
        written(store, 2)

    manifest = store.write(CONTENTS, slow)
    assert store.load(manifest.id).files.keys() == {"index/vectors.bin", "ranker.txt"}
    assert len(store.list()) == 2


PROMOTER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from core.bundle import Bundles
store = Bundles(Path(sys.argv[2]), 100)
sys.stdin.readline()
for bundle_id in sys.argv[3:]:
    store.promote(bundle_id)
"""


def test_two_processes_promote_and_no_promotion_is_forgotten(tmp_path: Path) -> None:
    store = bundles(tmp_path, keep=100)
    ids = [written(store, number) for number in range(40)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTER, str(ROOT), str(store.root), *half], stdin=subprocess.PIPE, text=True
        )
        for half in (ids[::2], ids[1::2])
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0]
    served = [current(store).id]
    while len(served) < len(ids):
        served.append(store.rollback())
    assert sorted(served) == sorted(ids)
    for half in (ids[::2], ids[1::2]):
        assert [bundle_id for bundle_id in reversed(served) if bundle_id in half] == half


def test_files_are_readable_by_other_users_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        store = bundles(tmp_path)
        folder = store.folder(written(store, 1))
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o755


# ---------------------------------------------------------------------- probation, and who answers unseen
def test_a_promoted_bundle_has_a_rival_while_it_is_on_probation(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    first, second = written(store, 1), written(store, 2)
    store.promote(first, 1_000)
    pointer = store.pointer()
    assert pointer is not None
    assert pointer.rival(1_000, 60.0) is None, "nothing served before it"
    store.promote(second, 5_000)
    pointer = store.pointer()
    assert pointer is not None
    assert [pointer.rival(now, 60.0) for now in (5_000, 64_999, 65_000)] == [first, first, None]
    assert pointer.rival(5_000, 0.0) is None
    store.promote(second, 900_000)
    assert store.pointer() == pointer, "what serves already is not newly promoted"


@pytest.mark.parametrize("how", ["rollback", "nobody told when", "a pointer of before"])
def test_without_a_moment_of_promotion_there_is_no_probation(tmp_path: Path, how: str) -> None:
    store = bundles(tmp_path)
    names = [written(store, number) for number in range(3)]
    for name in names:
        store.promote(name, 0 if how == "nobody told when" else 5_000)
    if how == "rollback":
        store.rollback()
    if how == "a pointer of before":
        (store.root / POINTER).write_bytes(msgspec.json.encode({"id": names[2], "previous": names[:2]}))
    pointer = store.pointer()
    assert pointer is not None
    assert pointer.previous
    assert pointer.rival(5_001, 60.0) is None


def test_a_bundle_that_answers_unseen_is_named_kept_and_let_go(tmp_path: Path) -> None:
    store = bundles(tmp_path, keep=1)
    unseen, *_, newest = [written(store, number) for number in range(3)]
    assert store.shadow_id() is None
    store.shadow(unseen)
    assert store.shadow_id() == unseen
    assert store.current_id() is None
    store.prune()
    assert {one.id for one in store.list()} == {unseen, newest}
    store.shadow(None)
    store.shadow(None)
    assert store.shadow_id() is None
    assert store.prune() == (unseen,)


def test_a_bundle_that_is_missing_or_damaged_is_not_named(tmp_path: Path) -> None:
    store = bundles(tmp_path)
    good, bad = written(store, 1), written(store, 2)
    store.shadow(good)
    (store.folder(bad) / "ranker.txt").write_text("other trees")
    with pytest.raises(Corrupt, match=r"ranker\.txt"):
        store.shadow(bad)
    with pytest.raises(Missing):
        store.shadow("20260101T000000000Z-" + "0" * 20)
    assert store.shadow_id() == good
