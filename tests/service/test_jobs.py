"""The runner: one job at a time, in order; watched, cancelled, interrupted; whatever a handler or the disk does, it goes on."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.adapters.memory_records import MemoryJobs
from app.core.jobs import STOPPED, Failure, Job, Progress
from app.errors import BadInput, BadSettings, DeviceFailed, NotReady, Overloaded, StorageFailed, UnknownJob
from app.service.jobs import MOST_QUEUED, Jobs, Report

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """A second later whenever it is asked."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Work:
    """A handler that says when it has begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.order: list[str] = []
        self.report: Report

    async def __call__(self, job: Job, report: Report) -> Mapping[str, Any]:
        self.order.append(job.id)
        self.report = report
        self.begun.set()
        await self.go.wait()
        return {"n": job.params["n"]}


class Stubborn(Work):
    """Goes on when it is cancelled, once."""

    async def __call__(self, job: Job, report: Report) -> Mapping[str, Any]:
        try:
            return await super().__call__(job, report)
        except asyncio.CancelledError:
            await self.go.wait()
            raise


class Flaky(MemoryJobs):
    """A store whose disk is full while `full`."""

    full = False

    def put_job(self, job: Job) -> None:
        if self.full:
            raise StorageFailed("the disk is full")
        super().put_job(job)


def running(store: MemoryJobs, **handlers: Any) -> Jobs:
    jobs = Jobs(store, Clock(), save_every_s=0.01, watch_every_s=0)
    for kind, handler in handlers.items():
        jobs.register(kind, handler)
    jobs.start()
    return jobs


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


async def test_jobs_run_one_at_a_time_in_the_order_in_which_they_came() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    first, second, third = [await jobs.submit("evaluate", {"n": n}) for n in range(3)]
    await work.begun.wait()
    assert jobs.counts() == {"queued": 2, "running": 1}
    assert [job.state for job in store.jobs()] == ["queued", "queued", "running"]  # the newest first
    work.go.set()
    ended = [await jobs.wait(job.id, 10) for job in (first, second, third)]
    assert work.order == [first.id, second.id, third.id]
    assert [(job.state, job.result, job.error) for job in ended] == [("done", {"n": n}, None) for n in range(3)]
    instants = [instant for job in ended for instant in (job.started_at, job.ended_at) if instant]
    assert instants == sorted(instants)
    assert store.job(first.id) == ended[0]
    assert jobs.counts() == {"queued": 0, "running": 0}
    await jobs.close()


async def test_who_waits_gets_the_job_as_it_is_when_the_time_is_over() -> None:
    work = Work()
    jobs = running(MemoryJobs(), evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await work.begun.wait()
    assert (await jobs.wait(job.id, 0)).state == "running"
    work.go.set()
    assert (await jobs.wait(job.id, 10)).state == "done"
    assert (await jobs.wait(job.id, 10)).result == {"n": 1}  # also when it has long ended
    with pytest.raises(UnknownJob):
        await jobs.wait("never", 0)
    await jobs.close()


async def test_progress_is_seen_at_once_and_saved_now_and_then_also_when_a_thread_reports_it() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await work.begun.wait()
    thread = threading.Thread(target=lambda: work.report(3, 7, "query/x\udcff.jpg"))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    assert (await jobs.get(job.id)).progress == Progress(3, 7, "query/x?.jpg")
    assert [one.progress.done for one in (await jobs.page(None, None, 10))[0]] == [3]
    await until(lambda: store.job(job.id).progress.done == 3)
    work.go.set()
    ended = await jobs.wait(job.id, 10)
    work.report(4, 7)  # a thread may go on after its job
    await asyncio.sleep(0)
    assert (await jobs.get(job.id)) == ended
    await jobs.close()


async def test_who_watches_sees_the_job_change_to_its_end() -> None:
    work = Work()
    jobs = Jobs(MemoryJobs(), Clock(), watch_every_s=0)
    jobs.register("evaluate", work)
    job = await jobs.submit("evaluate", {"n": 1})
    changes = await jobs.watch(job.id)
    seen = [await anext(changes)]
    jobs.start()
    await work.begun.wait()
    seen.append(await anext(changes))
    for step in (1, 2):
        work.report(step, 2)
        seen.append(await anext(changes))
    work.go.set()
    seen += [change async for change in changes]
    assert [(one.state, one.progress.done) for one in seen] == [
        ("queued", 0), ("running", 0), ("running", 1), ("running", 2), ("done", 2),
    ]  # fmt: skip
    assert [one.state async for one in await jobs.watch(job.id)] == ["done"]
    with pytest.raises(UnknownJob):
        await jobs.watch("never")
    await jobs.close()


async def test_a_job_is_cancelled_whether_it_waits_or_runs_and_removed_when_it_has_ended() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    first, second, third = [await jobs.submit("evaluate", {"n": n}) for n in range(3)]
    await work.begun.wait()
    watcher = await jobs.watch(second.id)
    for job in (second, first):
        cancelled = await jobs.delete(job.id)
        assert cancelled
        assert (cancelled.state, cancelled.result, cancelled.error) == ("cancelled", None, None)
        assert cancelled.ended_at
        assert store.job(job.id) == cancelled
    assert [one.state async for one in watcher] == ["cancelled"]
    work.go.set()
    assert (await jobs.wait(third.id, 10)).state == "done"
    assert work.order == [first.id, third.id]
    for job in (first, third):
        assert await jobs.delete(job.id) is None
        with pytest.raises(UnknownJob):
            await jobs.delete(job.id)
    assert [job.id for job in store.jobs()] == [second.id]
    await jobs.close()


async def test_a_job_that_ends_while_it_is_cancelled_keeps_its_result() -> None:
    class Finishing(Work):
        async def __call__(self, job: Job, report: Report) -> Mapping[str, Any]:
            try:
                return await super().__call__(job, report)
            except asyncio.CancelledError:
                return {"n": "all the same"}

    work = Finishing()
    jobs = running(MemoryJobs(), evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await work.begun.wait()
    ended = await jobs.delete(job.id)
    assert ended
    assert (ended.state, ended.result) == ("done", {"n": "all the same"})
    await jobs.close()


async def test_two_cancels_at_once_are_one() -> None:
    work = Stubborn()
    jobs = running(MemoryJobs(), evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await work.begun.wait()
    both = [asyncio.create_task(jobs.delete(job.id)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(one.done() for one in both)  # the second did not interrupt what the first began
    work.go.set()
    assert [one.state for one in await asyncio.gather(*both) if one] == ["cancelled"] * 2
    await jobs.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BadInput("no picture in query/x\udcff"), Failure("bad_input", "no picture in query/x?")),
        (DeviceFailed("the model failed"), Failure("device_failed", "the model failed")),
        (BadSettings("secret"), None),  # meant for the operator
        (ZeroDivisionError("secret"), None),
        (asyncio.CancelledError(), None),  # nobody asked for it
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_handler_that_fails_fails_its_own_job_only(
    error: BaseException, told: Failure | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(job: Job, report: Report) -> Mapping[str, Any]:
        raise error

    work = Work()
    work.go.set()
    jobs = running(MemoryJobs(), fail=fail, evaluate=work)
    failing, fine = await jobs.submit("fail", {}), await jobs.submit("evaluate", {"n": 1})
    assert (await jobs.wait(fine.id, 10)).state == "done"
    failed = await jobs.get(failing.id)
    internal = Failure("internal", f"internal error; the server's log has it under job {failed.id}")
    assert (failed.state, failed.result, failed.error) == ("failed", None, told or internal)
    assert (f"job {failed.id} (fail) failed" in caplog.text) == (told is None)
    await jobs.close()


async def test_a_result_that_is_no_json_is_the_handlers_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def nan(job: Job, report: Report) -> Mapping[str, Any]:
        return {"mAP": math.nan}

    jobs = running(MemoryJobs(), evaluate=nan)
    failed = await jobs.wait((await jobs.submit("evaluate", {})).id, 10)
    assert failed.error
    assert failed.error.code == "internal"
    assert "not JSON compliant" in caplog.text
    await jobs.close()


async def test_what_a_waiter_gets_is_what_a_later_reader_gets() -> None:
    async def odd(job: Job, report: Report) -> Mapping[str, Any]:
        return {"pair": (1, 2), "x\udcff": 1}

    jobs = running(MemoryJobs(), evaluate=odd)
    job = await jobs.submit("evaluate", {"protocols": ("instance",)})
    assert job.params == {"protocols": ["instance"]}
    assert (await jobs.wait(job.id, 10)) == (await jobs.get(job.id))
    assert (await jobs.get(job.id)).result == {"pair": [1, 2], "x?": 1}
    await jobs.close()


async def test_no_more_jobs_are_taken_than_may_wait() -> None:
    work = Work()
    jobs = running(MemoryJobs(), evaluate=work)
    first = await jobs.submit("evaluate", {"n": 0})
    await work.begun.wait()
    sent = [jobs.submit("evaluate", {"n": n}) for n in range(MOST_QUEUED + 1)]
    answers = await asyncio.gather(*sent, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [str(error) for error in refused] == [f"{MOST_QUEUED} jobs wait, and no more may"]
    assert isinstance(refused[0], Overloaded)
    assert refused[0].retry_after_s > 0
    await jobs.delete(first.id)
    await until(lambda: len(work.order) == 2)
    await jobs.submit("evaluate", {"n": 1})  # there is room again
    await jobs.close()


async def test_a_caller_who_leaves_while_submitting_leaves_a_job_that_runs() -> None:
    class Held(MemoryJobs):
        asked, go = threading.Event(), threading.Event()

        def put_job(self, job: Job) -> None:
            self.asked.set()
            assert self.go.wait(20)
            super().put_job(job)

    work, store = Work(), Held()
    work.go.set()
    jobs = running(store, evaluate=work)
    caller = asyncio.create_task(jobs.submit("evaluate", {"n": 1}))
    await asyncio.to_thread(store.asked.wait, 20)
    caller.cancel()
    await asyncio.wait({caller})
    store.go.set()
    await until(lambda: [job.state for job in store.jobs()] == ["done"])
    await jobs.close()


async def test_the_end_of_the_server_is_the_end_of_the_job_and_what_waits_goes_on_after_a_restart() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    first, second = [await jobs.submit("evaluate", {"n": n}) for n in range(2)]
    await work.begun.wait()
    waiting, watching = asyncio.create_task(jobs.wait(first.id, 60)), await jobs.watch(second.id)
    await anext(watching)
    await jobs.close()
    assert (await waiting).state in ("running", "failed")  # nobody is held up
    assert [one.state async for one in watching] == []
    assert (store.job(first.id).state, store.job(first.id).error) == ("failed", STOPPED)
    assert STOPPED.detail == "the server stopped while it ran"
    assert store.job(second.id).state == "queued"
    with pytest.raises(NotReady):
        await jobs.submit("evaluate", {"n": 2})

    after, again = Work(), Jobs(store, Clock())
    after.go.set()
    again.register("evaluate", after)
    await again.recover()
    again.start()
    assert (await again.wait(second.id, 0)).state == "queued"  # a command that ends soon does not take it up
    await again.adopt()
    assert (await again.wait(second.id, 10)).state == "done"
    assert after.order == [second.id]
    await again.close()


async def test_what_ran_when_the_process_died_failed_or_waits_again_where_its_kind_says_so() -> None:
    store = MemoryJobs()
    for kind in ("evaluate", "import", "unheard-of"):
        started = {"state": "running", "started_at": NOON, "progress": Progress(3, 9)}
        store.put_job(Job(kind, kind, {"n": 1}, NOON, **started))  # type: ignore[arg-type]  # the fields are what they are
    work = Work()
    work.go.set()
    jobs = Jobs(store, Clock())
    jobs.register("evaluate", work)
    jobs.register("import", work, resumable=True)
    await jobs.recover()
    assert [(store.job(kind).state, store.job(kind).error) for kind in ("evaluate", "unheard-of")] == [
        ("failed", STOPPED), ("failed", STOPPED),
    ]  # fmt: skip
    assert store.job("import") == Job("import", "import", {"n": 1}, NOON)
    await jobs.adopt()
    jobs.start()
    assert (await jobs.wait("import", 10)).state == "done"
    await jobs.close()


async def test_a_resumable_job_waits_again_when_the_server_stops_in_order() -> None:
    work, store = Work(), MemoryJobs()
    jobs = Jobs(store, Clock())
    jobs.register("import", work, resumable=True)
    jobs.start()
    job = await jobs.submit("import", {"n": 1})
    await work.begun.wait()
    await jobs.close()
    assert store.job(job.id) == job


async def test_a_job_left_by_an_earlier_version_fails_with_a_sentence() -> None:
    store = MemoryJobs()
    store.put_job(Job("a", "unheard-of", {}, NOON))
    jobs = running(store)
    await jobs.adopt()
    failed = await jobs.wait("a", 10)
    assert failed.error == Failure("bad_input", "this version has no jobs of kind 'unheard-of'")
    with pytest.raises(RuntimeError, match="nobody does"):
        await jobs.submit("unheard-of", {})
    await jobs.close()


async def test_a_job_that_nobody_took_up_can_be_cancelled() -> None:
    store = MemoryJobs()
    store.put_job(Job("a", "evaluate", {}, NOON))
    jobs = running(store)
    cancelled = await jobs.delete("a")
    assert cancelled
    assert (cancelled.state, store.job("a").state) == ("cancelled", "cancelled")
    await jobs.close()


async def test_a_handler_that_does_not_stop_holds_the_end_up_no_longer_than_allowed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, store = Stubborn(), MemoryJobs()
    jobs = running(store, evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await work.begun.wait()
    await jobs.close(within_s=0.01)
    assert (store.job(job.id).state, store.job(job.id).error) == ("failed", STOPPED)
    assert "did not stop within 0.01 s" in caplog.text
    work.go.set()


async def test_after_release_no_job_is_begun_and_the_one_that_runs_may_end() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    first, second = [await jobs.submit("evaluate", {"n": n}) for n in range(2)]
    await work.begun.wait()
    jobs.release()
    work.go.set()
    await until(lambda: store.job(first.id).state == "done")
    await jobs.adopt()
    await jobs.close()
    assert (work.order, store.job(second.id).state) == ([first.id], "queued")


async def test_a_full_disk_stops_no_job_and_its_end_is_remembered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    work, store = Work(), Flaky()
    jobs = running(store, evaluate=work)
    first, second = [await jobs.submit("evaluate", {"n": n}) for n in range(2)]
    await work.begun.wait()
    await until(lambda: store.job(first.id).state == "running")  # which a thread writes meanwhile
    store.full = True
    with pytest.raises(StorageFailed):
        await jobs.submit("evaluate", {"n": 2})
    work.go.set()
    await jobs.wait(second.id, 10)
    assert [(await jobs.get(job.id)).state for job in (first, second)] == ["done", "done"]
    assert [job.state for job in (await jobs.page(None, None, 10))[0]] == ["done", "done"]
    assert store.job(first.id).state == "running"
    assert "the disk is full" in caplog.text
    assert await jobs.delete(first.id) is None
    with pytest.raises(UnknownJob):
        await jobs.get(first.id)
    await jobs.close()


async def test_a_waiting_job_whose_row_an_erase_ended_does_not_begin() -> None:
    work, store = Work(), MemoryJobs()
    jobs = running(store, evaluate=work)
    first, second = [await jobs.submit("evaluate", {"n": n}) for n in range(2)]
    await work.begun.wait()
    store.put_job(Job(second.id, "evaluate", {}, NOON, "cancelled", ended_at=NOON))
    work.go.set()
    ended = await jobs.wait(second.id, 10)
    assert (work.order, ended.state, ended.params) == ([first.id], "cancelled", {})
    await jobs.close()


async def test_jobs_that_ended_long_ago_are_forgotten() -> None:
    work, store = Work(), MemoryJobs()
    work.go.set()
    month = timedelta(days=31)
    store.put_job(Job("old", "evaluate", {}, NOON - month, "done", NOON - month, NOON - month))
    jobs = running(store, evaluate=work)
    job = await jobs.submit("evaluate", {"n": 1})
    await until(lambda: [one.id for one in store.jobs()] == [job.id])
    await jobs.close()
