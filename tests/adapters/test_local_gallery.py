"""What the local gallery promises beyond its port: what is on disk, what happens when the disk refuses, who may open it."""

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE, Database
from app.core.preprocess import HEIGHT, WIDTH
from app.core.records import Collection, Filter, Item
from app.errors import DataDirectoryBusy, StorageFailed
from app.ports import Floats

DIM = 64
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", DIM, keep_crops=False, created_at=NOON)
ALL = Filter()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def gallery(directory: Path) -> Iterator[LocalGallery]:
    opened = LocalGallery(directory)
    opened.put_collection(LOBBY)
    yield opened
    opened.close()


def items(start: int, stop: int) -> list[Item]:
    return [
        Item(f"i{n:04}", f"sha-{n}", f"p{n % 5}", f"{n % 3}", NOON, None, {"n": str(n)}) for n in range(start, stop)
    ]


def vectors(start: int, stop: int, dim: int = DIM) -> Floats:
    rows = [np.random.default_rng(n).standard_normal(dim) for n in range(start, stop)]
    return np.array(rows, dtype=np.float32).reshape(stop - start, dim)


def unit(raw: Floats) -> Floats:
    wide = raw.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def add(gallery: LocalGallery, start: int, stop: int) -> None:
    gallery.upsert("lobby", items(start, stop), vectors(start, stop))


def ids(gallery: LocalGallery) -> list[str]:
    return [item.id for item in gallery.scan("lobby", ALL, limit=100_000)]


def names(start: int, stop: int) -> list[str]:
    return [item.id for item in items(start, stop)]


def test_a_reopened_gallery_answers_as_before(gallery: LocalGallery, directory: Path) -> None:
    other = Collection("Zoë", "print-2", 3, True, NOON)
    gallery.put_collection(other)
    add(gallery, 0, 40)
    gallery.delete("lobby", Filter(persons=frozenset({"p3"})))
    gallery.upsert("lobby", [Item("i0007", "new")], vectors(99, 100))

    def answers(of: LocalGallery) -> list[object]:
        queries = unit(vectors(200, 204))
        units, norms = of.vectors("lobby", ["i0007", "i0000"])
        searches = of.search("lobby", queries, 50, ALL), of.search("lobby", queries, 5, Filter(not_camera="1"))
        return [*searches, units.tolist(), norms.tolist(), ids(of), of.collections()]

    before = answers(gallery)
    gallery.close()
    again = LocalGallery(directory)
    assert answers(again) == before
    assert again.collections() == [other, LOBBY]
    again.close()


def test_nothing_is_on_disk_but_the_database_and_the_lock(gallery: LocalGallery, directory: Path) -> None:
    add(gallery, 0, 3)
    gallery.close()
    assert sorted(path.name for path in directory.iterdir()) == [FILE, "lock"]


def test_only_the_owner_may_read_the_files(directory: Path) -> None:
    before = os.umask(0)
    try:
        gallery = LocalGallery(directory)
        gallery.put_collection(LOBBY)
        add(gallery, 0, 3)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([FILE, FILE + "-wal", FILE + "-shm", "lock"], 0o600)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    gallery.close()


def test_what_was_deleted_is_in_no_file_any_more(gallery: LocalGallery, directory: Path) -> None:
    kept = Collection("kept", "print-1", DIM, True, NOON)
    gallery.put_collection(kept)
    vector, crop = vectors(1, 2), np.random.default_rng(1).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    traces = [b"Annas-Bild.jpg", unit(vector).tobytes()[:32], crop.tobytes()[1000:1016]]

    def found() -> list[bool]:
        content = b"".join(path.read_bytes() for path in directory.iterdir())
        return [trace in content for trace in traces]

    gallery.upsert("kept", [Item("a", "sha", source="Annas-Bild.jpg")], vector, list(crop))
    assert found() == [True, True, True]
    gallery.delete("kept", ALL)
    assert found() == [False, False, False]


def test_no_crop_is_written_where_the_collection_keeps_none(gallery: LocalGallery, directory: Path) -> None:
    gallery.upsert("lobby", items(0, 1), vectors(0, 1), [np.ones((HEIGHT, WIDTH, 3), dtype=np.uint8)])
    with sqlite3.connect(directory / FILE) as other:
        assert other.execute("select count(*) from crop").fetchone() == (0,)
    other.close()


