"""Kill a gallery's process, many times, at random moments of what it does; look each time what is left.

    python -m tests.faults.kills --kills 200 --seed 1

Each round begins with a child process that works on a gallery with index files, snapshots and two writers. It is killed
(SIGKILL) within the kind of work whose turn it is, or shortly behind; then the gallery is opened and proven (`proof`). Ten
rounds share a data directory. Ends with status 1 at the first promise that does not hold, and leaves the directory.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import get_args

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.erasures import LOG
from app.adapters.local_gallery.restore import restore_directory
from app.core.audit import AuditHead
from app.errors import ReidError
from tests.faults import child
from tests.faults.child import Acknowledged, Begun, Kind, Task, ids
from tests.faults.old import EXPECTED, make_old
from tests.faults.proof import Broken, nowhere, require, snapshots_are_whole, stands, whole
from tests.faults.world import FIRST, LOBBY, PLAN, YARD, States, after, needles

KINDS: tuple[Kind, ...] = get_args(Kind)
ROUNDS = 10  # in one data directory
_GUESS_S = 0.02  # how long a thing takes of which nothing is known yet
_PATIENCE_S = 60.0


@dataclass
class Tally:
    """Kills by what was going on: within the work, and what had become of it then."""

    kills: int = 0
    within: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)  # of those: on disk, though nobody was told
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def lasts(self, kind: str) -> float:
        """How long this kind of work takes, as far as is known."""
        return median(self.seconds[kind][-50:]) if self.seconds[kind] else _GUESS_S

    def table(self) -> str:
        """For people."""
        lines = [f"{'killed within':<15}{'kills':>7}{'on disk':>9}{'median ms':>11}"]
        for kind in KINDS:
            done = f"{self.done[kind]:>9}" if kind in ("insert", "update", "delete", "move", "erase") else " " * 9
            lines.append(f"{kind:<15}{self.within[kind]:>7}{done}{1000 * self.lasts(kind):>11.1f}")
        lines.append(f"{'between':<15}{self.within['']:>7}")
        return "\n".join(lines)


class Life:
    """One data directory, and what it must hold."""

    def __init__(self, folder: Path, rng: random.Random, tally: Tally) -> None:
        self._rng, self._tally = rng, tally
        self.directory, self._snapshots, self._old = folder / "data", folder / "snapshots", folder / "old"
        self._states: dict[str, States] = {LOBBY.name: {}, YARD.name: {}}
        self._free = dict(FIRST)
        self._erased = set[bytes]()
        self._receipts: list[AuditHead] = []
        self._kept: dict[str, int] = {}  # snapshots, with how many items they have of the lobby
        self._dropped = set[str]()
        make_old(self._old)

    def round(self, kind: Kind) -> None:
        """One child, one kill, one proof. Raises Broken."""
        seed = self._rng.getrandbits(32)
        told = Told(self._tally)
        killed_within(
            kind, Task(kind, seed, self.directory, self._snapshots, self._old, dict(self._free)), told, self._rng
        )
        self._tally.kills += 1
        for begun, acknowledged in told.ended:
            self._take(begun, acknowledged)
        for begun in told.open.values():
            self._tally.within[begun.kind] += 1
        if not told.open:
            self._tally.within[""] += 1
        self._prove(list(told.open.values()))

    def _take(self, begun: Begun, acknowledged: Acknowledged) -> None:
        """What was acknowledged is from now on expected."""
        if begun.kind == "snapshot":
            self._kept[acknowledged.about] = int(begun.about)
        elif begun.kind == "drop snapshot":
            self._drop(begun.about)
        elif begun.collection:
            self._change(begun)
            if begun.kind == "erase":
                self._receipts.append(AuditHead(acknowledged.number, acknowledged.hash))

    def _change(self, begun: Begun) -> None:
        name = begun.collection
        before, self._states[name] = self._states[name], after(self._states[name], begun.change)
        self._free[name] = max([self._free[name], *(number // 4 * 4 + 4 for number in begun.change)])
        if begun.kind == "erase":
            left = {state.person for state in self._states[name].values()}
            for number in begun.change:
                self._erased |= set(needles(number, before[number], name == LOBBY.name))
                if before[number].person not in left:
                    self._erased.add(before[number].person.encode())

    def _drop(self, snapshot: str) -> None:
        self._kept.pop(snapshot, None)
        self._dropped.add(snapshot)

    def _prove(self, unfinished: Sequence[Begun]) -> None:
        nowhere(self.directory, self._erased)  # what was killed has not brought back what was gone
        for begun in unfinished:
            if begun.kind == "migrate":
                self._prove_migrated(Path(begun.about))
            if begun.kind == "drop snapshot" and not (self._snapshots / begun.about).exists():
                self._drop(begun.about)
            elif begun.kind == "drop snapshot":
                self._kept.pop(begun.about, None)  # it may be there or not
        gallery = LocalGallery(self.directory, plan=PLAN, snapshots=self._snapshots)
        try:
            for collection in (LOBBY, YARD):
                gallery.put_collection(collection)
                self._prove_collection(gallery, collection.name, unfinished)
            whole(gallery)
            lines = {AuditHead(line.seq, line.hash) for line in gallery.audit.lines(limit=None)}
            require(lines.issuperset(self._receipts), "an erasure's line is not in the audit")
        finally:
            gallery.close()
        nowhere(self.directory, self._erased)
        snapshots_are_whole(self._snapshots, self._kept, self._dropped)

    def _prove_collection(self, gallery: LocalGallery, name: str, unfinished: Sequence[Begun]) -> None:
        """It is as it was, or as what was unfinished makes it; an erase that nobody was told of is asked for again."""
        before = self._states[name]
        changes = [begun for begun in unfinished if begun.collection == name]
        now = stands(gallery, name, [before, *(after(before, begun.change) for begun in changes)])
        for begun in changes:
            self._tally.done[begun.kind] += now
            if now or begun.kind == "erase":
                self._change(begun)
            if begun.kind == "erase":
                self._receipts.append(gallery.erase(name, ids(list(begun.change))).audit)
                stands(gallery, name, [self._states[name]])

    def _prove_migrated(self, directory: Path) -> None:
        gallery = LocalGallery(directory, plan=PLAN, snapshots=self._snapshots)
        try:
            for name, states in EXPECTED.items():
                stands(gallery, name, [states])
            whole(gallery)
        finally:
            gallery.close()
        shutil.rmtree(directory)

    def prove_restored(self) -> None:
        """No snapshot brings back what was erased after it was made. Raises Broken."""
        for snapshot in self._kept:
            restored = self.directory.with_name(f"restored-{snapshot}")
            restore_directory(self._snapshots / snapshot, restored, self._snapshots / LOG)
            nowhere(restored, self._erased)
            gallery = LocalGallery(restored, plan=PLAN, snapshots=self._snapshots)
            whole(gallery)
            gallery.close()
            shutil.rmtree(restored)


class Told:
    """What a child has told."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.open: dict[str, Begun] = {}  # by collection: each is one thread's
        self.ended: list[tuple[Begun, Acknowledged]] = []
        self.latest = 0.0  # when the last of it was said

    def take(self, message: Begun | Acknowledged) -> None:
        """In the order told."""
        self.latest = message.at
        if isinstance(message, Begun):
            self.open[message.collection] = message
        else:
            begun = self.open.pop(message.collection)
            self.ended.append((begun, message))
            self._tally.seconds[begun.kind].append(message.at - begun.at)

    def lasts(self, kind: Kind) -> float:
        """As the tally has it."""
        return self._tally.lasts(kind)

    def begun(self, kind: Kind) -> int:
        """How often this kind of work has begun."""
        return sum(b.kind == kind for b, _ in self.ended) + sum(b.kind == kind for b in self.open.values())


