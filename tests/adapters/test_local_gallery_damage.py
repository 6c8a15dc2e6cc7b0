"""What a broken page and a directory that may only be read do: a sentence that names the file, and nothing else is lost."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.core.records import Collection, Filter, Item
from app.errors import StorageFailed

LOBBY = Collection("lobby", "print-1", 8, keep_crops=False, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))
PAGE = 4096
ROOT = Path(__file__).parents[2]


def filled(directory: Path) -> LocalGallery:
    """300 items, all in the database file and none in the log."""
    gallery = LocalGallery(directory)
    gallery.put_collection(LOBBY)
    items = [Item(f"i{n:04}", f"sha-{n:04}", source="x" * 60) for n in range(301)]
    gallery.upsert("lobby", items, np.random.default_rng(1).standard_normal((301, 8)).astype(np.float32))
    gallery.delete("lobby", ids("i0300"))
    return gallery


def ids(*ids: str) -> Filter:
    return Filter(ids=frozenset(ids))


def break_page_of(path: Path, text: bytes) -> None:
    """Overwrite the page on which it stands, which is one."""
    content = bytearray(path.read_bytes())
    assert content.count(text) == 1
    start = content.index(text) // PAGE * PAGE
    content[start : start + PAGE] = b"\xff" * PAGE
    with path.open("r+b") as file:  # the same file: the gallery has it open
        file.write(content)


def test_items_on_a_broken_page_are_refused_by_name_and_the_others_answer(tmp_path: Path) -> None:
    gallery = filled(tmp_path)
    break_page_of(tmp_path / FILE, b"sha-0150")
    with pytest.raises(StorageFailed, match=f"{FILE}: it is damaged; restore a copy"):
        gallery.get("lobby", ["i0150"])
    with pytest.raises(StorageFailed, match="it is damaged"):
        gallery.search("lobby", np.eye(1, 8, dtype=np.float32), 300, Filter())
    assert gallery.get("lobby", ["i0000", "i0299"]) != [None, None]
    assert gallery.count("lobby") == 300
    assert gallery.upsert("lobby", [Item("new", "s")], np.ones((1, 8), dtype=np.float32)) == ["added"]
    assert gallery.get("lobby", ["new"]) == [Item("new", "s")]
    gallery.close()


def test_a_gallery_with_a_broken_page_is_not_opened_and_keeps_no_lock(tmp_path: Path) -> None:
    filled(tmp_path).close()
    shutil.copy(tmp_path / FILE, tmp_path / "copy")
    break_page_of(tmp_path / FILE, b"sha-0150")
    for _ in range(2):
        with pytest.raises(StorageFailed, match=f"{FILE}.* is damaged"):
            LocalGallery(tmp_path)
    (tmp_path / "copy").replace(tmp_path / FILE)
    gallery = LocalGallery(tmp_path)
    assert gallery.count("lobby") == 300
    gallery.close()


@pytest.fixture
def as_owner() -> list[str]:
    """Before a command: nobody's rights but the owner's, which root has beyond."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anything, and setpriv (util-linux) is not here to take that away")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A gallery in a directory that may only be read."""
    filled(tmp_path / "data").close()
    (tmp_path / "data").chmod(0o500)
    yield tmp_path / "data"
    (tmp_path / "data").chmod(0o700)


def test_a_directory_that_may_only_be_read_is_refused_by_name_and_is_whole_afterwards(
    read_only: Path, as_owner: list[str]
) -> None:
    program = "import sys, pathlib; from app.adapters.local_gallery import LocalGallery; LocalGallery(pathlib.Path(sys.argv[1]))"
    command = [*as_owner, sys.executable, "-c", program, str(read_only)]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"StorageFailed: the database {read_only / FILE}: it may only be read" in refused.stderr
    (read_only / FILE).chmod(0o400)
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"StorageFailed: the database {read_only / FILE}: Permission denied" in refused.stderr
    (read_only / FILE).chmod(0o600)
    read_only.chmod(0o700)
    gallery = LocalGallery(read_only)
    assert gallery.count("lobby") == 300
    gallery.close()
