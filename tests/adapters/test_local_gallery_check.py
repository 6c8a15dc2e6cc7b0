"""A check finds what is wrong, says where, and finds nothing where nothing is."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.core.upkeep import Report
from app.errors import Interrupted
from tests.adapters.filled import SOON, fill, ids, never, opened


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[LocalGallery]:
    with closing(opened(tmp_path / "data")) as gallery:
        fill(gallery, 0, 60)
        yield gallery


def checked(gallery: LocalGallery, quick: bool = False) -> Report:
    return gallery.upkeep.check(quick, never)


def faults(report: Report) -> dict[str, tuple[str, ...]]:
    return {finding.what: finding.faults for finding in report.findings if finding.faults}


def test_a_whole_gallery_has_no_fault(gallery: LocalGallery, tmp_path: Path) -> None:
    gallery.delete("lobby", ids("item-0003"))
    gallery.move("lobby", ids("item-0004"), None)
    gallery.close()
    with closing(opened(tmp_path / "data")) as again:  # of 59 rows most have codes, see SOON
        assert again.index("lobby").kind == "codes"
        report = checked(again)
        assert faults(report) == {}
        looked = {finding.what: finding.looked_at for finding in report.findings}
        assert [looked[what] for what in ("items", "vectors", "crops", "index", "audit")] == [59, 59, 59, 59, 3]
        assert checked(again, quick=True).ok


_SLOT = "(select {} from item where id = 'item-0005')"
DAMAGES = {
    "vectors": (f"update slot set bytes = zeroblob(size) where id = {_SLOT.format('vector_slot')}", "length is 0"),
    "crops": (f"update slot set bytes = zeroblob(size) where id = {_SLOT.format('crop_slot')}", "crop cannot be read"),
    "items": ("update item set attributes = '{' where id = 'item-0005'", "item 6: "),
    "slots": (f"update slot set free = 1 where id = {_SLOT.format('vector_slot')}", "said to be free"),
    "index": ("update item set person_id = 'person-9' where id = 'item-0005'", "row 6 has another revision, person or"),
    "audit": ("update audit set details = '{}' where seq = 1", "line 1 of the audit does not fit"),
    "jobs and calibrations": (
        "insert into calibration select id, 'item', 'f', 1, created_at, '{' from collection",
        "a calibration: ",
    ),
    "references": ("update item set collection_id = 99 where id = 'item-0005'", "item: row 6 refers to a row of"),
}


@pytest.mark.parametrize("what", sorted(DAMAGES))
def test_a_damage_is_found_and_told(what: str, gallery: LocalGallery, tmp_path: Path) -> None:
    damage, sentence = DAMAGES[what]
    with closing(sqlite3.connect(tmp_path / "data" / FILE, isolation_level=None)) as db:
        db.execute(damage)
    assert sentence in faults(checked(gallery))[what][0]


def test_rows_that_are_in_one_place_only_are_found(gallery: LocalGallery, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / FILE, isolation_level=None)) as db:
        db.execute("update item set seq = 900 where id = 'item-0005'")
    assert faults(checked(gallery))["index"][:2] == (
        "collection 'lobby': row 6 of the index is not in the database, or twice in the index",
        "collection 'lobby': row 900 of the database is not in the index",
    )


def test_a_vector_that_searches_read_and_that_is_not_the_database_s_is_found(
    gallery: LocalGallery, tmp_path: Path
) -> None:
    swap = """
    update item set vector_slot = (select sum(vector_slot) from item where id in ('item-0005', 'item-0006')) - vector_slot
    where id in ('item-0005', 'item-0006')
    """
    with closing(sqlite3.connect(tmp_path / "data" / FILE, isolation_level=None)) as db:
        db.execute(swap)
    found = faults(checked(gallery))
    assert list(found) == ["index"]
    assert {fault.split(" of row ")[1].split()[0] for fault in found["index"]} == {"6", "7"}


def test_an_index_file_that_is_broken_is_found_and_left(gallery: LocalGallery, tmp_path: Path) -> None:
    gallery.close()
    opened(tmp_path / "data").close()  # a start gives all rows codes, an end writes them
    with closing(opened(tmp_path / "data")) as again:
        (path,) = (tmp_path / "data" / "index").glob("*.codes")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        (fault,) = faults(checked(again))["index files"]
        assert path.name in fault
        assert path.read_bytes() == content


def test_a_broken_page_is_found_also_where_searches_cannot_be_made_ready(gallery: LocalGallery, tmp_path: Path) -> None:
    gallery.close()
    path = tmp_path / "data" / FILE
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_schema where name = 'item_by_person'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    start = (page - 1) * size
    content[start : start + size] = bytes([255]) * size
    path.write_bytes(content)
    with closing(LocalGallery(tmp_path / "data", derive=False, plan=SOON, snapshots=tmp_path / "snapshots")) as broken:
        found = faults(checked(broken))
        assert "database pages" in found
        assert "being made ready" in found["index"][0]


def test_a_check_that_is_given_up_ends(gallery: LocalGallery) -> None:
    with pytest.raises(Interrupted):
        gallery.upkeep.check(False, lambda: True)
