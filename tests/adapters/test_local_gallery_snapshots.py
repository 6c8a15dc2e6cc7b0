"""Snapshots are whole or absent and of one moment, lie outside the data directory, and know what was erased since."""

import json
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.adapters.local_gallery.erasures import LOG, ErasureLog
from app.adapters.local_gallery.snapshot import MANIFEST
from app.adapters.local_gallery.snapshot import opened as opened_snapshot
from app.core.audit import AuditLine, Erasure
from app.core.upkeep import Snapshot
from app.errors import BadSettings, Interrupted, StorageFailed, UnknownSnapshot
from tests.adapters.filled import ALL, fill, ids, items, never, opened, persons, untold, vectors


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[LocalGallery]:
    with closing(opened(tmp_path / "data")) as gallery:
        fill(gallery, 0, 20)
        yield gallery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def taken(gallery: LocalGallery) -> Snapshot:
    return gallery.upkeep.snapshot(untold, never)


def erasures(folder: Path) -> list[AuditLine]:
    return [recorded.line for recorded in ErasureLog(folder / LOG).lines()]


def test_a_snapshot_is_of_one_moment_while_writes_go_on(tmp_path: Path, folder: Path) -> None:
    with closing(opened(tmp_path / "data")) as gallery:
        fill(gallery, 0, 1000)
        late: list[str] = []

        def write(done: int, total: int) -> None:
            if not late:  # SQLite calls it in the middle of the copy, and once more at the end
                late.append("done" if done == total else "meanwhile")
                gallery.upsert("lobby", items(1000, 1001), vectors(1000, 1001))

        snapshot = gallery.upkeep.snapshot(write, never)
        assert late == ["meanwhile"]
        assert (gallery.count("lobby"), snapshot.collections) == (1001, {"lobby": 1000})


def test_an_erase_that_comes_meanwhile_waits_and_names_the_snapshot(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "data")) as gallery, ThreadPoolExecutor(1) as pool:
        fill(gallery, 0, 1000)
        erasing: list[Future[Erasure]] = []

        def begin(done: int, total: int) -> None:
            if not erasing:
                erasing.append(pool.submit(gallery.erase, "lobby", persons("person-1")))

        snapshot = gallery.upkeep.snapshot(begin, never)
        assert snapshot.collections == {"lobby": 1000}
        assert erasing[0].result(30).snapshots == (snapshot.id,)
        assert gallery.count("lobby") == 800


def test_a_snapshot_can_be_read_by_its_owner_alone_and_says_what_it_is(gallery: LocalGallery, folder: Path) -> None:
    snapshot = taken(gallery)
    file = folder / snapshot.id / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    manifest = json.loads((folder / snapshot.id / MANIFEST).read_text())
    assert (manifest["sha256"], manifest["collections"]) == (snapshot.sha256, {"lobby": 20})
    assert snapshot.audit_seq == 1  # the line of the only write
    assert gallery.upkeep.snapshots() == [snapshot]


def test_a_snapshot_that_is_given_up_leaves_nothing(gallery: LocalGallery, folder: Path) -> None:
    fill(gallery, 20, 1000)
    with pytest.raises(Interrupted):
        gallery.upkeep.snapshot(untold, lambda: True)
    assert list(folder.iterdir()) == []
    assert gallery.upkeep.snapshots() == []


def test_a_folder_inside_the_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")
    for folder in (tmp_path / "data" / "snapshots", tmp_path / "data", tmp_path / "elsewhere" / "deep"):
        with pytest.raises(BadSettings, match="outside the data directory"):
            LocalGallery(tmp_path / "data", snapshots=folder)


def test_a_folder_that_became_a_link_into_the_data_directory_is_refused(gallery: LocalGallery, tmp_path: Path) -> None:
    (tmp_path / "snapshots").symlink_to(tmp_path / "data")
    with pytest.raises(BadSettings, match="outside the data directory"):
        taken(gallery)


def test_a_folder_that_cannot_be_made_is_named(gallery: LocalGallery, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StorageFailed, match="snapshots"):
        taken(gallery)


def test_what_a_killed_process_left_is_cleared_away_and_another_gallery_s_is_not(
    gallery: LocalGallery, folder: Path, tmp_path: Path
) -> None:
    snapshot = taken(gallery)
    own = folder / hidden(gallery, folder)
    other = folder / ".20260301T100000Z-aaaaaa.00000000.partial"
    workshop = own.with_suffix(".restoring")
    for left in (own, workshop, other):
        left.mkdir()
        (left / FILE).write_bytes(b"half")
    gallery.close()
    with closing(opened(tmp_path / "data")):
        assert {path.name for path in folder.iterdir()} == {snapshot.id, other.name, LOG}


def hidden(gallery: LocalGallery, folder: Path) -> str:
    """The name that a snapshot has while it is made."""
    seen: list[str] = []
    snapshot = gallery.upkeep.snapshot(lambda done, total: seen.extend(path.name for path in folder.glob(".*")), never)
    gallery.upkeep.delete_snapshot(snapshot.id)
    return seen[0]


