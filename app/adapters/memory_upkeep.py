"""`Upkeep` of a store in memory: there is nothing to copy to, and nothing on a disk to check."""

from collections.abc import Callable
from datetime import datetime

from app.adapters.memory_audit import MemoryAudit
from app.core.upkeep import Finding, Report, Restored, Snapshot
from app.errors import AuditBroken, StorageFailed, UnknownSnapshot


class MemoryUpkeep:
    """As the port says, without snapshots."""

    def __init__(self, audit: MemoryAudit) -> None:
        self._audit = audit

    def snapshot(self, tell: Callable[[int, int], None], stop: Callable[[], bool]) -> Snapshot:
        """Always refused."""
        raise StorageFailed("a gallery in memory has no snapshots")

    def snapshots(self) -> list[Snapshot]:
        """None."""
        return []

    def delete_snapshot(self, snapshot_id: str) -> None:
        """There is none."""
        raise UnknownSnapshot(snapshot_id)

    def restore(
        self,
        snapshot_id: str,
        collection: str,
        name: str,
        now: datetime,
        tell: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> Restored:
        """There is no snapshot."""
        raise UnknownSnapshot(snapshot_id)

    def check(self, quick: bool, stop: Callable[[], bool]) -> Report:
        """The audit is all that can be wrong."""
        try:
            return Report((Finding("audit", self._audit.verify().seq),))
        except AuditBroken as error:
            return Report((Finding("audit", 0, (str(error),)),))
