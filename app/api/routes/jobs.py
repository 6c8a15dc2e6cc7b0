"""Long work: what there is, how far it is, its result, and its end before its time."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.jobs import JobOut, JobPage, JobSummary
from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.core.jobs import Job, State
from app.service.galleries import MAX_PAGE
from app.service.jobs import Jobs


def router(jobs: Jobs) -> APIRouter:
    """`/v1/jobs` and `/v1/jobs/{job_id}`."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"], max_body_size=SMALL_BODY)

    @routes.get("", responses=responses(404, 422, 503))
    async def list_jobs(
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: str | None = None,
        state: Annotated[list[State] | None, Query()] = None,
    ) -> JobPage:
        """Jobs without their results, the newest first, a page at a time."""
        page, next_cursor = await jobs.page(frozenset(state) if state else None, cursor, limit)
        return JobPage(jobs=[JobSummary.of(job) for job in page], next_cursor=next_cursor)

    @routes.get("/{job_id}", responses=responses(404, 503))
    async def get_job(job_id: str) -> JobOut:
        """One job, with its result."""
        return JobOut.of(await jobs.get(job_id))

    @routes.delete(
        "/{job_id}",
        responses={204: {"description": "It had ended, and is removed"}, **responses(404, 503)},
        response_model=JobOut,
    )
    async def delete_job(job_id: str) -> JobOut | Response:
        """Cancel a job that has not ended (200, and the job as it then is), or remove one that has (204)."""
        job = await jobs.delete(job_id)
        return Response(status_code=204) if job is None else JobOut.of(job)

    async def watched(job_id: str) -> AsyncIterator[Job]:
        """Asked for before the answer begins, so that an unknown job is a 404."""
        return await jobs.watch(job_id)

    @routes.get("/{job_id}/events", response_class=EventSourceResponse, responses=responses(404, 503))
    async def job_events(changes: Annotated[AsyncIterator[Job], Depends(watched)]) -> AsyncIterable[ServerSentEvent]:
        """Server-sent events: `progress`, and at the end `done`, `failed` or `cancelled`; each holds the job without its result."""
        async for job in changes:
            yield ServerSentEvent(event=job.state if job.ended else "progress", data=JobSummary.of(job))

    return routes
