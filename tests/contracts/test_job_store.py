"""What every job store promises; which stores there are stands in conftest.py."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.core.jobs import Failure, Job, Progress
from app.errors import UnknownJob
from app.ports import JobStore, Store

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
A = Job("a", "evaluate", {"folder": "märket", "wait": 1.5}, NOON)


@pytest.fixture
def jobs(store: Store) -> JobStore:
    return store.jobs


def fill(jobs: JobStore, *ids: str, **fields: Any) -> None:
    for job_id in ids:
        jobs.put_job(replace(A, id=job_id, **fields))


def listed(jobs: JobStore, *arguments: Any) -> list[str]:
    return [job.id for job in jobs.jobs(*arguments)]


def test_a_job_comes_back_as_it_went_in_at_every_step(jobs: JobStore) -> None:
    running = replace(A, state="running", started_at=NOON, progress=Progress(3, 7, "query"))
    done = replace(
        running, state="done", ended_at=NOON + timedelta(microseconds=1), result={"mAP": 0.5, "worst": ["x"]}
    )
    failed = replace(running, state="failed", ended_at=NOON, error=Failure("bad_input", "no picture in 'x'"))
    for job in (A, running, done, failed):
        jobs.put_job(job)
        assert jobs.job("a") == job
    assert listed(jobs) == ["a"]


def test_instants_are_told_in_utc(jobs: JobStore) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
    fill(jobs, "a", started_at=elsewhere, ended_at=elsewhere)
    kept = jobs.job("a")
    assert kept.started_at == kept.ended_at == NOON
    assert kept.started_at
    assert kept.started_at.utcoffset() == timedelta(0)


def test_the_newest_come_first_without_their_results(jobs: JobStore) -> None:
    fill(jobs, "a", "b", "c", state="done", result={"n": 1})
    fill(jobs, "a", state="done", result={"n": 2})  # keeps its place
    assert [(job.id, job.result) for job in jobs.jobs()] == [("c", None), ("b", None), ("a", None)]
    assert jobs.job("a").result == {"n": 2}


def test_a_list_goes_on_behind_a_job_and_may_be_of_some_states_only(jobs: JobStore) -> None:
    fill(jobs, "a", "b", "c", "d")
    fill(jobs, "c", state="running")
    fill(jobs, "a", state="done")
    assert listed(jobs, None, None, 2) == ["d", "c"]
    assert listed(jobs, None, "c", 2) == ["b", "a"]
    assert listed(jobs, None, "a") == []
    assert listed(jobs, None, None, None) == ["d", "c", "b", "a"]
    assert listed(jobs, {"queued", "done"}, "d") == ["b", "a"]
    assert listed(jobs, set()) == []


def test_a_list_may_be_of_one_kind_only(jobs: JobStore) -> None:
    fill(jobs, "a", "b")
    fill(jobs, "c", kind="calibrate", state="done")
    fill(jobs, "d", kind="calibrate")
    assert listed(jobs, None, None, 100, "evaluate") == ["b", "a"]
    assert listed(jobs, {"done"}, "d", 100, "calibrate") == ["c"]
    assert listed(jobs, None, None, 1, "evaluate") == ["b"]  # counted after the others are left out
    assert listed(jobs, None, None, 100, "import") == []


def test_every_call_refuses_a_job_that_is_not_there(jobs: JobStore) -> None:
    fill(jobs, "a")
    for never in ("b", "", "a\0", "A", "\ud800"):
        calls: list[Callable[[str], object]] = [jobs.job, jobs.delete_job, lambda job_id: jobs.jobs(None, job_id)]
        for call in calls:
            with pytest.raises(UnknownJob, match="there is no job"):
                call(never)


def test_a_deleted_job_is_gone(jobs: JobStore) -> None:
    fill(jobs, "a", "b")
    jobs.delete_job("a")
    assert listed(jobs) == ["b"]


def test_of_the_ended_jobs_the_newest_are_kept_and_none_that_is_too_old(jobs: JobStore) -> None:
    fill(jobs, "waits", "runs")
    fill(jobs, "runs", state="running", started_at=NOON)
    for number, hour in enumerate((1, 2, 3, 2)):
        fill(jobs, f"e{number}", state="cancelled", ended_at=NOON + timedelta(hours=hour))
    # Newest first e3, e2, e1, e0: e0 is beyond three, e1 and e3 ended too early, e2 alone stays.
    assert jobs.prune_jobs(3, NOON + timedelta(hours=3)) == 3
    assert listed(jobs) == ["e2", "runs", "waits"]
    assert jobs.prune_jobs(3, NOON) == 0


def test_what_the_caller_changes_afterwards_does_not_change_the_store(jobs: JobStore) -> None:
    params, result = {"list": [1]}, {"list": [2]}
    fill(jobs, "a", params=params, result=result)
    params["list"].append(3)
    result["list"].append(3)
    assert (jobs.job("a").params, jobs.job("a").result) == ({"list": [1]}, {"list": [2]})


def test_objects_come_back_as_json_has_them(jobs: JobStore) -> None:
    odd = "x\udcff.jpg"  # a file name that is not UTF-8
    fill(jobs, "a", params={"t": (1, 2)}, result={odd: odd, "nul": "\0"}, progress=Progress(note=odd))
    fill(jobs, "b", error=Failure("bad_image", odd))
    assert jobs.job("a").params == {"t": [1, 2]}
    assert jobs.job("a").result == {"x?.jpg": "x?.jpg", "nul": "\0"}
    assert jobs.job("a").progress.note == "x?.jpg"
    assert jobs.job("b").error == Failure("bad_image", "x?.jpg")


@pytest.mark.parametrize(
    "change",
    [
        {"result": {"mAP": float("nan")}},
        {"params": {"when": NOON}},
        {"created_at": NOON.replace(tzinfo=None)},
        {"ended_at": NOON.replace(tzinfo=None)},
        {"id": "ä"},
    ],
    ids=["nan", "no json", "no zone", "no zone at the end", "id"],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(jobs: JobStore, change: dict[str, Any]) -> None:
    jobs.put_job(A)
    with pytest.raises((ValueError, TypeError)):
        jobs.put_job(replace(A, **{"state": "done", **change}))
    assert jobs.jobs() == [A]


def test_a_megabyte_of_result_comes_back_whole(jobs: JobStore) -> None:
    result = {"worst": [{"name": f"{n:05}.jpg", "score": n / 3} for n in range(30_000)]}
    fill(jobs, "a", state="done", result=result)
    assert jobs.job("a").result == result


def test_threads_that_write_and_read_at_once_lose_nothing(jobs: JobStore) -> None:
    def write(worker: int) -> None:
        for step in range(5):
            fill(jobs, f"w{worker}", progress=Progress(step, 5))
            fill(jobs, f"w{worker}-{step}")
            assert f"w{worker}" in listed(jobs)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs.jobs()) == 24
    assert {jobs.job(f"w{worker}").progress.done for worker in range(4)} == {4}
