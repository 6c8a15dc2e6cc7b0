"""Jobs over HTTP: listed, followed by events, cancelled, removed; and found again by the next server."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from app.api import create_app
from app.client import Client
from app.core.jobs import Job
from app.errors import BadInput, ServerRefused
from app.service import Service
from app.service.jobs import Report
from app.settings import Settings
from app.wiring import open_service

pytestmark = pytest.mark.anyio


class Counting:
    """A handler of jobs that begins, counts, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.report: Report

    async def __call__(self, job: Job, report: Report) -> Mapping[str, Any]:
        self.report = report
        report(1, 3, "query")
        self.begun.set()
        await self.go.wait()
        if "fail" in job.params:
            raise BadInput("no picture could be embedded")
        return {"protocols": {"instance": {"mAP": 0.5}}}


class Listener:
    """An ASGI client that reads an answer as it comes, and can leave before its end."""

    def __init__(self, path: str) -> None:
        self.left, self.parts = asyncio.Event(), asyncio.Queue[dict[str, Any]]()
        self._asked = False
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
            "server": ("reid", 80), "client": ("reid", 1), "headers": [(b"host", b"reid")], "state": {},
        }  # fmt: skip

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.parts.put_nowait(message)

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next event: its name, and what it holds."""
        lines = (await self.parts.get())["body"].decode().splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line)
        return fields["event"], json.loads(fields["data"])


@pytest.fixture
def work(service: Service) -> Counting:
    counting = Counting()
    service.jobs.register("count", counting)
    return counting


async def test_a_job_is_shown_from_its_beginning_to_its_end(
    http: httpx.AsyncClient, service: Service, work: Counting
) -> None:
    job = await service.jobs.submit("count", {"folder": "market"})
    await work.begun.wait()
    await asyncio.sleep(0)
    running = (await http.get(f"/v1/jobs/{job.id}")).json()
    assert running["started_at"].endswith("Z")
    assert running | {"created_at": 0, "started_at": 0} == {
        "id": job.id, "kind": "count", "params": {"folder": "market"}, "state": "running", "created_at": 0,
        "started_at": 0, "ended_at": None, "progress": {"done": 1, "total": 3, "note": "query"}, "error": None,
        "result": None,
    }  # fmt: skip
    assert 'reid_jobs{state="running"} 1.0' in (await http.get("/metrics")).text
    work.go.set()
    await service.jobs.wait(job.id, 10)
    done = (await http.get(f"/v1/jobs/{job.id}")).json()
    assert (done["state"], done["result"]) == ("done", {"protocols": {"instance": {"mAP": 0.5}}})
    assert 'reid_jobs{state="running"} 0.0' in (await http.get("/metrics")).text


async def test_a_job_that_fails_says_why(http: httpx.AsyncClient, service: Service, work: Counting) -> None:
    work.go.set()
    job = await service.jobs.submit("count", {"fail": True})
    await service.jobs.wait(job.id, 10)
    failed = (await http.get(f"/v1/jobs/{job.id}")).json()
    assert (failed["state"], failed["result"]) == ("failed", None)
    assert failed["error"] == {"code": "bad_input", "detail": "no picture could be embedded"}


async def test_jobs_are_listed_a_page_at_a_time_without_results(
    http: httpx.AsyncClient, service: Service, work: Counting
) -> None:
    work.go.set()
    ids = [(await service.jobs.submit("count", {"n": n})).id for n in range(3)]
    await service.jobs.wait(ids[-1], 10)
    page = (await http.get("/v1/jobs?limit=2")).json()
    assert [job["params"] for job in page["jobs"]] == [{"n": 2}, {"n": 1}]
    assert "result" not in page["jobs"][0]
    assert page["next_cursor"] == ids[1]
    rest = (await http.get(f"/v1/jobs?limit=2&cursor={ids[1]}")).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next_cursor"]) == ([ids[0]], None)
    assert (await http.get("/v1/jobs?state=queued&state=failed")).json() == {"jobs": [], "next_cursor": None}
    assert len((await http.get("/v1/jobs?state=done")).json()["jobs"]) == 3


async def test_a_running_job_is_cancelled_and_an_ended_one_removed(
    http: httpx.AsyncClient, service: Service, work: Counting
) -> None:
    job = await service.jobs.submit("count", {})
    await work.begun.wait()
    cancelled = await http.delete(f"/v1/jobs/{job.id}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert (await http.get(f"/v1/jobs/{job.id}")).json() == cancelled.json()
    removed = await http.delete(f"/v1/jobs/{job.id}")
    assert (removed.status_code, removed.content) == (204, b"")
    assert (await http.get(f"/v1/jobs/{job.id}")).status_code == 404


async def test_the_client_lists_looks_at_cancels_and_removes_jobs(service: Service, work: Counting) -> None:
    ids = [(await service.jobs.submit("count", {"n": n})).id for n in range(2)]
    await work.begun.wait()
    async with Client("http://reid", httpx.ASGITransport(create_app(service))) as reid:
        page = await reid.jobs(limit=1)
        assert ([job["id"] for job in page["jobs"]], page["next_cursor"]) == ([ids[1]], ids[1])
        assert [job["id"] for job in (await reid.jobs(cursor=ids[1], state="running"))["jobs"]] == [ids[0]]
        assert (await reid.delete_job(ids[1]))["state"] == "cancelled"
        assert await reid.delete_job(ids[1]) == {}
        with pytest.raises(ServerRefused, match="there is no job"):
            await reid.job(ids[1])
        work.go.set()
        await service.jobs.wait(ids[0], 10)
        assert (await reid.job(ids[0]))["result"] == {"protocols": {"instance": {"mAP": 0.5}}}


async def test_events_tell_each_step_and_the_end(service: Service, work: Counting) -> None:
    job = await service.jobs.submit("count", {})
    await work.begun.wait()
    await asyncio.sleep(0)
    listener = Listener(f"/v1/jobs/{job.id}/events")
    answer = asyncio.create_task(create_app(service)(listener.scope, listener.receive, listener.send))
    start = await listener.parts.get()
    assert start["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    name, held = await listener.event()
    assert (name, held["id"], held["progress"]) == ("progress", job.id, {"done": 1, "total": 3, "note": "query"})
    work.report(2, 3)
    name, held = await listener.event()
    assert (name, held["state"], held["progress"]["done"]) == ("progress", "running", 2)
    work.go.set()
    name, held = await listener.event()
    assert (name, held["state"]) == ("done", "done")
    assert "result" not in held
    await answer
    assert (await listener.parts.get())["more_body"] is False


async def test_events_of_an_ended_job_are_its_end(http: httpx.AsyncClient, service: Service, work: Counting) -> None:
    work.go.set()
    job = await service.jobs.submit("count", {"fail": 1})
    await service.jobs.wait(job.id, 10)
    answer = await http.get(f"/v1/jobs/{job.id}/events")
    assert answer.text.startswith("event: failed\ndata: {")
    assert answer.text.count("event:") == 1


async def test_who_leaves_the_events_leaves_nothing_behind(
    service: Service, work: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    job = await service.jobs.submit("count", {})
    await work.begun.wait()
    listener = Listener(f"/v1/jobs/{job.id}/events")
    before = asyncio.all_tasks()
    answer = asyncio.create_task(create_app(service)(listener.scope, listener.receive, listener.send))
    await listener.parts.get()
    await listener.event()
    listener.left.set()
    await answer
    assert asyncio.all_tasks() == before
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    work.go.set()
    assert (await service.jobs.wait(job.id, 10)).state == "done"  # the job goes on


async def test_a_server_that_stops_lets_go_of_listeners(service: Service, work: Counting) -> None:
    job = await service.jobs.submit("count", {})
    await work.begun.wait()
    listener = Listener(f"/v1/jobs/{job.id}/events")
    answer = asyncio.create_task(create_app(service)(listener.scope, listener.receive, listener.send))
    await listener.parts.get()
    await listener.event()
    service.jobs.release()
    await answer


async def test_the_next_server_finds_what_became_of_jobs(settings: Settings) -> None:
    async with open_service(settings) as service:
        work = Counting()
        service.jobs.register("count", work)
        await service.start()
        interrupted, waits = [(await service.jobs.submit("count", {"n": n})).id for n in range(2)]
        await work.begun.wait()
    async with open_service(settings) as service:
        after = Counting()
        after.go.set()
        service.jobs.register("count", after)
        await service.start()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(service)), base_url="http://reid"
        ) as http:
            failed = (await http.get(f"/v1/jobs/{interrupted}")).json()
            assert failed["error"] == {"code": "interrupted", "detail": "the server stopped while it ran"}
            await service.jobs.adopt()
            assert (await service.jobs.wait(waits, 10)).state == "done"
