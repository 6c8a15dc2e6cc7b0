"""Files that something else has written to: what is derived is made anew, what is the truth is refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.adapters.checks import units_and_norms
from app.adapters.local_gallery.database import FILE
from app.adapters.local_gallery.index_files import FOLDER
from app.errors import StorageFailed
from tests.faults.visit import LOBBY, Visit, Visiting, refusal

pytestmark = pytest.mark.anyio
PAGE = 4096
COUNT = 400


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)


async def filled(visit: Visit) -> None:
    await visit.http.put(LOBBY)
    for start in range(0, COUNT, 50):
        assert (await visit.add(start, start + 50)).status_code == 200


@pytest.mark.parametrize("damage", [cut, flipped, emptied, foreign, Path.unlink])
async def test_an_index_file_that_is_damaged_is_told_by_check_and_made_anew_at_the_next_start(
    visiting: Visiting, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with visiting(tmp_path / "data") as visit:
        await filled(visit)
    path = max((tmp_path / "data" / FOLDER).iterdir(), key=lambda file: file.stat().st_size)  # closing wrote it
    async with visiting(tmp_path / "data") as visit:
        damage(path)  # while it serves: answers come from memory
        assert await visit.found(7) == "i00007"
        assert list(await visit.check()) == ([] if damage is Path.unlink else ["index files"])
    async with visiting(tmp_path / "data") as visit:
        assert [await visit.found(number) for number in (0, 7, 399)] == ["i00000", "i00007", "i00399"]
        assert await visit.check() == {}


def page_with(path: Path, text: str) -> int:
    """The offset of the page of a database in which a text stands."""
    return path.read_bytes().index(text.encode()) // PAGE * PAGE


def overwrite(path: Path, offset: int, content: bytes) -> bytes:
    """Put bytes into a file; returns what was there."""
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(len(content))
        file.seek(offset)
        file.write(content)
    return before


async def test_a_damaged_page_of_items_refuses_the_start_by_name_and_nothing_is_overwritten(
    visiting: Visiting, tmp_path: Path
) -> None:
    async with visiting(tmp_path / "data") as visit:
        await filled(visit)
    path = tmp_path / "data" / FILE
    offset = page_with(path, "of-00100.jpg")
    before = overwrite(path, offset, b"\xff" * PAGE)
    damaged = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageFailed, match=f"{FILE}.* is damaged; restore a copy"):
            async with visiting(tmp_path / "data"):
                pass
    assert path.read_bytes() == damaged  # whoever mends it finds what there was
    overwrite(path, offset, before)
    async with visiting(tmp_path / "data") as visit:
        assert await visit.found(100) == "i00100"


async def test_a_page_that_is_damaged_while_it_serves_refuses_what_needs_it_and_nothing_else(
    visiting: Visiting, tmp_path: Path
) -> None:
    async with visiting(tmp_path / "data") as visit:
        await filled(visit)
    path = tmp_path / "data" / FILE
    async with visiting(tmp_path / "data") as visit:
        offset = page_with(path, "of-00100.jpg")
        before = overwrite(path, offset, b"\xff" * PAGE)
        assert (await visit.add(COUNT, COUNT + 1)).status_code == 200  # behind a write SQLite reads pages again
        assert refusal(await visit.http.get(f"{LOBBY}/items/i00100")) == (503, "storage_failed")
        assert (await visit.http.get(f"{LOBBY}/items/i00300")).status_code == 200
        assert await visit.found(300) == "i00300"
        assert (await visit.http.get("/readyz")).status_code == 200
        assert "database pages" in await visit.check()
        overwrite(path, offset, before)
        assert (await visit.http.get(f"{LOBBY}/items/i00100")).status_code == 200
        assert await visit.check() == {}


async def test_a_change_amid_a_vector_is_met_by_check(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting(tmp_path / "data") as visit:
        await filled(visit)
        raw = np.array([visit.vector(100)], dtype=np.float32)
    path = tmp_path / "data" / FILE
    unit = units_and_norms(raw, *raw.shape)[0].tobytes()
    overwrite(path, path.read_bytes().index(unit[:16]), np.ones(2, dtype="<f4").tobytes())  # it gets longer than one
    async with visiting(tmp_path / "data") as visit:
        assert "vectors" in await visit.check()
