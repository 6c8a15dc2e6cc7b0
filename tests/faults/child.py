"""The process that is killed: it works on a gallery and tells, through a pipe, what it begins and what was acknowledged.

It never pauses and never ends by itself. What it tells is written before it goes on, so that a kill takes none of it away.
"""

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.index_files import FOLDER
from app.core.records import Collection, Filter
from tests.faults.world import (
    LOBBY,
    PLAN,
    YARD,
    Change,
    State,
    after,
    crop,
    item,
    item_id,
    number_of,
    person,
    raw_vectors,
    state_of,
)

Kind = Literal[
    "insert", "update", "delete", "move", "erase", "snapshot", "drop snapshot", "close", "open", "rebuild", "migrate"
]
MANY, FEW = 240, 60  # items of a collection: above the first it only shrinks, below the second it only grows


@dataclass(frozen=True, slots=True)
class Task:
    """What to do. kind: what is done mostly; old: a directory of an older schema, for "migrate"; free: by collection, the
    first number that no item had.
    """

    kind: Kind
    seed: int
    directory: Path
    snapshots: Path
    old: Path
    free: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Begun:
    """Something is about to be done. change: to the collection's items; about: a snapshot, or a directory."""

    collection: str
    kind: Kind
    change: Change = field(default_factory=dict)
    about: str = ""
    at: float = field(default_factory=time.perf_counter)  # one clock for all processes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """It is done, as far as the gallery says. number, hash: of an erasure's line in the audit."""

    collection: str
    about: str = ""
    number: int = 0
    hash: bytes = b""
    at: float = field(default_factory=time.perf_counter)


