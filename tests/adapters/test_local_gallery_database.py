"""The truth half of the local gallery: transactions, migrations, the lock, and what a write does to one beside it."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.lock import LOCK
from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Filter, Item
from app.errors import DataDirectoryBusy, StorageFailed, UnknownCollection

KEPT = Collection("kept", "print-1", 2, keep_crops=True, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))
CROP = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
EAST = np.array([[1, 0]], dtype=np.float32)
INSERT = "insert into collection (name, fingerprint, dim, keep_crops, created_at) values (?, 'print-1', 2, 0, '')"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / FILE)
    yield opened
    opened.close()


def collections(database: Database) -> list[str]:
    with database.reading() as db:
        return [name for (name,) in db.execute("select name from collection order by name").fetchall()]


def test_a_transaction_that_raises_is_undone_and_the_next_one_goes_through(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as db:
            db.execute(INSERT, ("a",))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert collections(database) == []
    with database.transaction() as db:
        db.execute(INSERT, ("b",))
    assert collections(database) == ["b"]


def test_a_migration_that_fails_leaves_the_version_and_the_tables_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / FILE
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("create table crop (mine text)")  # the last name that the first step wants
    with pytest.raises(StorageFailed, match=f"{FILE}: table crop already exists"):
        Database(path)
    assert other.execute("pragma user_version").fetchone() == (0,)
    assert other.execute("select name from sqlite_schema").fetchall() == [("crop",)]
    other.execute("drop table crop")
    other.close()
    Database(path).close()


def test_the_lock_names_its_holder_and_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("123456789012345678\n987\n")
    gallery = LocalGallery(tmp_path)
    with pytest.raises(DataDirectoryBusy, match=f"in use by process {os.getpid()};"):
        LocalGallery(tmp_path)
    gallery.close()


def test_a_deleted_collection_is_in_no_file_any_more(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.put_collection(KEPT)
    gallery.upsert("kept", [Item("a", "sha", source="Annas-Bild.jpg")], EAST)
    gallery.delete_collection("kept")
    assert b"Annas-Bild.jpg" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    gallery.close()


class HeldCrops(Sequence[Crop]):
    """Crops that are not handed out before `go`."""

    def __init__(self, crops: list[Crop]) -> None:
        self._crops, self.asked, self.go = crops, threading.Event(), threading.Event()

    def __len__(self) -> int:
        return len(self._crops)

    @overload
    def __getitem__(self, index: int) -> Crop: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Crop]: ...
    def __getitem__(self, index: int | slice) -> Crop | Sequence[Crop]:
        self.asked.set()
        assert self.go.wait(60)
        return self._crops[index]


def test_vectors_checked_for_one_collection_do_not_reach_another_of_its_name(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.put_collection(KEPT)
    crops, refused = HeldCrops([CROP]), list[UnknownCollection]()

    def write() -> None:
        try:
            gallery.upsert("kept", [Item("a", "sha")], EAST, crops)
        except UnknownCollection as error:
            refused.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert crops.asked.wait(60)
    gallery.delete_collection("kept")  # a writer that still prepares holds nobody up
    gallery.put_collection(replace(KEPT, fingerprint="print-2", dim=3))
    crops.go.set()
    writer.join()
    assert len(refused) == 1
    assert (gallery.count("kept"), gallery.scan("kept", Filter())) == (0, [])
    gallery.close()