def test_a_snapshot_is_removed_or_forgotten(gallery: LocalGallery, folder: Path) -> None:
    first, second = taken(gallery), taken(gallery)
    gallery.upkeep.delete_snapshot(first.id)
    assert not (folder / first.id).exists()
    shutil.rmtree(folder / second.id)
    assert [(one.id, one.reachable) for one in gallery.upkeep.snapshots()] == [(second.id, False)]
    gallery.upkeep.delete_snapshot(second.id)
    assert gallery.upkeep.snapshots() == []
    with pytest.raises(UnknownSnapshot):
        gallery.upkeep.delete_snapshot(second.id)


def test_a_snapshot_of_which_the_gallery_was_never_told_is_found_and_a_foreign_one_is_not(
    gallery: LocalGallery, folder: Path, tmp_path: Path
) -> None:
    snapshot = taken(gallery)
    with closing(opened(tmp_path / "other")) as other:
        fill(other, 0, 1)
        foreign = taken(other)
        assert [one.id for one in other.upkeep.snapshots()] == [foreign.id]
    moved = shutil.move(folder / snapshot.id, tmp_path / "kept")
    gallery.upkeep.delete_snapshot(snapshot.id)
    shutil.move(moved, folder / snapshot.id)
    assert [one.id for one in gallery.upkeep.snapshots()] == [snapshot.id]


def test_a_receipt_names_the_snapshots_that_hold_some_of_it(gallery: LocalGallery, folder: Path) -> None:
    gallery.delete("lobby", persons("person-1"))
    without = taken(gallery)
    fill(gallery, 0, 20)
    holding, lost, broken = taken(gallery), taken(gallery), taken(gallery)
    shutil.rmtree(folder / lost.id)
    (folder / broken.id / FILE).write_bytes(b"no database")
    receipt = gallery.erase("lobby", persons("person-1"))
    assert receipt.items == 4
    assert receipt.snapshots == (holding.id,)
    assert set(receipt.unreachable) == {lost.id, broken.id}
    assert without.id not in receipt.snapshots + receipt.unreachable


def test_who_is_in_snapshots_alone_is_erased_from_there(gallery: LocalGallery, folder: Path) -> None:
    snapshot = taken(gallery)
    gallery.delete("lobby", ALL)
    assert gallery.erase("lobby", persons("person-1")).snapshots == (snapshot.id,)
    assert gallery.erase("lobby", ids("item-0007")).snapshots == (snapshot.id,)
    assert gallery.erase("lobby", persons("nobody")).snapshots == ()
    assert [len(line.persons) + len(line.items) for line in erasures(folder)] == [1, 1, 1]


def test_erasures_stand_beside_the_snapshots_without_a_name(gallery: LocalGallery, folder: Path) -> None:
    assert gallery.erase("lobby", ids("item-0001")).recorded is None  # there is no snapshot that has to know
    taken(gallery)
    receipt = gallery.erase("lobby", persons("person-2"))
    assert receipt.recorded is True
    assert [line.hash for line in erasures(folder)][-1] == receipt.audit.hash
    text = (folder / LOG).read_text()
    assert not any(name in text for name in ("item-", "person-", "sha-"))


def test_a_folder_that_is_away_learns_of_erasures_when_it_is_back(
    gallery: LocalGallery, folder: Path, tmp_path: Path
) -> None:
    taken(gallery)
    folder.rename(tmp_path / "away")
    folder.mkdir()  # as a disk that is not mounted leaves it
    receipt = gallery.erase("lobby", persons("person-2"))
    assert (receipt.recorded, len(receipt.unreachable)) == (False, 1)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    gallery.close()
    with closing(opened(tmp_path / "data")):
        assert [line.hash for line in erasures(folder)] == [receipt.audit.hash]


def test_a_line_that_a_power_cut_left_unfinished_is_written_again(gallery: LocalGallery, folder: Path) -> None:
    taken(gallery)
    first = gallery.erase("lobby", ids("item-0001"))
    whole = (folder / LOG).read_bytes()
    (folder / LOG).write_bytes(whole[:-20])
    second = gallery.erase("lobby", ids("item-0002"))
    assert [line.hash for line in erasures(folder)] == [first.audit.hash, second.audit.hash]
    assert (folder / LOG).read_bytes().startswith(whole)


def test_a_snapshot_has_nothing_of_what_was_removed_before(gallery: LocalGallery, folder: Path) -> None:
    doomed = vectors(3, 4)[0]
    gallery.delete("lobby", ids("item-0003"))
    file = folder / taken(gallery).id / FILE
    with closing(opened_snapshot(file)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    unit = (doomed / float((doomed.astype("f8") ** 2).sum() ** 0.5)).astype("<f4").tobytes()
    content = file.read_bytes()
    assert unit[:64] not in content
    assert b"item-0003" not in content
    assert b"item-0004" in content