def test_a_second_opener_is_told_the_process(gallery: LocalGallery, directory: Path) -> None:
    with pytest.raises(DataDirectoryBusy, match=f"in use by process {os.getpid()};"):
        LocalGallery(directory)
    gallery.close()
    LocalGallery(directory).close()


def test_another_process_is_told_the_process(gallery: LocalGallery, directory: Path) -> None:
    answer = subprocess.run(child(OPEN, directory), capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"DataDirectoryBusy: {directory} is in use by process {os.getpid()};" in answer.stderr


def test_a_killed_process_leaves_every_acknowledged_item_and_no_half_commit(directory: Path) -> None:
    for lines in (1, 4, 9):
        with subprocess.Popen(child(WRITE, directory), stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(lines)]
            writer.send_signal(signal.SIGKILL)  # amid a later upsert: it never pauses
            acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
        gallery = LocalGallery(directory)
        count = gallery.count("lobby")
        assert count in (acknowledged[-1], acknowledged[-1] + GROUP)
        assert ids(gallery) == names(0, count)
        assert len(gallery.search("lobby", unit(vectors(0, 1)), 1000, ALL)[0]) == min(count, 1000)
        gallery.close()


def test_a_full_database_refuses_a_whole_call_and_works_on(directory: Path) -> None:
    gallery = LocalGallery(directory, partial(Database, max_pages=160))  # 640 KiB: room for four crops of noise
    gallery.put_collection(Collection("lobby", "print-1", DIM, True, NOON))
    noise = list(np.random.default_rng(1).integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8))
    gallery.upsert("lobby", items(0, 2), vectors(0, 2), noise[:2])
    with pytest.raises(StorageFailed, match=f"{FILE}: the disk is full"):
        gallery.upsert("lobby", [*items(2, 6), Item("i0000", "changed")], vectors(2, 7), noise[:5])
    assert everything(gallery) == (2, names(0, 2), names(0, 2))
    assert gallery.get("lobby", ["i0000"]) == items(0, 1)
    gallery.upsert("lobby", items(2, 4), vectors(2, 4), noise[2:4])
    gallery.delete("lobby", Filter(ids=frozenset(names(0, 3))))
    gallery.upsert("lobby", items(4, 6), vectors(4, 6), noise[4:])
    assert everything(gallery) == (3, names(3, 6), names(3, 6))
    gallery.close()


