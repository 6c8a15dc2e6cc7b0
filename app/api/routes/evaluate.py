"""The accuracy of what is served, through the path that serves. What takes longer than the caller waits becomes a job.

Evaluations that were asked for in JSON are jobs from the beginning, so that their reports can be read again.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api.departure import while_connected
from app.api.evaluation import EvaluateAnswer, EvaluateIn, EvaluationOut, EvaluationPage, QueriesIn
from app.api.jobs import JobOut
from app.api.limits import SMALL_BODY, RequestLimits
from app.api.problems import responses
from app.api.routes.calibration import job_response
from app.api.uploads import files_of, form_of, is_json, media_type, read_json
from app.core.jobs import Job
from app.errors import NotFound, UnsupportedMedia, relayed
from app.service import Service
from app.service.evaluate import Wish
from app.service.galleries import MAX_PAGE

_KIND = "evaluate"  # of job
_IMAGE = {"type": "array", "items": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/EvaluateIn"}},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _IMAGE}}
            },
        },
    }
}


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/evaluate`, and `/evaluate` for short; `/v1/evaluations` and `/v1/evaluations/{evaluation_id}`."""
    routes = APIRouter(tags=["evaluate"])

    @routes.post(
        "/v1/evaluate",
        responses={
            200: {"model": EvaluateAnswer},
            202: {"model": JobOut, "description": "Not done in time; `Location` names the job"},
            **responses(400, 403, 404, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=_BODY,
        response_model=None,
        max_body_size=limits.body(limits.streamed_crops),
    )
    @routes.post(
        "/evaluate",
        include_in_schema=False,
        response_model=None,
        max_body_size=limits.body(limits.streamed_crops),
    )
    async def evaluate(request: Request, options: Annotated[QueriesIn, Query()]) -> Response:
        """Evaluate a folder or a collection (JSON), or pictures as queries against a collection (a form; labels are read
        off their names), by every protocol that the data allow."""
        service.require_ready()
        if is_json(request):
            body = await read_json(request, EvaluateIn)
            params = body.model_dump(exclude={"wait"}, exclude_defaults=True)
            service.evaluate.check(Wish(**params | {"protocols": tuple(body.protocols)}))
            job = await service.jobs.submit(_KIND, params)
            return _answer(await service.jobs.wait(job.id, body.wait))
        if media_type(request) != "multipart/form-data":
            raise UnsupportedMedia("this route takes application/json, or multipart/form-data with a field `image`")
        async with form_of(request, limits.streamed_crops) as form:
            uploads = await files_of(form, "image", limits.streamed_crops)
        wish = Wish(None, options.collection, tuple(uploads), options.pattern, tuple(options.protocols))
        service.evaluate.check(wish)
        return JSONResponse(await while_connected(request, service.evaluate.run(wish)))

    @routes.get("/v1/evaluations", responses=responses(404, 422, 503), max_body_size=SMALL_BODY)
    async def list_evaluations(
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100, cursor: str | None = None
    ) -> EvaluationPage:
        """Evaluations that are done, without their reports, the newest first, a page at a time."""
        jobs, next_cursor = await service.jobs.page({"done"}, cursor, limit, _KIND)
        done = [EvaluationOut.model_validate(job, from_attributes=True) for job in jobs]
        return EvaluationPage(evaluations=done, next_cursor=next_cursor)

    @routes.get(
        "/v1/evaluations/{evaluation_id}",
        responses={200: {"model": EvaluateAnswer}, **responses(404, 503)},
        response_model=None,
        max_body_size=SMALL_BODY,
    )
    async def get_evaluation(evaluation_id: str) -> Response:
        """The report of an evaluation that is done, as it was answered."""
        job = await service.jobs.get(evaluation_id)
        if (job.kind, job.state) != (_KIND, "done"):
            raise NotFound(f"job {job.id} is no evaluation that is done; GET /v1/jobs/{job.id} tells what it is")
        return JSONResponse(dict(job.result or {}))

    return routes


def _answer(job: Job) -> Response:
    """The result, the refusal, or where to look for either."""
    if job.state == "done":
        return JSONResponse(dict(job.result or {}))
    if job.error is not None:
        raise relayed(job.error.code, job.error.detail)
    return job_response(job)
