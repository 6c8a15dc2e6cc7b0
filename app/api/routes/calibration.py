"""What a collection's scores mean: learnt as a job, and shown."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.api.calibration import CalibrateIn, CalibrationOut, CalibrationsOut
from app.api.jobs import JobOut
from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.core.jobs import Job
from app.errors import relayed
from app.service import Service


def router(service: Service) -> APIRouter:
    """`/v1/collections/{collection}/calibration`."""
    routes = APIRouter(
        prefix="/v1/collections/{collection}/calibration", tags=["calibration"], max_body_size=SMALL_BODY
    )

    @routes.post(
        "",
        responses={
            200: {"model": CalibrationsOut},
            202: {"model": JobOut, "description": "Not done in time; `Location` names the job"},
            **responses(400, 404, 409, 422, 429, 503),
        },
        response_model=None,
    )
    async def calibrate(collection: str, body: CalibrateIn | None = None) -> Response:
        """Learn from the collection's own labels what its scores mean."""
        wish = body or CalibrateIn()
        service.calibrations.check(wish.fpir)
        await service.galleries.usable(collection)
        job = await service.jobs.submit("calibrate", {"collection": collection, "fpir": wish.fpir})
        job = await service.jobs.wait(job.id, wish.wait)
        if job.error is not None:
            raise relayed(job.error.code, job.error.detail)
        if job.state != "done":
            return job_response(job)
        return JSONResponse((await _shown(service, collection)).model_dump(mode="json"))

    @routes.get("", responses=responses(404, 503))
    async def calibrations(collection: str) -> CalibrationsOut:
        """The calibrations that the collection has."""
        return await _shown(service, collection)

    return routes


def job_response(job: Job) -> Response:
    """Where to look for a job that goes on."""
    body: dict[str, Any] = JobOut.of(job).model_dump(mode="json")
    return JSONResponse(body, 202, {"Location": f"/v1/jobs/{job.id}"})


async def _shown(service: Service, collection: str) -> CalibrationsOut:
    found = await service.calibrations.all(collection)
    return CalibrationsOut(calibrations={by: CalibrationOut(**one) for by, one in found.items()})
