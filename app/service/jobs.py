"""Long work, one piece at a time: submitted, watched, waited for, cancelled; what became of it outlives the process.

    jobs.register("evaluate", evaluate)                   # async def evaluate(job, report) -> a JSON object
    job = await jobs.submit("evaluate", {"folder": "market"})
    job = await jobs.wait(job.id, seconds=30)             # as it is then

A job seen ended is on disk. A handler that fails, goes on when it is cancelled, or meets a full disk does not end the runner.
"""

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from app.core.jobs import STOPPED, Failure, Job, Progress, State, storable, to_json
from app.errors import BadInput, NotReady, Overloaded, ReidError, StorageFailed, Unavailable
from app.ports import JobStore

log = logging.getLogger(__name__)
MOST_QUEUED = 100
KEPT, KEPT_FOR = 1000, timedelta(days=30)  # of the jobs that have ended
_STOP_S = 10.0  # how long a cancel waits for what it has cancelled
_COME_BACK_S = 30  # nobody knows how long a job takes; often enough to find room, seldom enough to disturb nobody


class Report(Protocol):
    """How a handler says how far it is; from any thread, as often as it likes."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """So many steps of so many (0: unknown), and what it does now."""


Handler = Callable[[Job, Report], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Kind:
    handler: Handler
    resumable: bool


class _Live:
    """A job that waits or runs in this process, or whose end the store did not take."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.changed = asyncio.Event()  # set when `job` is another; what it then is has an event of its own
        self.task: asyncio.Task[Mapping[str, Any]] | None = None
        self.cancelled = False

    def become(self, job: Job) -> None:
        """Wake whoever waits for a change."""
        self.job = job
        self.changed.set()
        self.changed = asyncio.Event()


