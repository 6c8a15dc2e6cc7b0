"""Jobs and calibrations in memory, as obvious as it gets: the reference for `JobStore` and `CalibrationStore`."""

import threading
from collections.abc import Callable, Set
from dataclasses import replace
from datetime import datetime

from app.adapters.checks import checked_calibrated, checked_job
from app.core.calibrated import By, Calibrated
from app.core.erasing import Names, cleared, named, parsed
from app.core.jobs import Job, State
from app.errors import UnknownJob


class MemoryJobs:
    """`JobStore`: a dict, whose order is that in which its keys first came."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # one call at a time sees and changes the dict
        self._jobs: dict[str, Job] = {}
        self._cleared: set[str] = set()  # ids of jobs that an erase has emptied
        self._erased: list[tuple[datetime, Names]] = []

    def put_job(self, job: Job) -> None:
        """As the port says."""
        kept = checked_job(job)
        with self._lock:
            if job.id not in self._cleared:
                self._jobs[job.id] = kept
            for at, names in self._erased:
                self._clear(kept.id, names, at)

    def erase(self, names: Names, now: datetime) -> None:
        """Empty the jobs that tell of these, and those that were there by now and will."""
        with self._lock:
            for job_id in self._jobs:
                self._clear(job_id, names, now)
            self._erased.append((now, names))

    def _clear(self, job_id: str, names: Names, now: datetime) -> None:
        job = self._jobs[job_id]
        if job_id not in self._cleared and job.created_at <= now and named(job, names):
            self._jobs[job_id] = cleared(job, now)
            self._cleared.add(job_id)

    def job(self, job_id: str) -> Job:
        """As the port says."""
        try:
            return self._jobs[job_id]
        except KeyError as error:
            raise UnknownJob(job_id) from error

    def jobs(
        self,
        states: Set[State] | None = None,
        after: str | None = None,
        limit: int | None = 100,
        kind: str | None = None,
    ) -> list[Job]:
        """As the port says."""
        with self._lock:
            newest = list(reversed(self._jobs.values()))
            start = 0 if after is None else newest.index(self.job(after)) + 1
        wanted = [job for job in newest[start:] if (states is None or job.state in states) and kind in (None, job.kind)]
        return [replace(job, result=None) for job in wanted[:limit]]

    def delete_job(self, job_id: str) -> None:
        """As the port says."""
        with self._lock:
            del self._jobs[self.job(job_id).id]
            self._cleared.discard(job_id)

    def prune_jobs(self, keep: int, ended_before: datetime) -> int:
        """As the port says."""
        with self._lock:
            ended = [(job.id, job.ended_at) for job in reversed(self._jobs.values()) if job.ended_at is not None]
            doomed = [job_id for place, (job_id, when) in enumerate(ended) if place >= keep or when < ended_before]
            for job_id in doomed:
                del self._jobs[job_id]
        return len(doomed)


class MemoryCalibrations:
    """`CalibrationStore`: a dict by collection and kind of search."""

    def __init__(self, lock: threading.RLock, known: Callable[[str], object]) -> None:
        """lock: the collections'. known: raises UnknownCollection for a name that the store does not hold."""
        self._lock, self._known = lock, known
        self._kept: dict[tuple[str, By], Calibrated] = {}

    def put_calibration(self, collection: str, calibrated: Calibrated) -> None:
        """As the port says."""
        kept = checked_calibrated(calibrated)
        with self._lock:
            self._known(collection)
            self._kept[collection, kept.by] = kept

    def calibration(self, collection: str, by: By) -> Calibrated | None:
        """As the port says."""
        with self._lock:
            self._known(collection)
            return self._kept.get((collection, by))

    def erase(self, collection: str, names: Names) -> None:
        """Forget what names these. The caller holds the lock."""
        for key, kept in list(self._kept.items()):
            if key[0] == collection and names.within(parsed(kept.data)):
                del self._kept[key]

    def forget(self, collection: str) -> None:
        """The collection is gone. The caller holds the lock."""
        self._kept = {key: kept for key, kept in self._kept.items() if key[0] != collection}
