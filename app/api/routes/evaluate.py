"""The accuracy of what is served, through the path that serves. What takes longer than the caller waits becomes a job."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api.departure import while_connected
from app.api.evaluation import EvaluateAnswer, EvaluateIn, QueriesIn
from app.api.jobs import JobOut
from app.api.limits import RequestLimits
from app.api.problems import responses
from app.api.routes.calibration import job_response
from app.api.uploads import files_of, form_of, is_json, media_type, read_json
from app.core.jobs import Job
from app.errors import UnsupportedMedia, relayed
from app.service import Service
from app.service.evaluate import Wish

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
    """`/v1/evaluate`, and `/evaluate` for short."""
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
            job = await service.jobs.submit("evaluate", params)
            return _answer(await service.jobs.wait(job.id, body.wait))
        if media_type(request) != "multipart/form-data":
            raise UnsupportedMedia("this route takes application/json, or multipart/form-data with a field `image`")
        async with form_of(request, limits.streamed_crops) as form:
            uploads = await files_of(form, "image", limits.streamed_crops)
        wish = Wish(None, options.collection, tuple(uploads), options.pattern, tuple(options.protocols))
        service.evaluate.check(wish)
        return JSONResponse(await while_connected(request, service.evaluate.run(wish)))

    return routes


def _answer(job: Job) -> Response:
    """The result, the refusal, or where to look for either."""
    if job.state == "done":
        return JSONResponse(dict(job.result or {}))
    if job.error is not None:
        raise relayed(job.error.code, job.error.detail)
    return job_response(job)
