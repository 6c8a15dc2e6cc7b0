"""No byte of what was erased is left: every file below the data directory is searched for it."""

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from app.adapters.local_gallery import LocalGallery, erase
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.index_files import IndexFiles
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.rows import deflate
from app.core.calibrated import Calibrated
from app.core.jobs import Job, Progress
from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Filter, Item
from app.errors import StorageFailed
from app.ports import Floats

DIM = 64
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", DIM, keep_crops=True, created_at=NOON)
ALL = Filter()
PLANS = {"exact": IndexPlan(), "codes": IndexPlan(flat=40, tail=10, shortlist=20, narrow=5)}


class Unwritten(Database):
    """Leaves tables as they are where they should be written anew."""

    def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        pass


class History:
    """Some months of a gallery, the same for the same seed: items come, change, are moved and go; jobs tell of them.

    Every text that names somebody holds a word of its own, 16 letters long; `secrets` are what each item was known by.
    """

    def __init__(self, gallery: LocalGallery, seed: int = 1) -> None:
        self.gallery, self._random = gallery, random.Random(seed)
        self.secrets: dict[str, list[bytes]] = {}  # by item id, of those that are there or were
        self.there: dict[str, Item] = {}
        gallery.put_collection(LOBBY)

    def live(self, rounds: int) -> None:
        for number in range(rounds):
            persons = [self._word() for _ in range(3)]
            self._put([self._item(self._random.choice(persons)) for _ in range(self._random.randrange(2, 18))])
            known = sorted(self.there)
            self._put([self._again(self.there[known[self._below(len(known))]]) for _ in range(self._below(4))])
            result = {"worst": [{"id": item_id, "n": "x" * self._below(400)} for item_id in known[:6]]}
            job = Job(f"j{number}", "evaluate", {"item": known[0]}, NOON, "done", ended_at=NOON, result=result)
            self.gallery.jobs.put_job(replace(job, progress=Progress(1, 1, known[-1])))
            deleted = known[: self._below(9)]
            self.gallery.delete("lobby", Filter(ids=frozenset(deleted)))
            for item_id in deleted:
                del self.there[item_id]
        known = sorted(self.there)
        self.gallery.calibrations.put_calibration(
            "lobby", Calibrated("item", "print-1", 9, NOON, json.dumps({"hardest": known[:9]}))
        )

    def erase(self, where: Filter) -> list[bytes]:
        """Returns what must not be found any more: also of those deleted before, but for their ids, which jobs may tell."""
        gone = {item.id for item in self.gallery.scan("lobby", where, limit=10_000)}
        self.gallery.erase("lobby", where)
        for item_id in gone:
            del self.there[item_id]
        deleted = {item_id: own for item_id, own in self.secrets.items() if item_id not in self.there}
        return [s for item_id, own in deleted.items() for s in own if item_id in gone or s != item_id.encode()]

    def some_persons(self, seed: int = 1) -> frozenset[str]:
        """Two of three of those who are there."""
        chance = random.Random(seed)
        there = sorted({item.person_id for item in self.there.values() if item.person_id})
        return frozenset(person for person in there if chance.random() < 0.7)

    def known(self) -> list[bytes]:
        """The secrets of those who are there."""
        return [secret for item_id in self.there for secret in self.secrets[item_id]]

    def _put(self, items: list[Item]) -> None:
        rows = np.random.default_rng(self._random.randrange(10**9)).standard_normal((len(items), DIM))
        raw, pixels = rows.astype(np.float32), [self._crop() for _ in items]
        self.gallery.upsert("lobby", items, raw, pixels)
        for item, row, crop in zip(items, raw, pixels, strict=True):
            self.there[item.id] = item
            texts = [item.id, item.person_id, item.sha256, item.source, *item.attributes.values()]
            own = self.secrets.setdefault(item.id, [])
            own += [text.encode() for text in texts if text] + [unit(row).tobytes(), deflate(crop).rstrip(b"\0")]

    def _item(self, person: str) -> Item:
        many = " ".join(self._word() for _ in range(self._below(6)))
        return Item(self._word(), self._word(), person, "1", NOON, self._word() + ".jpg", {"said": many})

    def _again(self, item: Item) -> Item:
        return Item(item.id, self._word(), item.person_id, "2", NOON, item.source, {"said": self._word()})

    def _crop(self) -> Crop:
        return np.kron(self._noise(), np.ones((32, 32, 1), dtype=np.uint8))

    def _noise(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._random.randbytes(HEIGHT * WIDTH * 3 // 1024), np.uint8).reshape(HEIGHT // 32, -1, 3)

    def _below(self, number: int) -> int:
        return self._random.randrange(number)

    def _word(self) -> str:
        return "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz", k=16))


