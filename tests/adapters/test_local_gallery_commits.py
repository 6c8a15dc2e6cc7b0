"""Writes that come at the same time share a commit, and nothing else: each is undone, or acknowledged, for itself."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.commits import Commits, Views
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.view import View
from app.core.records import Collection, Filter, Item
from app.errors import NothingToUndo, ReidError, StorageFailed

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, 12, tzinfo=UTC))
EAST = np.array([[1, 0]], dtype=np.float32)
INSERT = "insert into collection (name, fingerprint, dim, keep_crops, created_at) values (?, 'print-1', 2, 0, '')"


class Counted(Database):
    """Counts commits, does `before` each, and can be made to fail at the next one."""

    def __init__(self, path: Path) -> None:
        self.commits, self.broken = 0, False
        self.before: Callable[[], None] = lambda: None
        super().__init__(path)

    def commit(self) -> None:
        self.before()
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()
        self.commits += 1


class World:
    """A database whose collections' names are also the published views'."""

    def __init__(self, path: Path) -> None:
        self.database = Counted(path / FILE)
        self.views: Views = {}
        self.published: list[list[str]] = []
        self.commits = Commits(self.database, lambda: self.views, self._publish)
        self.database.commits = 0
        self._threads: list[threading.Thread] = []
        self.answers: dict[str, object] = {}

    def _publish(self, views: Views) -> None:
        self.views = views
        self.published.append(sorted(views))

    def add(self, name: str, then: Callable[[sqlite3.Connection], None] = lambda db: None) -> str:
        """A collection of that name, in a work of its own."""

        def work(db: sqlite3.Connection, views: Views) -> str:
            db.execute(INSERT, (name,))
            views[name] = View(replace(LOBBY, name=name), 1, 0)
            then(db)
            return " ".join(sorted(views))

        return self.commits.run(work)

    def begin(self, name: str, then: Callable[[sqlite3.Connection], None] = lambda db: None) -> None:
        """The same in a thread; its answer, or what it raised, goes to `answers`."""

        def run() -> None:
            try:
                self.answers[name] = self.add(name, then)
            except (ReidError, ZeroDivisionError) as error:
                self.answers[name] = error

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def together(self, *others: tuple[str, Callable[[sqlite3.Connection], None]]) -> None:
        """Begin these, in this order, while a first work is at it; and end when all have."""
        inside, go = threading.Event(), threading.Event()

        def hold(db: sqlite3.Connection) -> None:
            inside.set()
            assert go.wait(60)

        self.begin("first", hold)
        assert inside.wait(60)
        for place, other in enumerate(others, 1):
            self.begin(*other)
            until(lambda place=place: self.commits.waiting == place)  # type: ignore[misc]
        go.set()
        for thread in self._threads:
            thread.join()

    def stored(self) -> list[str]:
        with self.database.reading() as db:
            return [name for (name,) in db.execute("select name from collection order by name").fetchall()]


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does next."""
    while not true():
        time.sleep(0.001)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


def nothing(db: sqlite3.Connection) -> None:
    pass


def fail(db: sqlite3.Connection) -> None:
    raise ZeroDivisionError


def fill_the_disk(db: sqlite3.Connection) -> None:
    db.execute("create table large as select zeroblob(400000)")


def test_writes_that_wait_for_another_go_into_one_commit_and_are_published_once(world: World) -> None:
    world.together(("b", nothing), ("c", nothing), ("d", nothing))
    assert world.database.commits == 2  # the first one's, and that of all who came meanwhile
    assert world.published == [["first"], ["b", "c", "d", "first"]]
    assert world.stored() == ["b", "c", "d", "first"]


def test_a_write_sees_what_those_before_it_did_in_the_same_commit(world: World) -> None:
    world.together(("b", nothing), ("c", nothing))
    assert world.answers == {"first": "first", "b": "b first", "c": "b c first"}


def test_a_write_that_fails_is_undone_alone(world: World) -> None:
    world.together(("b", nothing), ("bad", fail), ("c", nothing))
    assert world.database.commits == 2
    assert isinstance(world.answers.pop("bad"), ZeroDivisionError)
    assert world.answers == {"first": "first", "b": "b first", "c": "b c first"}
    assert world.stored() == world.published[-1] == ["b", "c", "first"]


def test_a_write_for_which_the_disk_has_no_room_fails_alone(world: World) -> None:
    with world.database.transaction() as db:
        (pages,) = db.execute("pragma page_count").fetchone()
        db.execute(f"pragma max_page_count = {pages + 10}")
    world.together(("b", nothing), ("large", fill_the_disk), ("c", nothing))
    error = world.answers.pop("large")
    assert isinstance(error, StorageFailed)
    assert str(error).endswith(f"{FILE}: the disk is full")
    assert world.stored() == world.published[-1] == ["b", "c", "first"]


def test_when_a_commit_fails_all_are_told_and_nothing_has_changed(world: World) -> None:
    def break_it(db: sqlite3.Connection) -> None:
        world.database.broken = True

    world.together(("b", break_it), ("c", nothing))
    errors = [world.answers[name] for name in ("b", "c")]
    assert [str(error).rpartition(": ")[2] for error in errors] == ["disk I/O error"] * 2
    assert all(isinstance(error, StorageFailed) for error in errors)
    assert errors[0] is not errors[1]  # each thread raises its own
    assert (world.stored(), world.published) == (["first"], [["first"]])
    world.database.broken = False
    assert world.add("d") == "d first"


def test_nobody_is_told_before_the_commit_nor_sees_anything_of_it(world: World) -> None:
    seen: list[object] = []
    world.database.before = lambda: seen.append((dict(world.views), dict(world.answers), world.stored()))
    world.begin("a")
    world.together()
    assert seen[0] == ({}, {}, [])
    assert world.stored() == ["a", "first"]


def test_a_view_that_is_amended_between_writes_is_what_the_next_write_begins_with(world: World) -> None:
    world.add("a")
    assert world.commits.amend("a", lambda view: view.at(7))
    assert not world.commits.amend("a", lambda view: None)
    assert not world.commits.amend("b", lambda view: view)
    world.add("b")
    assert world.views["a"].revision == 7


def test_items_of_many_threads_are_all_there_and_each_was_told_right(tmp_path: Path) -> None:
    opened: list[Counted] = []

    def open_counted(path: Path) -> Database:
        opened.append(Counted(path))
        return opened[0]

    gallery = LocalGallery(tmp_path, open_counted)
    gallery.put_collection(LOBBY)
    opened[0].commits = 0
    outcomes: dict[str, list[str]] = {}

    def write(worker: int) -> None:
        for group in range(10):
            item = Item(f"{worker}-{group}", "s", "anna")
            outcomes[item.id] = [*gallery.upsert("lobby", [item], EAST), *gallery.upsert("lobby", [item], EAST)]
            with pytest.raises(NothingToUndo):
                gallery.undo_merge("lobby")

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(outcomes.values()) == [["added", "unchanged"]] * 80
    assert gallery.count("lobby") == len(gallery.scan("lobby", Filter(), limit=1000)) == 80
    assert gallery.audit.verify().seq == 80
    gallery.close()
