"""What comes out of a snapshot answers as before, and what was erased since it was made does not come back."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE, statements
from app.adapters.local_gallery.erasures import LOG
from app.adapters.local_gallery.restore import WORKSHOP, restore_directory
from app.adapters.local_gallery.snapshot import MANIFEST
from app.core.jobs import Job
from app.core.records import Collection, Retention
from app.core.upkeep import Restored, Snapshot
from app.errors import (
    BadInput,
    CollectionExists,
    DataDirectoryBusy,
    Interrupted,
    NothingToUndo,
    StorageFailed,
    UnknownCollection,
    UnknownSnapshot,
)
from tests.adapters.filled import ALL, LOBBY, NOON, fill, ids, items, never, opened, persons, untold, vectors


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[LocalGallery]:
    with closing(opened(tmp_path / "data")) as gallery:
        fill(gallery, 0, 60)
        yield gallery


@pytest.fixture
def again(tmp_path: Path) -> Path:
    """A directory to restore to."""
    return tmp_path / "again"


def taken(gallery: LocalGallery) -> Snapshot:
    return gallery.upkeep.snapshot(untold, never)


def restored(snapshot: Snapshot, directory: Path) -> Restored:
    return restore_directory(Path(snapshot.path), directory, Path(snapshot.path).parent / LOG)


def names(gallery: LocalGallery, collection: str = "lobby") -> set[str]:
    return {item.id for item in gallery.scan(collection, ALL, limit=1000)}


def test_a_restored_directory_answers_as_before(gallery: LocalGallery, again: Path) -> None:
    queries = gallery.vectors("lobby", ["item-0003", "item-0017"])[0]
    before = gallery.search("lobby", queries, 10, ALL)
    told = restored(taken(gallery), again)
    assert (told.items, told.erased) == (60, 0)
    with closing(opened(again)) as copy:
        assert copy.search("lobby", queries, 10, ALL) == before
        assert copy.upkeep.check(False, never).ok
        assert copy.audit.lines()[:1] == gallery.audit.lines()[:1]
        assert [line.action for line in copy.audit.lines()] == ["add", "restore"]


def test_what_was_erased_since_does_not_come_back(gallery: LocalGallery, again: Path) -> None:
    job = Job("job-1", "evaluate", {"persons": ["person-1"]}, NOON)
    gallery.jobs.put_job(replace(job, state="done", ended_at=NOON, result={"worst": ["item-0042"]}))
    snapshot = taken(gallery)
    unit = gallery.vectors("lobby", ["item-0007"])[0][0].astype("<f4").tobytes()
    gallery.erase("lobby", persons("person-1"))
    gallery.erase("lobby", ids("item-0007"))
    told = restored(snapshot, again)
    assert (told.items, told.erased, told.erasures) == (47, 13, 2)  # of 60, twelve are of person-1
    with closing(opened(again)) as copy:
        assert names(copy) == {item.id for item in items(0, 60) if item.person_id != "person-1"} - {"item-0007"}
        assert copy.jobs.job("job-1").result is None
        assert copy.audit.about("lobby", person_id="person-1")[-1].action == "erase"
        assert copy.upkeep.check(False, never).ok
    kept = b"".join(path.read_bytes() for path in again.rglob("*") if path.is_file())
    assert [text for text in (b"person-1", b"item-0007", unit[:64]) if text in kept] == []
    assert b"person-2" in kept


def test_whoever_was_deleted_before_the_erase_does_not_come_back_either(gallery: LocalGallery, again: Path) -> None:
    snapshot = taken(gallery)
    gallery.delete("lobby", ALL)
    gallery.erase("lobby", persons("person-1"))
    gallery.erase("lobby", ids("item-0002"))
    assert restored(snapshot, again).erased == 13


def test_an_erase_in_a_restored_directory_reaches_the_snapshot_that_it_came_from(
    gallery: LocalGallery, again: Path, tmp_path: Path
) -> None:
    snapshot = taken(gallery)
    gallery.close()
    restored(snapshot, again)
    with closing(opened(again)) as copy:
        receipt = copy.erase("lobby", persons("person-1"))
        assert (receipt.recorded, receipt.snapshots) == (True, (snapshot.id,))
    assert restored(snapshot, tmp_path / "once more").erased == 12


def test_a_gallery_without_an_audit_makes_its_key_before_it_is_copied(gallery: LocalGallery, again: Path) -> None:
    """As one that was migrated and not written to since."""
    with gallery._database.transaction() as db:
        db.execute("delete from audit")
        db.execute("delete from secret")
    snapshot = taken(gallery)
    gallery.erase("lobby", persons("person-1"))
    assert restored(snapshot, again).erased == 12


def test_a_merge_of_whoever_was_erased_since_is_forgotten(gallery: LocalGallery, again: Path) -> None:
    gallery.merge("lobby", "person-1", "person-2")
    snapshot = taken(gallery)
    gallery.erase("lobby", persons("person-1"))
    restored(snapshot, again)
    with closing(opened(again)) as copy, pytest.raises(NothingToUndo):
        copy.undo_merge("lobby")


def test_what_came_in_again_behind_an_erase_stays(gallery: LocalGallery, again: Path, tmp_path: Path) -> None:
    old = taken(gallery)
    gallery.erase("lobby", persons("person-1"))
    fill(gallery, 0, 60)
    assert restored(taken(gallery), again).erased == 0
    restored(old, tmp_path / "third")
    with closing(opened(tmp_path / "third")) as copy:  # nor does a copy of a copy forget it a second time
        assert copy.count("lobby") == 48
        fill(copy, 0, 60)
        newest = taken(copy)
    assert restored(newest, tmp_path / "fourth").erased == 0


def test_a_damaged_snapshot_is_refused_and_nothing_is_left(gallery: LocalGallery, again: Path) -> None:
    snapshot = taken(gallery)
    file = Path(snapshot.path) / FILE
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(StorageFailed, match="sha256"):
        restored(snapshot, again)
    assert {path.name for path in again.iterdir()} <= {"lock"}
    content[5000] ^= 1
    file.write_bytes(content)
    assert restored(snapshot, again).items == 60  # the same directory will do


def test_an_erasure_that_cannot_be_read_stops_a_restore(gallery: LocalGallery, again: Path) -> None:
    snapshot = taken(gallery)
    gallery.erase("lobby", persons("person-1"))
    log = Path(snapshot.path).parent / LOG
    log.write_bytes(log.read_bytes().replace(b'"persons"', b'"nobody"'))
    with pytest.raises(StorageFailed, match="line 1: this erasure cannot be read"):
        restored(snapshot, again)


def test_a_directory_that_holds_something_or_is_in_use_is_refused(
    gallery: LocalGallery, again: Path, tmp_path: Path
) -> None:
    snapshot = taken(gallery)
    again.mkdir()
    (again / "notes").write_text("mine")
    with pytest.raises(BadInput, match="notes"):
        restored(snapshot, again)
    with pytest.raises(DataDirectoryBusy):
        restored(snapshot, tmp_path / "data")


def test_what_a_killed_restore_left_is_gone_with_the_next_start_or_restore(
    gallery: LocalGallery, again: Path, tmp_path: Path
) -> None:
    for directory in (again, tmp_path / "started"):
        (directory / WORKSHOP).mkdir(parents=True)
        (directory / WORKSHOP / FILE).write_bytes(b"item-0001")
    restored(taken(gallery), again)
    assert not (again / WORKSHOP).exists()
    with closing(opened(tmp_path / "started")) as started:
        assert started.collections() == []
    assert not (tmp_path / "started" / WORKSHOP).exists()


def test_a_snapshot_of_an_older_schema_is_migrated(tmp_path: Path, again: Path) -> None:
    folder = tmp_path / "snapshots" / "20260301T100000Z-5f2c1e"
    folder.mkdir(parents=True)
    steps = files("app.adapters.local_gallery") / "migrations"
    unit = np.array([0.6, 0.8], dtype="<f4")
    with closing(sqlite3.connect(folder / FILE)) as db:
        for step in ("0001_initial.sql", "0002_jobs_and_calibrations.sql"):
            for statement in statements((steps / step).read_text()):
                db.execute(statement)
        row = (1, "hall", "print-1", 2, 0, NOON.isoformat(timespec="microseconds"))
        db.execute("insert into collection values (?, ?, ?, ?, ?, ?)", row)
        values = "(1, 'a', 's', 'anna', null, null, null, '{}', 5.0, ?)"
        names_of = "collection_id, id, sha256, person_id, camera_id, captured_at, source, attributes, norm, vector"
        db.execute(f"insert into item ({names_of}) values {values}", (unit.tobytes(),))
        db.execute("pragma user_version = 2")
        db.commit()
    sha256 = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    manifest = {
        "id": folder.name, "gallery": None, "created_at": NOON.isoformat(), "bytes": (folder / FILE).stat().st_size,
        "sha256": sha256, "schema": 2, "audit_seq": 0, "collections": {"hall": 1},
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder.parent / LOG).touch()
    assert restore_directory(folder, again, folder.parent / LOG).items == 1
    with closing(opened(again)) as copy:
        assert copy.vectors("hall", ["a"])[0].tolist() == unit[None].tolist()
        assert copy.upkeep.check(False, never).ok


def test_a_collection_comes_out_beside_the_others(gallery: LocalGallery) -> None:
    gallery.keep("lobby", Retention(keep_days=30))
    snapshot = taken(gallery)
    gallery.erase("lobby", persons("person-1"))
    told = gallery.upkeep.restore(snapshot.id, "lobby", "then", NOON, untold, never)
    assert (told.items, told.erased) == (48, 12)
    assert names(gallery, "then") == names(gallery)
    there = sorted(names(gallery))
    for mine, theirs in zip(gallery.vectors("lobby", there), gallery.vectors("then", there), strict=True):
        assert (mine == theirs).all()  # to the last bit
    assert np.array_equal(gallery.crop("then", there[0]), gallery.crop("lobby", there[0]))  # type: ignore[arg-type]
    made = gallery.collection("then")
    assert (made.retention, made.keep_crops, made.fingerprint) == (Retention(keep_days=30), True, LOBBY.fingerprint)
    deadline = time.monotonic() + 60
    while gallery.index("then").kind != "codes":  # 48 items are enough here
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert gallery.upkeep.check(False, never).ok


def test_items_of_a_restored_collection_are_as_old_as_they_were(tmp_path: Path) -> None:
    today = [NOON]
    with closing(opened(tmp_path / "data", clock=lambda: today[0])) as gallery:
        fill(gallery, 0, 5)
        gallery.keep("lobby", Retention(keep_days=30))
        snapshot = taken(gallery)
        today[0] = NOON + timedelta(days=29)
        gallery.upkeep.restore(snapshot.id, "lobby", "then", today[0], untold, never)
        assert gallery.expire("then", NOON + timedelta(days=31)) == 5


def test_a_restore_that_is_given_up_takes_back_what_it_did(gallery: LocalGallery) -> None:
    fill(gallery, 60, 700)  # more than one group of items
    snapshot = taken(gallery)
    told: list[int] = []

    def stop() -> bool:
        return bool(told)

    with pytest.raises(Interrupted):
        gallery.upkeep.restore(snapshot.id, "lobby", "then", NOON, lambda done, total: told.append(done), stop)
    assert [collection.name for collection in gallery.collections()] == ["lobby"]
    assert {path.name for path in Path(snapshot.path).parent.iterdir()} == {snapshot.id, LOG}


def test_a_restore_that_was_killed_is_ended_by_the_same_one(gallery: LocalGallery) -> None:
    snapshot = taken(gallery)
    begun = replace(LOBBY, name="then", created_at=NOON)
    gallery.put_collection(begun)
    gallery.upsert("then", items(0, 7), vectors(0, 7), [gallery.crop("lobby", f"item-{n:04}") for n in range(7)])  # type: ignore[misc]
    gallery.upkeep.restore(snapshot.id, "lobby", "then", NOON, untold, never)
    assert names(gallery, "then") == names(gallery)
    with pytest.raises(CollectionExists):
        gallery.upkeep.restore(snapshot.id, "lobby", "then", NOON + timedelta(seconds=1), untold, never)
    assert gallery.count("then") == 60


def test_a_collection_or_a_snapshot_that_is_not_there_is_named(gallery: LocalGallery) -> None:
    snapshot = taken(gallery)
    with pytest.raises(UnknownCollection, match="hall"):
        gallery.upkeep.restore(snapshot.id, "hall", "then", NOON, untold, never)
    with pytest.raises(UnknownSnapshot):
        gallery.upkeep.restore("20260301T100000Z-5f2c1e", "lobby", "then", NOON, untold, never)
    assert isinstance(gallery.collection("lobby"), Collection)
    with pytest.raises(UnknownCollection):
        gallery.collection("then")
