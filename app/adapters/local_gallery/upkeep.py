"""`Upkeep` of the local gallery: its snapshots, and checks; and what an erasure tells of them."""

import threading
from collections.abc import Callable, Set
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from app.adapters.local_gallery.check import check
from app.adapters.local_gallery.commits import Views
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.erasures import LOG, ErasureLog
from app.adapters.local_gallery.restore import Write, restore_collection
from app.adapters.local_gallery.snapshot import Snapshots, Stop, Tell
from app.core.audit import Erasure
from app.core.upkeep import Report, Restored, Snapshot


class LocalUpkeep:
    """As the port says."""

    def __init__(
        self,
        directory: Path,
        folder: Path,
        database: Database,
        views: Callable[[], Views],
        write: Write,
        clock: Callable[[], datetime],
    ) -> None:
        """folder: of the snapshots. views: raises NotReady."""
        # A snapshot or a check reads for as long as it takes, and an erase has to empty the log that they read; and what
        # is erased while a snapshot is restored must not come back with it.
        self.turn = threading.Lock()
        self._directory, self._database, self._views, self._write = directory, database, views, write
        self._snapshots = Snapshots(folder, directory, database, clock)

    def snapshot(self, tell: Tell, stop: Stop) -> Snapshot:
        """As the port says."""
        with self.turn:
            return self._snapshots.take(tell, stop)

    def snapshots(self) -> list[Snapshot]:
        """As the port says."""
        return self._snapshots.all()

    def delete_snapshot(self, snapshot_id: str) -> None:
        """As the port says."""
        with self.turn:
            self._snapshots.delete(snapshot_id)

    def restore(self, snapshot_id: str, collection: str, name: str, now: datetime, tell: Tell, stop: Stop) -> Restored:
        """As the port says. The copy that is worked on lies beside the snapshot for as long as it takes."""
        with self.turn:
            source = self._snapshots.folder_of(snapshot_id)
            self._snapshots.record_erasures()
            recorded = ErasureLog(source.parent / LOG).lines()
            workshop = self._snapshots.workshop(source)
            return restore_collection(source, workshop, recorded, (collection, name, now), self._write, tell, stop)

    def check(self, quick: bool, stop: Stop) -> Report:
        """As the port says."""
        with self.turn:
            return check(self._database, self._directory, self._views, quick, stop)

    def go_on(self) -> None:
        """End what a process left that was killed: behind an erase, or in the middle of a snapshot or a restore."""
        self._snapshots.clear_away()
        self._snapshots.record_erasures()

    def record_erasures(self) -> bool | None:
        """See `Snapshots`."""
        return self._snapshots.record_erasures()

    def receipt(self, erasure: Erasure, collection: str, ids: Set[str], persons: Set[str]) -> Erasure:
        """With the snapshots that still hold some of it."""
        held = self._snapshots.holding(collection, ids, persons)
        return replace(erasure, snapshots=held.holding, unreachable=held.unreachable)
