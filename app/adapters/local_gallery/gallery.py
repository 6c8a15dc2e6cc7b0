"""The local gallery: writes go to the database and into new views; searches read the view and the database of one moment."""

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

from app.adapters.checks import (
    checked_collection,
    checked_crops,
    checked_items,
    checked_retention,
    in_utc,
    units_and_norms,
)
from app.adapters.local_gallery import erase
from app.adapters.local_gallery.audit import LocalAudit
from app.adapters.local_gallery.calibrations import LocalCalibrations
from app.adapters.local_gallery.commits import Commits, Views
from app.adapters.local_gallery.database import FILE, Database
from app.adapters.local_gallery.deriving import derived
from app.adapters.local_gallery.index_files import IndexFiles
from app.adapters.local_gallery.items import Items
from app.adapters.local_gallery.jobs import LocalJobs
from app.adapters.local_gallery.keeper import Keeper
from app.adapters.local_gallery.lock import DirectoryLock
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.reads import Reads
from app.adapters.local_gallery.restore import WORKSHOP
from app.adapters.local_gallery.rows import COLLECTION_COLUMNS, deflate, row_to_collection
from app.adapters.local_gallery.snapshot import require_outside, snapshots_beside
from app.adapters.local_gallery.truth import RowMissing
from app.adapters.local_gallery.upkeep import LocalUpkeep
from app.adapters.local_gallery.view import View
from app.adapters.local_gallery.writing import Erased, Writing
from app.core.audit import Erasure
from app.core.jobs import Progress
from app.core.preprocess import Crop
from app.core.records import (
    Collection,
    Filter,
    IndexFacts,
    Item,
    Match,
    Merge,
    Outcome,
    Person,
    PersonMatch,
    PersonScore,
    Retention,
    check_text,
)
from app.errors import NotReady, StorageFailed, UnknownCollection
from app.ports import Floats

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
_LEAVE_S = 10.0  # as long as the server waits for requests when it stops


def _now() -> datetime:
    return datetime.now(UTC)