class Jobs:
    """The queue and its one runner. All methods belong to the event loop, but for `counts` and a handler's `report`."""

    def __init__(
        self, store: JobStore, clock: Callable[[], datetime], save_every_s: float = 5.0, watch_every_s: float = 0.25
    ) -> None:
        """save_every_s: how often progress goes to disk. watch_every_s: how often a watcher is told, at most."""
        self._store, self._clock = store, clock
        self._save_every_s, self._watch_every_s = save_every_s, watch_every_s
        self._kinds: dict[str, _Kind] = {}
        self._live: dict[str, _Live] = {}
        self._queue: deque[_Live] = deque()
        self._filled = asyncio.Event()
        self._turn = asyncio.Lock()  # one write at a time, in the order of what happened
        self._running: _Live | None = None
        self._runner: asyncio.Task[None] | None = None
        self._released = self._closing = False

    def register(self, kind: str, handler: Handler, resumable: bool = False) -> None:
        """Who does jobs of a kind. resumable: one that was interrupted begins anew, where others fail.

        A handler is cancelled as any task is; what it does in threads goes on until it looks itself. What it returns is
        JSON, and holds names and figures only.
        """
        self._kinds[kind] = _Kind(handler, resumable)

    async def submit(self, kind: str, params: Mapping[str, Any]) -> Job:
        """Queue a job. Raises Overloaded where too many wait, NotReady at the end, StorageFailed."""
        if kind not in self._kinds:
            raise RuntimeError(f"nobody does jobs of kind {kind!r}")
        job = Job(secrets.token_hex(12), kind, _as_json(params), self._clock())
        return await asyncio.shield(self._enter(job))  # a caller who leaves now must not leave a row that nobody runs

    async def get(self, job_id: str) -> Job:
        """A job as it is now, with its result. Raises UnknownJob."""
        live = self._live.get(job_id)
        return live.job if live else await asyncio.to_thread(self._store.job, job_id)

    async def page(
        self, states: Set[State] | None, after: str | None, limit: int, kind: str | None = None
    ) -> tuple[list[Job], str | None]:
        """The newest first, without results, and the id to continue behind, None at the end. Raises UnknownJob."""
        jobs = await asyncio.to_thread(self._store.jobs, states, after, limit + 1, kind)
        cursor = jobs[limit - 1].id if len(jobs) > limit else None
        return [self._live[job.id].job if job.id in self._live else job for job in jobs[:limit]], cursor

    async def wait(self, job_id: str, seconds: float) -> Job:
        """The job when it has ended, or as it is after so many seconds. Raises UnknownJob."""
        live = self._live.get(job_id)
        if live is None:
            return await self.get(job_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (live.job.ended or self._released):
                    await live.changed.wait()
        return live.job

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """The job as it is, then whenever it has changed, to its end. Raises UnknownJob at once, not on the way."""
        live = self._live.get(job_id)
        return _once(await self.get(job_id)) if live is None else self._changes(live)

    async def delete(self, job_id: str) -> Job | None:
        """Cancel a job that has not ended, and return it; remove one that has, and return None. Raises UnknownJob.

        A handler that goes on all the same is waited for a while; the job is returned as it then is.
        """
        live = self._live.get(job_id)
        if live is None or live.job.ended:
            return await self._delete_stored(job_id)
        if not live.cancelled:
            live.cancelled = True
            if live in self._queue:
                self._queue.remove(live)
                await self._end(live)
            elif live.task:
                live.task.cancel()
        return await self.wait(job_id, _STOP_S)

    def counts(self) -> dict[str, float]:
        """How many wait, and how many run."""
        return {"queued": float(len(self._queue)), "running": float(self._running is not None)}

    async def recover(self) -> None:
        """Say of what ran when the last process ended that it did not end well; or that it waits again."""
        for job in await asyncio.to_thread(self._store.jobs, {"running"}, None, None):
            if job.id not in self._live:
                await self._save(self._stopped(job))

    async def adopt(self) -> None:
        """Take up what an earlier process left waiting. For a server: a command that ends soon leaves it where it is."""
        for job in reversed(await asyncio.to_thread(self._store.jobs, {"queued"}, None, None)):
            if job.id not in self._live and not self._released:
                self._append(job)

    def start(self) -> None:
        """Begin to run what waits."""
        if not self._closing:
            self._runner = asyncio.create_task(self._serve(), name="jobs")

    def release(self) -> None:
        """Begin no other job, and let go of all who watch or wait: a server is about to stop."""
        self._released = True
        for live in self._live.values():
            live.become(live.job)

    async def close(self, within_s: float = 5.0) -> None:
        """Cancel what runs and say so of it; what waits stays on disk as it is."""
        self._closing = True
        self.release()
        self._filled.set()
        if self._runner is None:
            return
        if self._running and self._running.task:
            self._running.task.cancel()
        await asyncio.wait({self._runner}, timeout=within_s)
        if not self._runner.done():
            self._runner.cancel()
            await asyncio.wait({self._runner})
        if live := self._running:
            log.error("job %s (%s) did not stop within %g s", live.job.id, live.job.kind, within_s)
            await self._end(live)

    async def _enter(self, job: Job) -> Job:
        async with self._turn:
            if self._released:
                raise NotReady("the server is shutting down")
            if len(self._queue) >= MOST_QUEUED:
                raise Overloaded(f"{len(self._queue)} jobs wait, and no more may", retry_after_s=_COME_BACK_S)
            await asyncio.to_thread(self._store.put_job, job)
            return self._append(job)

    def _append(self, job: Job) -> Job:
        live = self._live[job.id] = _Live(job)
        self._queue.append(live)
        self._filled.set()
        return job

    async def _changes(self, live: _Live) -> AsyncIterator[Job]:
        while True:
            job, changed = live.job, live.changed
            yield job
            if job.ended or self._released:
                return
            await changed.wait()
            await asyncio.sleep(self._watch_every_s)
            if live.job is job:  # let go of
                return

    async def _delete_stored(self, job_id: str) -> Job | None:
        async with self._turn:
            job = await self.get(job_id)
            if not job.ended:  # left by an earlier process, and not adopted
                cancelled = replace(job, state="cancelled", ended_at=self._clock())
                await asyncio.to_thread(self._store.put_job, cancelled)
                return cancelled
            await asyncio.to_thread(self._store.delete_job, job_id)
            self._live.pop(job_id, None)
        return None

    async def _serve(self) -> None:
        while not self._closing:
            await self._filled.wait()
            if self._queue and not self._released:
                await self._run(self._queue.popleft())
            else:
                self._filled.clear()

    async def _run(self, live: _Live) -> None:
        """One job to its end, with its progress saved now and then."""
        self._running = live
        if await self._ended_elsewhere(live):
            return
        live.become(replace(live.job, state="running", started_at=self._clock()))
        live.task = asyncio.create_task(self._work(live), name=f"job {live.job.id}")
        saved: Job | None = None
        while not live.task.done():
            if live.job is not saved:
                saved = live.job
                await self._save(saved)
            await asyncio.wait({live.task}, timeout=self._save_every_s)
        await self._end(live)

    async def _ended_elsewhere(self, live: _Live) -> bool:
        """Whether the job is not to begin: an erase ended its row, since it names who is erased; or it is cancelled by now."""
        try:
            stored = await asyncio.to_thread(self._store.job, live.job.id)
        except ReidError:
            stored = live.job
        if not stored.ended and not live.cancelled:
            return False
        if stored.ended:
            self._running = None
            self._live.pop(live.job.id, None)
            live.become(stored)
        else:
            await self._end(live)
        return True

    async def _work(self, live: _Live) -> Mapping[str, Any]:
        kind = self._kinds.get(live.job.kind)
        if kind is None:
            raise BadInput(f"this version has no jobs of kind {live.job.kind!r}")
        loop = asyncio.get_running_loop()

        def report(done: int, total: int, note: str = "") -> None:
            loop.call_soon_threadsafe(_progressed, live, Progress(done, total, storable(note)))

        result = await kind.handler(live.job, report)
        return await asyncio.to_thread(_as_json, result)  # what is no JSON is the handler's failure, not the store's

    async def _end(self, live: _Live) -> None:
        """Saved first, told then. What the store does not take is remembered as long as the process lives."""
        job = self._outcome(live)
        saved = await self._save(job)
        if self._running is live:
            self._running = None
        live.become(job)
        if saved:
            self._live.pop(job.id, None)
            await self._attempt(self._store.prune_jobs, KEPT, self._clock() - KEPT_FOR)

    def _outcome(self, live: _Live) -> Job:
        """What becomes of a job whose task is done, or is given up, or was never begun."""
        task, ended = live.task, replace(live.job, ended_at=self._clock())
        finished = task is not None and task.done() and not task.cancelled()
        error = task.exception() if task and finished else asyncio.CancelledError()
        if task and error is None:
            return replace(ended, state="done", result=task.result())
        if live.cancelled:
            return replace(ended, state="cancelled")
        if self._closing:
            return self._stopped(live.job)
        return replace(ended, state="failed", error=_failure(live.job, error))

    def _stopped(self, job: Job) -> Job:
        """What becomes of a job that the end of its process interrupted."""
        kind = self._kinds.get(job.kind)
        if kind and kind.resumable:
            return replace(job, state="queued", started_at=None, progress=Progress())
        return replace(job, state="failed", ended_at=self._clock(), error=STOPPED)

    async def _save(self, job: Job) -> bool:
        return await self._attempt(self._store.put_job, job)

    async def _attempt(self, call: Callable[..., object], *arguments: object) -> bool:
        """Whether the store did it. What it refuses goes to the log, and the runner goes on."""
        async with self._turn:
            try:
                await asyncio.to_thread(call, *arguments)
            except StorageFailed as error:
                log.error("a job's row: %s", error)
                return False
            except Exception:  # a mistake of ours
                log.exception("a job's row could not be written")
                return False
        return True


def _progressed(live: _Live, progress: Progress) -> None:
    if live.job.state == "running":  # a thread may go on after its job has ended
        live.become(replace(live.job, progress=progress))


def _failure(job: Job, error: BaseException | None) -> Failure:
    """As a client is told; what is ours to mend goes whole to the log."""
    if isinstance(error, ReidError) and (error.status < 500 or isinstance(error, Unavailable)):
        return Failure(error.code, storable(str(error)))
    log.error("job %s (%s) failed", job.id, job.kind, exc_info=error)
    return Failure("internal", f"internal error; the server's log has it under job {job.id}")


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy, as it will come back from disk. Raises ValueError, TypeError."""
    copied: dict[str, Any] = json.loads(to_json(value))
    return copied


async def _once(job: Job) -> AsyncIterator[Job]:
    yield job
