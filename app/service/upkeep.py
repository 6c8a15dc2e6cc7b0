"""Upkeep: erasing with a receipt, snapshots and what comes out of them, checks, and what the audit tells."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from app.core.audit import AuditHead, AuditLine, Erasure
from app.core.jobs import Job
from app.core.records import Filter
from app.core.upkeep import Report, Snapshot
from app.errors import AuditBroken, CollectionExists, UnknownCollection, UnknownSnapshot
from app.ports import Store
from app.service.galleries import check_name
from app.service.jobs import Jobs
from app.service.jobs import Report as Tell

Answer = TypeVar("Answer")
SNAPSHOT, RESTORE, CHECK = "snapshot", "restore", "check"  # kinds of jobs


class Caretaker:
    """What keeps a store in order. What takes long is a job."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self.jobs = store, jobs
        self._erasing = asyncio.Lock()  # they take turns in the store: waiting there, each would hold a thread of all
        jobs.register(SNAPSHOT, self._snapshot)
        jobs.register(RESTORE, self._restore, resumable=True)
        jobs.register(CHECK, self._check)

    async def erase(self, collection: str, where: Filter) -> Erasure:
        """Remove the accepted items for good, and say who still has some of it. It goes on when the caller leaves."""
        return await asyncio.shield(self._erase(collection, where))

    async def snapshots(self) -> list[Snapshot]:
        """The newest first."""
        return await asyncio.to_thread(self._store.upkeep.snapshots)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove one, or forget one that cannot be reached. Raises UnknownSnapshot."""
        await asyncio.to_thread(self._store.upkeep.delete_snapshot, snapshot_id)

    async def snapshot(self, wait: float) -> Job:
        """The job that makes a snapshot, when it is done or after so many seconds."""
        return await self._ask(SNAPSHOT, {}, wait)

    async def restore(self, snapshot_id: str, collection: str, name: str, wait: float) -> Job:
        """The job that makes a new collection `name` of one in a snapshot.

        Raises UnknownSnapshot, UnknownCollection, CollectionExists, BadField for a name that cannot be one.
        """
        check_name(name, "as")
        found = {snapshot.id: snapshot for snapshot in await self.snapshots()}
        if snapshot_id not in found:
            raise UnknownSnapshot(snapshot_id)
        if found[snapshot_id].reachable and collection not in found[snapshot_id].collections:
            raise UnknownCollection(collection)
        if name in {one.name for one in await asyncio.to_thread(self._store.collections)}:
            raise CollectionExists(name)
        return await self._ask(RESTORE, {"snapshot": snapshot_id, "collection": collection, "as": name}, wait)

    async def check(self, quick: bool, wait: float) -> Job:
        """The job that looks whether all is whole."""
        return await self._ask(CHECK, {"quick": quick}, wait)

    async def audit(self, after: int, limit: int) -> tuple[list[AuditLine], int | None]:
        """Lines behind that number, and the number to continue behind; None at the end."""
        lines = await asyncio.to_thread(self._store.audit.lines, after, limit + 1)
        return lines[:limit], lines[limit - 1].seq if len(lines) > limit else None

    async def audit_about(self, collection: str, item_id: str | None, person_id: str | None) -> list[AuditLine]:
        """Lines about an item or a person, whether it is there or not."""
        return await asyncio.to_thread(self._store.audit.about, collection, item_id, person_id)

    async def verify_audit(self, told: AuditHead | None) -> AuditHead:
        """Walk the chain; told: a line that somebody remembers, which must be in it. Raises AuditBroken."""
        head = await asyncio.to_thread(self._store.audit.verify)
        if told is not None:
            lines = await asyncio.to_thread(self._store.audit.lines, told.seq - 1, 1)
            if not lines or lines[0].seq != told.seq or lines[0].hash != told.hash:
                raise AuditBroken(f"line {told.seq} of the audit is not the one with the hash {told.hash.hex()}")
        return head

    async def _erase(self, collection: str, where: Filter) -> Erasure:
        async with self._erasing:
            return await asyncio.to_thread(self._store.erase, collection, where)

    async def _ask(self, kind: str, params: Mapping[str, Any], wait: float) -> Job:
        job = await self.jobs.submit(kind, params)
        return await self.jobs.wait(job.id, wait)

    async def _snapshot(self, job: Job, tell: Tell) -> dict[str, Any]:
        upkeep = self._store.upkeep
        snapshot = await _in_thread(lambda stop: upkeep.snapshot(tell, stop))
        return snapshot_as_json(snapshot)

    async def _restore(self, job: Job, tell: Tell) -> dict[str, Any]:
        upkeep, said = self._store.upkeep, job.params

        def work(stop: Callable[[], bool]) -> dict[str, Any]:
            # The job's own instant: by it a job that was interrupted knows what it has begun.
            wanted = said["snapshot"], said["collection"], said["as"], job.created_at
            return asdict(upkeep.restore(*wanted, tell, stop))

        return {"collection": said["as"], **await _in_thread(work)}

    async def _check(self, job: Job, tell: Tell) -> dict[str, Any]:
        upkeep, quick = self._store.upkeep, bool(job.params["quick"])
        return report_as_json(await _in_thread(lambda stop: upkeep.check(quick, stop)))


def snapshot_as_json(snapshot: Snapshot) -> dict[str, Any]:
    """As a job's result and the API have it."""
    return {
        **asdict(snapshot),
        "created_at": snapshot.created_at.isoformat().replace("+00:00", "Z"),
    }  # as pydantic does


def report_as_json(report: Report) -> dict[str, Any]:
    """As a job's result and the API have it."""
    return {"ok": report.ok, "findings": [asdict(finding) for finding in report.findings]}


async def _in_thread(work: Callable[[Callable[[], bool]], Answer]) -> Answer:
    """Work that is told to stop when the task is cancelled, and waited for: it has to clear up behind itself."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await task
        raise