class LocalGallery:
    """`Store` in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        open_database: Callable[[Path], Database] = Database,
        derive: bool = True,
        plan: IndexPlan = IndexPlan(),
        clock: Callable[[], datetime] = _now,
        snapshots: Path | None = None,
    ) -> None:
        """Own the directory. derive=False: `derive` is called later. snapshots: their folder; None: `snapshots_beside`.

        Raises DataDirectoryBusy, StorageFailed, BadSettings.
        """
        self._directory, self._plan, self._clock = directory, plan, clock
        folder = snapshots or snapshots_beside(directory)
        require_outside(folder, directory)
        self._lock = DirectoryLock(directory)
        shutil.rmtree(directory / WORKSHOP, ignore_errors=True)  # of a restore that was killed
        try:
            self._database = open_database(directory / FILE)
        except BaseException:
            self._lock.release()
            raise
        self._views: Views = {}
        self._deriving: Progress | None = Progress()
        self._closed = threading.Lock()  # closing happens once
        self._files = IndexFiles(directory)
        self._commits = Commits(self._database, lambda: self._views, self._publish)
        self._keeper = Keeper(self._files, plan, self._view, self._commits.amend)
        self._items = Items(self._database)
        self._reads = Reads(self._database, self._view, plan)
        self.jobs = LocalJobs(self._database)
        self.calibrations = LocalCalibrations(self._database, self._view)
        self.audit = LocalAudit(self._database)
        self.upkeep = LocalUpkeep(directory, folder, self._database, self._ready, self._write, clock)
        if derive:
            try:
                self.derive()
            except BaseException:
                self.close()
                raise

    @property
    def deriving(self) -> Progress | None:
        """As the port says."""
        return self._deriving

    def derive(self) -> None:
        """As the port says. Raises StorageFailed."""
        try:
            with self._database.reading() as db:
                db.execute("begin")
                try:
                    views = self._derived(db)
                finally:
                    db.execute("rollback")
        except (RowMissing, ValueError) as error:
            raise StorageFailed(f"the database {self._directory / FILE} is damaged: {error}; restore a copy") from error
        except OSError as error:
            raise StorageFailed(f"the index files: {error.strerror or error}") from error
        self._views, self._deriving = views, None
        self.upkeep.go_on()
        for name in views:
            self._keeper.changed(name)
        with self._database.reading() as db:
            unfinished = erase.is_unfinished(db)
        if unfinished:
            self._finish_erase(list(views))

    def put_collection(self, collection: Collection) -> Collection:
        """As the port says."""
        checked = checked_collection(collection)
        return self._write(lambda writing: writing.put_collection(checked))

    def collection(self, name: str) -> Collection:
        """As the port says."""
        return self._view(name).collection

    def collections(self) -> list[Collection]:
        """As the port says."""
        return [view.collection for _, view in sorted(self._ready().items())]

    def delete_collection(self, name: str) -> None:
        """As the port says."""
        self._keeper.forget(self._write(lambda writing: writing.delete_collection(name)))
        self._database.empty_log()

    def keep(self, name: str, retention: Retention) -> Collection:
        """As the port says."""
        checked = checked_retention(retention)
        return self._write(lambda writing: writing.keep(name, checked))

    def count(self, name: str) -> int:
        """As the port says."""
        return self._view(name).count

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        """As the port says. A replaced item's crop goes with it, also where none comes in its place."""
        collection = self.collection(name)
        kept = checked_items(items)
        units, norms = units_and_norms(vectors, len(kept), collection.dim)
        crops = checked_crops(crops, len(kept)) if collection.keep_crops else None
        pixels = list(repeat(None, len(kept))) if crops is None else [deflate(crop) for crop in crops]
        return self._write(lambda writing: writing.upsert(collection, kept, units, norms, pixels), name)

    def correct(self, name: str, item_id: str, changes: Mapping[str, Any]) -> Item:
        """As the port says."""
        return self._write(lambda writing: writing.correct(name, item_id, changes), name)

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """As the port says."""
        return self._items.get(self._view(name), ids)

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """As the port says."""
        return self._items.vectors(self._view(name), ids)

    def crop(self, name: str, item_id: str) -> Crop | None:
        """As the port says."""
        return self._items.crop(self._view(name), item_id)

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        """As the port says. Raises UnknownItem where there is no item `after`."""
        return self._items.scan(self._view(name), where, after, limit)

    def delete(self, name: str, where: Filter) -> int:
        """As the port says."""
        removed = self._write(lambda writing: writing.delete(name, where), name)
        if removed.items:
            self._database.empty_log()
        return len(removed.items)

    def erase(self, name: str, where: Filter) -> Erasure:
        """As the port says. Raises StorageFailed also where the rows are gone and the rest could not be overwritten."""

        def work(writing: Writing) -> tuple[Erased, datetime]:
            erased = writing.erase(name, where)
            self.jobs.beware(writing.db, erased.names, writing.now)
            erase.begin(writing.db)
            return erased, writing.now

        with self.upkeep.turn:
            erased, now = self._write(work, name)
            recorded = self.upkeep.record_erasures()  # first: a restore must know it, whatever happens here
            self._leave_no_trace([name])
            erasure = Erasure(erased.count, now, erased.audit, recorded=recorded)
            return self.upkeep.receipt(erasure, name, erased.ids, erased.whole)

    def expire(self, name: str, now: datetime) -> int:
        """As the port says."""
        count = self._write(lambda writing: writing.expire(name), name, in_utc(now))
        if count:
            self._database.empty_log()
        return count

    def persons(self, name: str, after: str | None = None, limit: int = 100) -> list[Person]:
        """As the port says."""
        check_text("after", after or "")
        return self._items.persons(self._view(name), after, limit)

    def person(self, name: str, person_id: str) -> Person:
        """As the port says."""
        return self._items.person(self._view(name), person_id)

    def move(self, name: str, where: Filter, person_id: str | None) -> int:
        """As the port says."""
        check_text("person_id", person_id or "")
        return self._write(lambda writing: writing.move(name, where, person_id), name)

    def rename(self, name: str, person_id: str, new: str) -> int:
        """As the port says."""
        check_text("person_id", new)
        return self._write(lambda writing: writing.rename(name, person_id, new), name)

    def merge(self, name: str, person_id: str, into: str) -> Merge:
        """As the port says."""
        return self._write(lambda writing: writing.merge(name, person_id, into), name)

    def undo_merge(self, name: str) -> Merge:
        """As the port says."""
        return self._write(lambda writing: writing.undo_merge(name), name)

    def search(self, name: str, queries: Floats, k: int, where: Filter, exact: bool = False) -> list[list[Match]]:
        """As the port says."""
        return self._reads.search(name, queries, k, where, exact)

    def shortlist(
        self, name: str, crops: Floats, k: int, where: Filter, exact: bool = False
    ) -> tuple[list[Match], Floats]:
        """As the port says."""
        return self._reads.shortlist(name, crops, k, where, exact)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid", exact: bool = False
    ) -> list[PersonMatch]:
        """As the port says."""
        return self._reads.search_persons(name, crops, k, where, score, exact)

    def index(self, name: str) -> IndexFacts:
        """As the port says."""
        return self._view(name).facts(self._keeper.pending(name))

    def close(self) -> None:
        """As the port says. An erase, a check or a snapshot that is at work has ten seconds to end."""
        with self._closed:
            ended = self.upkeep.turn.acquire(timeout=_LEAVE_S)
            try:
                self._keeper.close()
                self._database.close()
                self._lock.release()
            finally:
                if ended:
                    self.upkeep.turn.release()

    def _finish_erase(self, names: Sequence[str]) -> None:
        """One that a kill or a full disk cut off: its rows were gone, its traces were not."""
        try:
            with self.upkeep.turn:
                self._leave_no_trace(names)
        except StorageFailed as error:  # searches can go on; the next start tries again
            log.error("an erase that was cut off is still not finished: %s", error)

    def _leave_no_trace(self, names: Sequence[str]) -> None:
        """Of rows that are gone from these collections, in anything that was ever written."""
        for name in names:
            with suppress(UnknownCollection):  # deleted meanwhile, with all that is derived from it
                self._keeper.purge(name)
        self._database.rewrite(erase.rewrite_items)
        self._database.empty_log(surely=True)
        with self._database.transaction() as db:
            erase.end(db)

    def _write(self, work: Callable[[Writing], Answer], name: str | None = None, now: datetime | None = None) -> Answer:
        """A write; `name`: of the collection whose view it changes."""
        self._ready()
        answer = self._commits.run(lambda db, views: work(Writing(db, views, now or self._clock())))
        if name is not None:
            self._keeper.changed(name)
        return answer

    def _publish(self, views: Views) -> None:
        self._views = views  # a reader has the old dict or the new one, whole

    def _ready(self) -> Views:
        if self._deriving is not None:
            p = self._deriving
            raise NotReady(f"the galleries are being made ready for searches: {p.done} of {p.total} items")
        return self._views

    def _view(self, name: str) -> View:
        try:
            return self._ready()[name]
        except KeyError as error:
            raise UnknownCollection(name) from error

    def _derived(self, db: Any) -> Views:
        rows = db.execute(f"select {COLLECTION_COLUMNS}, id from collection").fetchall()
        (total,) = db.execute("select count(*) from item").fetchone()
        self._files.keep_collections({row[-1] for row in rows})
        done = 0

        def report(more: int) -> None:
            nonlocal done
            done += more
            self._deriving = Progress(done, total)

        report(0)
        collections = [(row_to_collection(row[:-1]), row[-1]) for row in rows]
        return {c.name: derived(db, c, number, self._files, self._plan, report) for c, number in collections}
