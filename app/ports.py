"""The doors of the house, for those who write an adapter.

An adapter implements one of these protocols, keeps its library to itself (imported nowhere else), and passes the
contract suite in `tests/contracts/`. It raises errors of `app.errors` only; anything else is taken for a fault of ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.core.audit import AuditHead, AuditLine, Erasure
from app.core.calibrated import By, Calibrated
from app.core.jobs import Job, Progress, State
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
)
from app.core.upkeep import Report, Restored, Snapshot

Floats = npt.NDArray[np.float32]
Crops = npt.NDArray[np.uint8] | Sequence[Crop]  # an array [n, 256, 128, 3], or n crops that lie apart
__all__ = [
    "AuditTrail", "CalibrationStore", "Crop", "Crops", "Embedder", "Floats", "GalleryStore", "JobStore", "RunTimes", "Store",
    "Upkeep", "batches",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Of one batch on a device: milliseconds of the run alone, and of the run with the copies to and from the device."""

    execute_ms: float
    copied_ms: float


class Embedder(Protocol):
    """Something that turns crops into raw vectors on one device.

    It is called from one thread at a time. How pixels are normalised (on the host or on the device) is its own affair.
    A row of the answer depends on its crop alone, not on its neighbours in the batch.
    """

    @property
    def fingerprint(self) -> str:
        """Names everything that shapes a vector: weights, preprocessing, variant. Two embedders with the same one agree."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes it runs without waste, ascending. It must accept any size up to the last."""

    @property
    def last_run(self) -> RunTimes | None:
        """How long the last batch took on the device; None before the first one, and where it cannot be told."""

    def embed(self, crops: Crops) -> Floats:
        """n crops uint8 [256, 128, 3] to raw (not normalised) float32 [n, dim], in order.

        Raises DeviceFailed; DeviceLost when no further call can succeed and another embedder is to be opened instead.
        """

    def close(self) -> None:
        """Give the device back. No call follows."""


class JobStore(Protocol):
    """Jobs in the order in which they were made. No job runs here: this is what is left of them after a restart.

    It may be called from several threads; what a call acknowledges is on disk, and a call that raises has changed nothing.
    Params and result come back as JSON has them (a tuple is a list), half a surrogate pair in any text as `?`, instants
    in UTC. Raises UnknownJob for an id it does not hold, StorageFailed when the disk or the database refuses; ValueError or
    TypeError for what only a mistake of ours can hand it: NaN, an object without JSON, an instant without a zone.
    """

    def put_job(self, job: Job) -> None:
        """Add the job, or replace the one of its id, which keeps its place in the order.

        A job that an erase has emptied stays as it is; one that ran then and brings what was erased is emptied too.
        """

    def job(self, job_id: str) -> Job:
        """The job of that id, with its result."""

    def jobs(
        self,
        states: Set[State] | None = None,
        after: str | None = None,
        limit: int | None = 100,
        kind: str | None = None,
    ) -> list[Job]:
        """The newest first, without their results: those in one of the states and of the kind (None: any), behind the job
        `after` (an id).
        """

    def delete_job(self, job_id: str) -> None:
        """Remove the job."""

    def prune_jobs(self, keep: int, ended_before: datetime) -> int:
        """Of the jobs that have ended keep the newest `keep`, and of these none that ended earlier; returns how many went."""


class CalibrationStore(Protocol):
    """What was learnt of each collection's scores; a calibration goes with its collection.

    Threads, disk and errors as for GalleryStore.
    """

    def put_calibration(self, collection: str, calibrated: Calibrated) -> None:
        """Keep it, in the place of the one for the same kind of search (`calibrated.by`)."""

    def calibration(self, collection: str, by: By) -> Calibrated | None:
        """The one for that kind of search, or None where none was made."""