def test_a_disk_that_takes_no_more_bytes_refuses_a_whole_call_and_works_on(
    gallery: LocalGallery, directory: Path
) -> None:
    add(gallery, 0, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = (directory / (FILE + "-wal")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + 8192, hard))  # two pages more, then each write fails
    try:
        with pytest.raises(StorageFailed, match=FILE):
            add(gallery, 20, 100)
        with pytest.raises(StorageFailed, match=FILE):
            gallery.delete("lobby", ALL)
        assert everything(gallery) == (20, names(0, 20), names(0, 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    add(gallery, 20, 100)
    assert everything(gallery) == (100, names(0, 100), names(0, 100))


def test_a_locked_database_refuses_writes_and_still_answers(directory: Path) -> None:
    gallery = LocalGallery(directory, partial(Database, busy_timeout_s=0.05))
    gallery.put_collection(LOBBY)
    add(gallery, 0, 3)
    other = sqlite3.connect(directory / FILE, isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(StorageFailed, match="another program holds a lock"):
        add(gallery, 3, 6)
    assert everything(gallery) == (3, names(0, 3), names(0, 3))
    other.close()
    add(gallery, 3, 6)
    assert everything(gallery) == (6, names(0, 6), names(0, 6))
    gallery.close()


def test_a_database_of_a_newer_version_is_refused(gallery: LocalGallery, directory: Path) -> None:
    gallery.close()
    change(directory, "pragma user_version = 99")
    with pytest.raises(StorageFailed, match=r"newer version of this program \(its schema is 99"):
        LocalGallery(directory)
    change(directory, "pragma user_version = 3")
    LocalGallery(directory).close()  # the refusal kept no lock


@pytest.mark.parametrize("damage", ["text", "half", "vector", "attributes"])
def test_a_damaged_database_is_refused_by_name(gallery: LocalGallery, directory: Path, damage: str) -> None:
    add(gallery, 0, 200)
    gallery.close()
    path = directory / FILE
    if damage == "text":
        path.write_bytes(b"no database" * 1000)
    elif damage == "half":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "vector":
        change(directory, "update slot set bytes = x'00000000' where id = 7")
    else:
        change(directory, "update item set attributes = '{' where seq = 7")
    for _ in range(2):  # the first refusal kept no lock
        with pytest.raises(StorageFailed, match=f"{FILE}.* is damaged"):
            LocalGallery(directory)


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(StorageFailed, match="cannot be used"):
            LocalGallery(path)


class Paused(Database):
    """Waits before or after each commit, once `armed`."""

    def __init__(self, path: Path, after: bool) -> None:
        self.armed, self.after = False, after
        self.reached, self.go = threading.Event(), threading.Event()
        super().__init__(path)

    def commit(self) -> None:
        if self.after:
            super().commit()
        if self.armed:
            self.reached.set()
            assert self.go.wait(60)
        if not self.after:
            super().commit()


def opened_paused(directory: Path, after: bool) -> tuple[LocalGallery, Paused]:
    opened: list[Paused] = []

    def open_paused(path: Path) -> Database:
        opened.append(Paused(path, after))
        return opened[0]

    gallery = LocalGallery(directory, open_paused)
    gallery.put_collection(LOBBY)
    add(gallery, 0, 3)
    opened[0].armed = True
    return gallery, opened[0]


def test_a_search_during_a_commit_sees_the_old_items_and_does_not_wait(directory: Path) -> None:
    gallery, database = opened_paused(directory, after=False)
    writer = threading.Thread(target=add, args=(gallery, 2, 6))
    writer.start()
    assert database.reached.wait(60)
    assert gallery.count("lobby") == 3
    assert searched(gallery) == names(0, 3)
    assert gallery.get("lobby", ["i0005"]) == [None]
    database.go.set()
    writer.join()
    assert everything(gallery) == (6, names(0, 6), names(0, 6))
    gallery.close()


def test_a_search_between_a_commit_and_its_view_waits_for_the_view(directory: Path) -> None:
    gallery, database = opened_paused(directory, after=True)
    writer = threading.Thread(target=add, args=(gallery, 2, 6))
    writer.start()
    assert database.reached.wait(60)
    assert gallery.get("lobby", ["i0005"]) == items(5, 6)  # on disk already
    found: list[list[str]] = []
    reader = threading.Thread(target=lambda: found.append(searched(gallery)))
    reader.start()
    reader.join(0.05)
    assert not found  # the old view with the new rows would be of no moment at all
    database.go.set()
    writer.join()
    reader.join()
    assert found == [names(0, 6)]
    gallery.close()


def everything(gallery: LocalGallery) -> tuple[int, list[str], list[str]]:
    """What the view counts, what the database lists, what a search finds."""
    return gallery.count("lobby"), ids(gallery), searched(gallery)


def searched(gallery: LocalGallery) -> list[str]:
    (matches,) = gallery.search("lobby", unit(vectors(0, 1)), 1000, ALL)
    return sorted(match.item.id for match in matches)


def change(directory: Path, sql: str) -> None:
    connection = sqlite3.connect(directory / FILE, isolation_level=None)
    connection.execute(sql)
    connection.close()


def child(program: str, directory: Path) -> list[str]:
    return [sys.executable, "-c", program, str(directory)]


ROOT = Path(__file__).parents[2]
GROUP = 3  # items of an upsert of WRITE
OPEN = """
import sys
from pathlib import Path
from app.adapters.local_gallery import LocalGallery
LocalGallery(Path(sys.argv[1]))
"""
WRITE = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from app.adapters.local_gallery import LocalGallery
from app.core.records import Collection, Item

gallery = LocalGallery(Path(sys.argv[1]))
gallery.put_collection(Collection("lobby", "print-1", {DIM}, False, datetime.now(UTC)))
while True:
    count = gallery.count("lobby")
    items = [Item(f"i{{count + n:04}}", "sha") for n in range({GROUP})]
    gallery.upsert("lobby", items, np.random.default_rng(count).standard_normal(({GROUP}, {DIM})).astype(np.float32))
    print(gallery.count("lobby"), flush=True)
"""
