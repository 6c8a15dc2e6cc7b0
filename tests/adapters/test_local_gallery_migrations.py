"""A gallery of an earlier version opens with all that was in it."""

import json
import sqlite3
import zlib
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.core.preprocess import HEIGHT, WIDTH
from app.core.records import Collection, Filter, Item, Retention

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
TEXT = "2026-01-02T12:00:00.000000+00:00"
DIM = 600  # a vector is longer than half a page, so that its row is in part on a page of its own
RAW = np.random.default_rng(2).standard_normal((7, DIM))
UNITS = (RAW / np.linalg.norm(RAW, axis=1, keepdims=True)).astype("<f4")
CROPS = np.random.default_rng(1).integers(0, 256, (7, HEIGHT, WIDTH, 3), dtype=np.uint8)
LOBBY = Collection("lobby", "print-1", DIM, True, NOON)
KEPT = (2, 3, 6)  # of 7 items that came, and the last is one of those that went


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory of schema 2."""
    db = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    db.execute("pragma journal_mode = wal").fetchall()
    for step in ("0001_initial.sql", "0002_jobs_and_calibrations.sql"):
        script = files("app.adapters.local_gallery") / "migrations" / step
        db.executescript(script.read_text(encoding="utf-8"))
    db.execute("pragma user_version = 2")
    db.execute("insert into collection values (5, 'lobby', 'print-1', ?, 1, ?)", (DIM, TEXT))
    for n in range(1, 8):
        row = (n, 5, f"i{n}", f"sha-{n}", f"p{n % 2}", f"c{n}", TEXT, f"{n}.jpg", json.dumps({"n": str(n)}), n / 2)
        db.execute("insert into item values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, UNITS[n - 1].tobytes()))
        if n != 3:
            db.execute("insert into crop values (?, ?)", (n, zlib.compress(CROPS[n - 1].tobytes(), 1)))
    db.execute("pragma foreign_keys = on")
    db.execute("delete from item where seq not in (2, 3, 6)")
    job = "insert into job values (1, 'j', 'evaluate', '{}', 'done', ?, null, ?, 1, 1, 'n', null, null, '{\"mAP\": 1}')"
    db.execute(job, (TEXT, TEXT))
    db.execute("insert into calibration values (5, 'item', 'print-1', 3, ?, '{}')", (TEXT,))
    db.close()
    return tmp_path


def test_items_vectors_crops_jobs_and_calibrations_are_there_as_they_were(directory: Path) -> None:
    for _ in range(2):  # when it is migrated, and when it was
        gallery = LocalGallery(directory)
        assert gallery.collections() == [LOBBY]
        kept = [Item(f"i{n}", f"sha-{n}", f"p{n % 2}", f"c{n}", NOON, f"{n}.jpg", {"n": str(n)}) for n in KEPT]
        assert gallery.scan("lobby", Filter()) == kept
        units, norms = gallery.vectors("lobby", ["i2", "i3", "i6"])
        assert (units.tolist(), norms.tolist()) == (UNITS[[1, 2, 5]].tolist(), [1, 1.5, 3])
        assert np.array_equal(gallery.crop("lobby", "i2"), CROPS[1])  # type: ignore[arg-type]
        assert gallery.crop("lobby", "i3") is None
        assert np.array_equal(gallery.crop("lobby", "i6"), CROPS[5])  # type: ignore[arg-type]
        assert [[m.item.id for m in ms] for ms in gallery.search("lobby", UNITS[[5]], 1, Filter())] == [["i6"]]
        assert gallery.jobs.job("j").result == {"mAP": 1}
        assert gallery.calibrations.calibration("lobby", "item") is not None
        assert gallery.audit.lines() == []
        gallery.close()


def test_what_is_done_to_them_then_is_done_as_to_any_other(directory: Path) -> None:
    gallery = LocalGallery(directory)
    gallery.upsert("lobby", [Item("i2", "new", "p1")], UNITS[[6]], [CROPS[6]])
    gallery.upsert("lobby", [Item("i8", "new")], UNITS[[6]], [CROPS[0]])
    (matches,) = gallery.search("lobby", UNITS[[6]], 2, Filter())
    assert [match.item.id for match in matches] == ["i2", "i8"]
    assert np.array_equal(gallery.crop("lobby", "i2"), CROPS[6])  # type: ignore[arg-type]
    assert gallery.erase("lobby", Filter(ids=frozenset({"i6"}))).items == 1
    gallery.close()
    content = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())
    assert UNITS[5].tobytes() not in content
    assert b"sha-6" not in content
    with sqlite3.connect(directory / FILE) as db:
        assert db.execute("select count(*) from item where seq <= 7").fetchone() == (2,)  # 7 was somebody else's
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("pragma foreign_key_check").fetchall() == []
    db.close()


def test_retention_counts_their_days_from_the_migration(directory: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    gallery = LocalGallery(directory)
    gallery.keep("lobby", Retention(1))
    assert gallery.expire("lobby", before + timedelta(days=1)) == 0
    assert gallery.expire("lobby", datetime.now(UTC) + timedelta(days=1, seconds=1)) == 3
    gallery.close()