class GalleryStore(Protocol):
    """Collections of items with their vectors.

    It may be called from several threads. **What a call acknowledges by returning is on disk**; a call that raises has
    changed nothing. Vectors come in raw; the store keeps each as a unit vector with its raw norm. Scores are cosines, best
    first; equal scores keep the order in which the items were first added. Raises UnknownCollection for a name it does not
    hold, BadField for text that cannot be stored, StorageFailed when the disk or the database refuses; ValueError for what
    only a mistake of ours can hand it: arrays of another shape, an instant without a zone.
    """

    def put_collection(self, collection: Collection) -> Collection:
        """Create the collection, or return the one of that name as it is stored (its settings are not changed)."""

    def collection(self, name: str) -> Collection:
        """The collection of that name."""

    def collections(self) -> list[Collection]:
        """All collections, by name."""

    def delete_collection(self, name: str) -> None:
        """Remove a collection with everything in it."""

    def count(self, name: str) -> int:
        """How many items the collection holds."""

    def upsert(
        self, name: str, items: Sequence[Item], vectors: Floats, crops: Sequence[Crop] | None = None
    ) -> list[Outcome]:
        """Add items, or replace those of the same id, in one transaction; one outcome per item, in order.

        vectors: raw float32 [n, dim], finite, not zero. crops: uint8 [256, 128, 3] each, or None where the collection
        keeps none. An item that is stored already, equal in every field, stays as it is: "unchanged". A replaced item
        keeps its place in the order. When an id occurs twice in one call, the later one counts.
        """

    def correct(self, name: str, item_id: str, changes: Mapping[str, Any]) -> Item:
        """Change what these fields say of an item, and nothing that another call changed; its vector, crop and place stay.

        Returns the item as it is then. Raises UnknownItem, BadField.
        """

    def get(self, name: str, ids: Sequence[str]) -> list[Item | None]:
        """The items of these ids, in order; None where there is none."""

    def vectors(self, name: str, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """Unit vectors float32 [n, dim] and raw norms float32 [n] of these ids, in order. Raises UnknownItem."""

    def crop(self, name: str, item_id: str) -> Crop | None:
        """The kept crop of an item, or None where none was kept. Raises UnknownItem."""

    def scan(self, name: str, where: Filter, after: str | None = None, limit: int = 100) -> list[Item]:
        """The first `limit` items that the filter accepts, in the order added, behind the item `after` (an id)."""

    def delete(self, name: str, where: Filter) -> int:
        """Remove the items that the filter accepts; returns how many. What is derived from them follows in the background."""

    def erase(self, name: str, where: Filter) -> Erasure:
        """Remove the items that the filter accepts, and return when no byte of them is left in anything that the store wrote.

        Jobs and calibrations that name them go too. Where nothing is accepted, nothing is erased and the audit says so.
        """

    def keep(self, name: str, retention: Retention) -> Collection:
        """Change how long items stay. Nothing is removed yet: see `expire`."""

    def expire(self, name: str, now: datetime) -> int:
        """Remove items that have stayed for as long as the collection keeps them; returns how many."""

    def persons(self, name: str, after: str | None = None, limit: int = 100) -> list[Person]:
        """Persons by id (as text), behind the person `after`, which need not be there. Items without a person are nobody's."""

    def person(self, name: str, person_id: str) -> Person:
        """One of them. Raises UnknownPerson."""

    def move(self, name: str, where: Filter, person_id: str | None) -> int:
        """Make the accepted items this person's, or nobody's; returns how many changed. Vectors and order stay."""

    def rename(self, name: str, person_id: str, new: str) -> int:
        """Call a person by a name that is nobody's; returns how many items changed. Raises UnknownPerson, PersonExists."""

    def merge(self, name: str, person_id: str, into: str) -> Merge:
        """Make all items of one person another's, and remember which until the next merge. Raises UnknownPerson for either."""

    def undo_merge(self, name: str) -> Merge:
        """Give those items of the last merge back that are still where it put them. Raises NothingToUndo."""

    def search(self, name: str, queries: Floats, k: int, where: Filter, exact: bool = False) -> list[list[Match]]:
        """For each unit query vector float32 [n, dim] its k best accepted items (fewer where fewer are accepted).

        Scores are exact. A large gallery may miss a few of the best, unless exact is asked for; here and below.
        """

    def shortlist(
        self, name: str, crops: Floats, k: int, where: Filter, exact: bool = False
    ) -> tuple[list[Match], Floats]:
        """The k best accepted items for crops of one person, unit float32 [m, dim], and their unit vectors float32 [n, dim].

        An item's score is its best over the crops. Items and vectors are of one moment, whatever is written meanwhile.
        """

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid", exact: bool = False
    ) -> list[PersonMatch]:
        """The k best persons for crops of one person, unit float32 [m, dim], each once.

        A person is whoever has an accepted item; items without a person are nobody's. Its centroid is the mean of the raw
        vectors of its accepted items, and of no other (`app.core.centroids`). A score is the best over the crops; persons
        with equal ones keep the order in which their first accepted items were added.
        """

    def index(self, name: str) -> IndexFacts:
        """What answers searches of a collection at this moment."""

    def close(self) -> None:
        """Give the data directory back. No call follows."""


