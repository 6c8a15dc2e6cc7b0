"""The audit on disk: it outlives the process, names nobody, and a change behind the gallery's back is found."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.core.records import Collection, Filter, Item
from app.errors import AuditBroken

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[LocalGallery]:
    """Three writes: two items of anna come, one becomes bert's, both go."""
    opened = LocalGallery(tmp_path)
    opened.put_collection(LOBBY)
    items = [Item("crop-one", "s", "anna"), Item("crop-two", "s", "anna")]
    opened.upsert("lobby", items, np.eye(2, dtype=np.float32))
    opened.move("lobby", Filter(ids=frozenset({"crop-two"})), "bert")
    opened.erase("lobby", Filter())
    yield opened
    opened.close()


def change(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as db:
        db.execute(statement)


def test_lines_outlive_the_process_and_are_found_by_whom_they_concern(gallery: LocalGallery, tmp_path: Path) -> None:
    lines, head = gallery.audit.lines(), gallery.audit.verify()
    gallery.close()
    again = LocalGallery(tmp_path)
    assert (again.audit.lines(), again.audit.verify()) == (lines, head)
    assert [line.action for line in again.audit.about("lobby", "crop-two", "bert")] == ["add", "move", "erase"]
    again.put_collection(LOBBY)
    again.upsert("lobby", [Item("crop-one", "s")], np.ones((1, 2), dtype=np.float32))
    assert [line.seq for line in again.audit.about("lobby", "crop-one")] == [1, 3, 4]
    assert again.audit.verify().seq == 4
    again.close()


def test_no_name_stands_in_it(gallery: LocalGallery, tmp_path: Path) -> None:
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"lobby" in content
    for name in (b"crop-one", b"crop-two", b"anna", b"bert"):
        assert name not in content


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update audit set details = '{\"items\": 9}' where seq = 2", "line 2 of the audit does not fit"),
        ("update audit set items = x'' where seq = 1", "line 1 of the audit does not fit"),
        ("delete from audit where seq = 2", "line 3 of the audit does not fit the one before it, number 1"),
        ("update audit set seq = 9 where seq = 3", "line 9 of the audit does not fit"),
        ("update audit set at = 'soon' where seq = 2", "cannot be read"),
        ("update audit set details = '{' where seq = 2", "cannot be read"),
    ],
)
def test_a_line_that_was_tampered_with_is_found(
    gallery: LocalGallery, tmp_path: Path, statement: str, said: str
) -> None:
    gallery.audit.verify()
    change(tmp_path, statement)
    with pytest.raises(AuditBroken, match=said):
        gallery.audit.verify()