def unit(raw: Floats) -> Floats:
    wide = raw.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide), dtype="<f4")


def windows(secrets: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """Every eight bytes in a row."""
    parts = [np.lib.stride_tricks.sliding_window_view(np.frombuffer(s, np.uint8), 8) for s in secrets]
    return np.unique(np.ascontiguousarray(np.concatenate(parts)).view(np.uint64))


def remains(directory: Path, secrets: Sequence[bytes], others: Sequence[bytes] = ()) -> list[str]:
    """Files with eight bytes of a secret, wherever fifteen in a row lie; but what the others have too is no trace."""
    wanted = np.setdiff1d(windows(secrets), windows([bytes(16), *others]))
    found = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        words = np.frombuffer(content[: len(content) // 8 * 8], np.uint64)
        found += [f"{path.name} at {place * 8}" for place in np.flatnonzero(np.isin(words, wanted))]
    return found


def sql(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """Asked of the database by another connection."""
    with closing(sqlite3.connect(directory / "data" / FILE)) as db:
        return db.execute(query).fetchall()


def opened(directory: Path, plan: str = "exact", database: Callable[[Path], Database] = Database) -> LocalGallery:
    return LocalGallery(directory, database, plan=PLANS[plan], clock=lambda: NOON)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("everybody", [False, True], ids=["some", "everybody"])
def test_no_byte_of_a_vector_a_picture_or_a_name_is_left(tmp_path: Path, plan: str, everybody: bool) -> None:
    gallery = opened(tmp_path / "data", plan)
    history = History(gallery)
    history.live(40)
    where = ALL if everybody else Filter(persons=history.some_persons())
    doomed = [secret for item in gallery.scan("lobby", where, limit=1000) for secret in history.secrets[item.id]]
    assert len(remains(tmp_path, doomed)) > 1000  # it is there before
    gone = history.erase(where)
    assert remains(tmp_path, gone, history.known()) == []
    seqs = {seq for codes in IndexFiles(tmp_path / "data").read(1, DIM) for seq in codes.seqs.tolist()}
    assert seqs <= {seq for (seq,) in sql(tmp_path, "select seq from item")}
    assert gallery.count("lobby") == len(history.there)
    gallery.close()
    assert remains(tmp_path, gone, history.known()) == []


class CutOff(Database):
    """Ends an erase when its rows are gone and its traces are not."""

    def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        raise StorageFailed("the disk is full")


@pytest.mark.parametrize("plan", PLANS)
def test_an_erase_that_was_cut_off_is_finished_by_the_next_start(tmp_path: Path, plan: str) -> None:
    gallery = opened(tmp_path / "data", plan, CutOff)
    history = History(gallery)
    history.live(40)
    with pytest.raises(StorageFailed, match="full"):
        history.erase(ALL)
    gallery.close()
    assert sql(tmp_path, "select name from secret where name = 'erasing'") == [("erasing",)]
    opened(tmp_path / "data", plan, CutOff).close()  # still full: searches go on all the same
    opened(tmp_path / "data", plan).close()
    assert sql(tmp_path, "select name from secret where name = 'erasing'") == []
    assert remains(tmp_path, [secret for own in history.secrets.values() for secret in own]) == []


def test_names_are_left_in_gaps_of_pages_until_the_tables_are_written_anew(tmp_path: Path) -> None:
    """SQLite 3.40.1 leaves some of one name in a thousand. Where no version in use does, the tables may stay as they are."""
    database = Database(tmp_path / FILE)
    with database.transaction() as db:
        db.execute(
            "insert into collection (id, name, fingerprint, dim, keep_crops, created_at) values (1, 'a', '', 1, 0, '')"
        )
    gone, kept = items_that_come_and_go(database, random.Random(20))
    database.empty_log(surely=True)
    assert remains(tmp_path, gone, kept)
    database.rewrite(erase.rewrite_items)
    database.empty_log(surely=True)
    assert remains(tmp_path, gone, kept) == []
    assert len(remains(tmp_path, kept)) > len(kept)
    database.close()


def items_that_come_and_go(database: Database, chance: random.Random) -> tuple[list[bytes], list[bytes]]:
    """Ids of those that are gone, and of those that stay."""
    insert = "insert into item (collection_id, id, sha256, person_id, attributes, norm) values (1, ?, ?, ?, ?, 1)"
    gone, there = list[str](), list[str]()
    for _ in range(40):
        fresh = [f"{chance.randrange(10**16):016}" for _ in range(chance.randrange(1, 100))]
        there += fresh
        chance.shuffle(there)
        leave = chance.randrange(min(70, len(there)))
        with database.transaction() as db:
            db.executemany(insert, [(i, "s" + i, "p" + i, "x" * chance.randrange(200)) for i in fresh])
            db.executemany("delete from item where id = ?", [(item_id,) for item_id in there[:leave]])
        gone, there = gone + there[:leave], there[leave:]
    return [text.encode() for text in gone], [text.encode() for text in there]


def test_vectors_and_pictures_leave_nothing_even_where_no_table_is_written_anew(tmp_path: Path) -> None:
    gallery = opened(tmp_path / "data", database=Unwritten)
    history = History(gallery)
    history.live(40)
    gone = history.erase(Filter(persons=history.some_persons()))
    blobs = [secret for secret in gone if len(secret) >= DIM * 4]
    assert len(blobs) > 500
    assert remains(tmp_path, blobs, history.known()) == []
    gallery.close()


def test_an_erase_that_readers_hold_up_says_so_and_ends_when_it_is_asked_again(tmp_path: Path) -> None:
    gallery = opened(tmp_path / "data", database=partial(Database, busy_timeout_s=0.05))
    history = History(gallery)
    history.live(3)
    reader = sqlite3.connect(tmp_path / "data" / FILE, isolation_level=None)
    reader.execute("begin")
    reader.execute("select count(*) from item").fetchone()
    secrets = [secret for own in history.secrets.values() for secret in own]
    with pytest.raises(StorageFailed, match="could not be emptied while others read; ask again"):
        gallery.erase("lobby", ALL)
    assert (gallery.count("lobby"), gallery.scan("lobby", ALL)) == (0, [])
    assert remains(tmp_path, secrets)
    reader.close()
    assert gallery.erase("lobby", ALL).items == 0
    assert remains(tmp_path, secrets) == []
    gallery.close()


class Held(Database):
    """Waits before it writes tables anew."""

    def __init__(self, path: Path) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        super().__init__(path)

    def rewrite(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self.reached.set()
        assert self.go.wait(60)
        super().rewrite(work)


def test_an_erase_that_is_at_work_ends_before_the_gallery_is_closed(tmp_path: Path) -> None:
    held: list[Held] = []

    def open_held(path: Path) -> Database:
        held.append(Held(path))
        return held[0]

    gallery, receipts = opened(tmp_path / "data", database=open_held), list[int]()
    History(gallery).live(1)
    erase_it = threading.Thread(target=lambda: receipts.append(gallery.erase("lobby", ALL).items))
    erase_it.start()
    assert held[0].reached.wait(60)
    close_it = threading.Thread(target=gallery.close)
    close_it.start()
    close_it.join(0.05)
    assert close_it.is_alive()
    held[0].go.set()
    for thread in (erase_it, close_it):
        thread.join()
    assert receipts[0] > 0


def test_tables_written_anew_are_as_they_were(tmp_path: Path) -> None:
    def schema() -> list[tuple[str, ...]]:
        rows = sql(tmp_path, "select type, name, tbl_name, coalesce(sql, '') from sqlite_schema order by 1, 2")
        return [(*names, made.replace('"', "")) for *names, made in rows]

    gallery = opened(tmp_path / "data")
    history = History(gallery)
    history.live(4)
    before, kept = schema(), gallery.scan("lobby", ALL, limit=1000)
    jobs, vectors = gallery.jobs.jobs(), gallery.vectors("lobby", sorted(history.there))[0].tolist()
    for _ in range(2):
        gallery.erase("lobby", Filter(ids=frozenset({"nobody"})))
    assert schema() == before
    assert (gallery.scan("lobby", ALL, limit=1000), gallery.jobs.jobs()) == (kept, jobs)
    assert gallery.vectors("lobby", sorted(history.there))[0].tolist() == vectors
    gallery.close()
    again = opened(tmp_path / "data")
    assert again.scan("lobby", ALL, limit=1000) == kept
    again.close()


def test_a_place_that_a_vector_or_a_picture_left_is_taken_by_the_next(tmp_path: Path) -> None:
    gallery = opened(tmp_path / "data")
    history = History(gallery)
    history.live(5)

    def slots() -> tuple[int, int]:
        ((count, free),) = sql(tmp_path, "select count(*), sum(free) from slot")
        return count, free

    count, free = slots()
    assert count - free == 2 * len(history.there)
    there = len(history.there)
    gallery.delete_collection("lobby")
    assert slots() == (count, count)
    gallery.put_collection(LOBBY)
    blank = [np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)] * there
    gallery.upsert("lobby", [Item(str(n), "s") for n in range(there)], np.ones((there, DIM), dtype=np.float32), blank)
    assert slots() == (count + max(0, there - count // 2), count - there + max(0, there - count // 2) - there)
    gallery.close()