def killed_within(kind: Kind, task: Task, told: Told, rng: random.Random) -> None:
    """Run the child until this kind of work has begun some times, and kill it within that work or a little later."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([child.__name__])  # a child is there in milliseconds, and has one thread
    pipe, other_end = context.Pipe(duplex=False)
    process = context.Process(target=child.run, args=(task, other_end))
    process.start()
    other_end.close()
    try:
        turns, deadline = rng.randint(1, 8), time.monotonic() + _PATIENCE_S
        while told.begun(kind) < turns:
            require(pipe.poll(max(0, deadline - time.monotonic())), f"the child did not come to {kind!r}")
            told.take(pipe.recv())
        moment = told.latest + rng.uniform(0, 1.2) * told.lasts(kind)
        while (left := moment - time.perf_counter()) > 0:
            if pipe.poll(left):
                told.take(pipe.recv())
    finally:
        process.kill()
        process.join()
    for message in rest(pipe):
        told.take(message)


def rest(pipe: Connection) -> Iterator[Begun | Acknowledged]:
    """What is still in the pipe."""
    with pipe:
        try:
            while True:
                yield pipe.recv()
        except (EOFError, OSError):  # also amid a message: then what it tells of has not begun, or is not acknowledged
            return


def run(kills: int, seed: int, folder: Path, tally: Tally) -> None:
    """So many kills, each kind in turn. Raises Broken."""
    rng, kinds = random.Random(seed), cycle(KINDS)
    for number in count():
        life_folder = folder / f"life-{number}"
        life = Life(life_folder, rng, tally)
        for _ in range(min(ROUNDS, kills - tally.kills)):
            life.round(next(kinds))
        life.prove_restored()
        shutil.rmtree(life_folder)
        print(f"{tally.kills} kills, every promise held so far", file=sys.stderr)
        if tally.kills >= kills:
            return


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder, tally, begun = Path(tempfile.mkdtemp(prefix="reid-faults-")), Tally(), time.monotonic()
    try:
        run(given.kills, given.seed, folder, tally)
    except (Broken, ReidError, OSError) as error:
        sys.exit(f"{tally.table()}\nkill {tally.kills} of seed {given.seed}: {error}\nit is left in {folder}")
    shutil.rmtree(folder)
    print(f"{tally.table()}\n{tally.kills} kills in {time.monotonic() - begun:.0f} s; every promise held")


if __name__ == "__main__":
    main()