class AuditTrail(Protocol):
    """What was done to items and persons: lines that are only added, each chained to the one before it by a hash."""

    def lines(self, after: int = 0, limit: int | None = 100) -> list[AuditLine]:
        """In order, behind the line of that number."""

    def about(self, collection: str, item_id: str | None = None, person_id: str | None = None) -> list[AuditLine]:
        """Lines that concern an item or a person of a collection, whether it is still there or not."""

    def verify(self) -> AuditHead:
        """Walk the whole chain; its last line's number and hash. Raises AuditBroken at the first line that does not fit."""


class Upkeep(Protocol):
    """Copies of all that a store holds, and whether what it holds is whole.

    Erasures, snapshots, restores and checks take turns. What a call is to tell it tells as (done, of about so many); when `stop`
    says so it ends with Interrupted, and leaves nothing. Raises StorageFailed.
    """

    def snapshot(self, tell: Callable[[int, int], None], stop: Callable[[], bool]) -> Snapshot:
        """Copy everything as it is at one moment, while writes go on: whole or absent."""

    def snapshots(self) -> list[Snapshot]:
        """The newest first; also those that cannot be reached."""

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove one, or forget one that cannot be reached. Raises UnknownSnapshot."""

    def restore(
        self,
        snapshot_id: str,
        collection: str,
        name: str,
        now: datetime,
        tell: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> Restored:
        """A collection of a snapshot as a new one of this name, without what was erased since.

        A call that was killed is ended by one with the same `now`. Raises UnknownSnapshot, UnknownCollection,
        CollectionExists.
        """

    def check(self, quick: bool, stop: Callable[[], bool]) -> Report:
        """Look whether all is whole. quick: at a sample of what takes long."""


class Store(GalleryStore, Protocol):
    """All that one data directory holds. `close` closes all of it."""

    def derive(self) -> None:
        """Make ready what searches read; until then they raise NotReady. It may take a while: see `deriving`."""

    @property
    def deriving(self) -> Progress | None:
        """How far `derive` is, in items; None when it has ended."""

    @property
    def audit(self) -> AuditTrail:
        """What was done."""

    @property
    def upkeep(self) -> Upkeep:
        """Snapshots and checks."""

    @property
    def jobs(self) -> JobStore:
        """The jobs."""

    @property
    def calibrations(self) -> CalibrationStore:
        """The collections' calibrations."""


def batches(embedder: Embedder, crops: npt.NDArray[np.uint8]) -> Iterator[Floats]:
    """Embed any number of crops in pieces that the embedder accepts."""
    size = embedder.batch_sizes[-1]
    for start in range(0, len(crops), size):
        yield embedder.embed(crops[start : start + size])
