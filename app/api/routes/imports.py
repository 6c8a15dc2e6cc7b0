"""Folders and archives into collections as jobs, collections out as archives, and a new model for kept crops."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api.imports import ImportIn, ReembedIn
from app.api.jobs import JobOut
from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.api.routes.calibration import job_response
from app.errors import relayed
from app.service import Service
from app.service.imports import ImportWish

_DONE: dict[int | str, dict[str, Any]] = {
    200: {"model": JobOut, "description": "Done; `result` says what became of the crops"},
    202: {"model": JobOut, "description": "Not done in time; `Location` names the job"},
}


def router(service: Service) -> APIRouter:
    """`/v1/collections/{collection}/imports`, `/export` and `/reembed`."""
    routes = APIRouter(prefix="/v1/collections/{collection}", tags=["imports"], max_body_size=SMALL_BODY)

    @routes.post("/imports", responses={**_DONE, **responses(400, 403, 404, 409, 422, 429, 503)}, response_model=None)
    async def import_into(collection: str, body: ImportIn) -> Response:
        """Import a folder of pictures, or an exported collection. What is stored already, unchanged, costs no embedding."""
        service.require_ready()
        if body.archive is not None:
            await service.transfer.check(body.archive)
            return await _run("import_archive", {"collection": collection, "archive": body.archive}, body.wait)
        wish = ImportWish(collection, body.folder or "", body.pattern, body.recursive)
        await service.imports.check(wish)
        return await _run("import", asdict(wish), body.wait)

    @routes.get(
        "/export",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-tar": {}}}, **responses(404, 503)},
    )
    async def export(collection: str) -> StreamingResponse:
        """The collection with its vectors, and its crops where it keeps them, as a tar archive."""
        return StreamingResponse(await service.transfer.export(collection), media_type="application/x-tar")

    @routes.post("/reembed", responses={**_DONE, **responses(400, 404, 409, 422, 429, 503)}, response_model=None)
    async def reembed(collection: str, body: ReembedIn) -> Response:
        """Make another collection of the kept crops with the loaded model. This one stays, and serves where its model does."""
        service.require_ready()
        await service.reembed.check(collection, body.into)
        return await _run("reembed", {"collection": collection, "into": body.into}, body.wait)

    async def _run(kind: str, params: dict[str, Any], wait: float) -> Response:
        job = await service.jobs.wait((await service.jobs.submit(kind, params)).id, wait)
        if job.error is not None:
            raise relayed(job.error.code, job.error.detail)
        return JSONResponse(JobOut.of(job).model_dump(mode="json")) if job.state == "done" else job_response(job)

    return routes