class Teller:
    """Both threads tell through the one pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._turn = pipe, threading.Lock()

    def tell(self, told: Begun | Acknowledged) -> None:
        """Returns when it is in the pipe."""
        with self._turn:
            self._pipe.send(told)

    @contextmanager
    def telling(self, kind: Kind, about: str = "") -> Iterator[None]:
        """What changes no items."""
        self.tell(Begun("", kind, about=about))
        yield
        self.tell(Acknowledged("", about))


def run(task: Task, pipe: Connection) -> None:
    """Work until killed."""
    teller, rng = Teller(pipe), random.Random(task.seed)
    if task.kind == "migrate":
        migrate(task, teller)
    elif task.kind == "open":
        while True:
            opened(task, teller).close()
    elif task.kind in ("close", "rebuild"):
        reopen(task, teller, rng)
    with teller.telling("open"):
        gallery = LocalGallery(task.directory, plan=PLAN, snapshots=task.snapshots)
    for collection in (LOBBY, YARD):
        gallery.put_collection(collection)
    other = Hand(gallery, YARD, teller, random.Random(-task.seed), task.free)
    threading.Thread(target=other.work, args=("insert",), daemon=True).start()
    Hand(gallery, LOBBY, teller, rng, task.free).work(task.kind)


def opened(task: Task, teller: Teller) -> LocalGallery:
    """The gallery; with "rebuild" without its index files."""
    kind: Kind = "rebuild" if task.kind == "rebuild" else "open"
    if kind == "rebuild":
        shutil.rmtree(task.directory / FOLDER, ignore_errors=True)
    with teller.telling(kind):
        return LocalGallery(task.directory, plan=PLAN, snapshots=task.snapshots)


def reopen(task: Task, teller: Teller, rng: random.Random) -> None:
    """Open, add, close, again and again."""
    free = dict(task.free)
    while True:
        gallery = opened(task, teller)
        gallery.put_collection(YARD)
        free[YARD.name] = Hand(gallery, YARD, teller, rng, free).insert()
        with teller.telling("close"):
            gallery.close()


def migrate(task: Task, teller: Teller) -> None:
    """Open copies of an old directory, one after another."""
    number = 0
    while True:
        number += 1
        copied = task.directory.with_name(f"migrated-{task.seed}-{number}")
        shutil.copytree(task.old, copied)
        with teller.telling("migrate", str(copied)):
            gallery = LocalGallery(copied, plan=PLAN, snapshots=task.snapshots)
        gallery.close()
        shutil.rmtree(copied)


class Hand:
    """One thread's work on a collection of its own."""

    def __init__(
        self,
        gallery: LocalGallery,
        collection: Collection,
        teller: Teller,
        rng: random.Random,
        free: Mapping[str, int],
    ) -> None:
        self._gallery, self._collection, self._name = gallery, collection, collection.name
        self._teller, self._rng = teller, rng
        stored = gallery.scan(self._name, Filter(), limit=1_000_000)
        self._states = {number_of(one): state_of(one) for one in stored}
        self._next = free[self._name]

    def work(self, mostly: Kind) -> None:
        """Without end."""
        deeds: dict[Kind, Callable[[], object]] = {
            "insert": self.insert, "update": self.update, "delete": self.delete, "move": self.move, "erase": self.erase,
            "snapshot": self.snapshot, "drop snapshot": self.drop_snapshot,
        }  # fmt: skip
        if self._collection is YARD:
            deeds = {kind: deeds[kind] for kind in ("insert", "update", "delete")}
        while True:
            kind = mostly if self._rng.random() < 0.5 else self._rng.choice(list(deeds))
            if len(self._states) < FEW:
                kind = "insert"
            elif len(self._states) > MANY:
                kind = mostly if mostly == "erase" else "delete"
            deeds[kind]()

    def insert(self) -> int:
        """A few persons' items; returns the number that comes next."""
        count = 4 * self._rng.randint(1, 6)
        added = {number: State(0, person(number)) for number in range(self._next, self._next + count)}
        self._next += count
        self._put("insert", added)
        return self._next

    def update(self) -> None:
        """New vectors and crops for some."""
        chosen = self._some(8)
        self._put("update", {n: State(self._states[n].version + 1, self._states[n].person) for n in chosen})

    def delete(self) -> None:
        """Some, to be forgotten in the course of time."""
        chosen = self._some(16)
        with self._changing("delete", dict.fromkeys(chosen)):
            self._gallery.delete(self._name, ids(chosen))

    def move(self) -> None:
        """Some to a person who is there."""
        chosen = self._some(8)
        to = self._states[chosen[0]].person
        with self._changing("move", {n: State(self._states[n].version, to) for n in chosen}):
            self._gallery.move(self._name, ids(chosen), to)

    def erase(self) -> None:
        """Some, or all of a person."""
        chosen = self._some(3)
        where = ids(chosen)
        if self._rng.random() < 0.5:
            who = self._states[chosen[0]].person
            where = Filter(persons=frozenset({who}))
            chosen = [number for number, state in self._states.items() if state.person == who]
        change = dict.fromkeys(chosen)
        self._teller.tell(Begun(self._name, "erase", change))
        head = self._gallery.erase(self._name, where).audit
        self._teller.tell(Acknowledged(self._name, number=head.seq, hash=head.hash))
        self._states = after(self._states, change)

    def snapshot(self) -> None:
        """A snapshot; the oldest goes where there are many."""
        self._teller.tell(Begun("", "snapshot", about=str(len(self._states))))
        made = self._gallery.upkeep.snapshot(lambda done, total: None, lambda: False)
        self._teller.tell(Acknowledged("", made.id))
        if len(self._gallery.upkeep.snapshots()) > 4:
            self.drop_snapshot()

    def drop_snapshot(self) -> None:
        """The oldest, where there is one."""
        there = self._gallery.upkeep.snapshots()
        if there:
            with self._teller.telling("drop snapshot", there[-1].id):
                self._gallery.upkeep.delete_snapshot(there[-1].id)

    def _put(self, kind: Kind, put: dict[int, State]) -> None:
        with self._changing(kind, put):
            kept = self._collection.keep_crops
            items, crops = [item(*one) for one in put.items()], [crop(n, s.version) for n, s in put.items()]
            self._gallery.upsert(self._name, items, raw_vectors(put), crops if kept else None)

    @contextmanager
    def _changing(self, kind: Kind, change: Change) -> Iterator[None]:
        self._teller.tell(Begun(self._name, kind, change))
        yield
        self._teller.tell(Acknowledged(self._name))
        self._states = after(self._states, change)

    def _some(self, most: int) -> list[int]:
        return self._rng.sample(sorted(self._states), self._rng.randint(1, most))


def ids(numbers: list[int]) -> Filter:
    """The items of these numbers."""
    return Filter(ids=frozenset(item_id(number) for number in numbers))
