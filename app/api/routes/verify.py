"""Are these the same person?"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.datastructures import FormData

from app.api.departure import while_connected
from app.api.limits import RequestLimits, TimeoutMs
from app.api.problems import responses
from app.api.schemas import ModelName
from app.api.searching import Images, VerifyAnswer, VerifyIn, VerifyOptions
from app.api.uploads import files_of, form_of, is_json, listed_from_base64, media_type, read_json
from app.errors import UnsupportedMedia
from app.service import Service
from app.service.embed import Upload
from app.service.person import MAX_CROPS
from app.service.stages import Stages
from app.service.verify import Pair

_SIDES = ("a", "b")
_IMAGES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": dict.fromkeys(_SIDES, _IMAGES)}},
            "application/json": {"schema": {"$ref": "#/components/schemas/VerifyIn"}},
        },
    }
}


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/verify`."""
    routes = APIRouter(tags=["verify"])
    most = min(MAX_CROPS, limits.crops)

    @routes.post(
        "/v1/verify",
        responses=responses(400, 404, 409, 413, 415, 422, 429, 503, 504),
        openapi_extra=_BODY,
        max_body_size=limits.body(2 * most),
    )
    async def verify(
        request: Request, options: Annotated[VerifyOptions, Query()], timeout_ms: TimeoutMs = None
    ) -> VerifyAnswer:
        """Same person? Two crops, two sets of crops of one person each, or a crop and an item of a collection."""
        service.require_ready()
        stages: Stages = request.state.stages
        pair = await _pair(request, options, most)
        stages.allow(limits.answer_s(timeout_ms))
        service.embedding.require_room(len(pair.a) + len(pair.b), stages)
        verified = await while_connected(request, service.verify.pair(pair, stages), stages.due)
        return VerifyAnswer.of(verified, ModelName.of(service.model), stages.ms, request.state.request_id)

    return routes


async def _pair(request: Request, options: VerifyOptions, most: int) -> Pair:
    if is_json(request):
        body = await read_json(request, VerifyIn)
        a, b = [await _from_json(getattr(body, side), side, most) for side in _SIDES]
        fpir = options.fpir if body.fpir is None else body.fpir
        return Pair(a, b, body.collection or options.collection, body.item_id or options.item_id, fpir)
    if media_type(request) != "multipart/form-data":
        raise UnsupportedMedia(
            "this route takes multipart/form-data with files in the fields `a` and `b`, or application/json"
        )
    async with form_of(request, 2 * most) as form:
        a, b = [await _from_form(form, side, most) for side in _SIDES]
    return Pair(a, b, options.collection, options.item_id, options.fpir)


async def _from_json(images: Images | None, side: str, most: int) -> list[Upload]:
    return [] if images is None else await listed_from_base64(images, side, most)


async def _from_form(form: FormData, side: str, most: int) -> list[Upload]:
    """A side that is not there may be an item's place."""
    others = set(_SIDES) - {side}
    return await files_of(form, side, most, others) if side in form or set(form) - set(_SIDES) else []
