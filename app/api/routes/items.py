"""Crops into a collection, and its items page by page."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData

from app.api.examples import VECTORS
from app.api.limits import RequestLimits
from app.api.problems import problem_of, responses
from app.api.schemas import (
    DescriptionIn,
    IngestAnswer,
    IngestResult,
    ItemOptions,
    ItemOut,
    ItemPage,
    ModelName,
    Problem,
    VectorIn,
    VectorsIn,
)
from app.api.searching import PageOptions
from app.api.uploads import files_of, form_of, is_json, media_type, read_json
from app.core.metrics import Floats
from app.core.records import NamePattern
from app.errors import BadField, BadInput, NotFound, ReidError, TooLarge, UnsupportedMedia
from app.service import Service
from app.service.embed import Upload
from app.service.ingest import Description, NewCrop, NewVector, Result
from app.service.stages import Stages

NDJSON = "application/x-ndjson"
_GROUP = 16  # crops a commit when results stream: one fsync for many crops, and a line soon enough
_DESCRIPTIONS = TypeAdapter(list[DescriptionIn] | dict[str, DescriptionIn])


def _vectors_body() -> dict[str, Any]:
    """The JSON body for OpenAPI, whole: the items' schema stands in it, not among the components."""
    schema = VectorsIn.model_json_schema()
    del schema["$defs"]
    schema["properties"]["items"]["items"] = VectorIn.model_json_schema()
    return schema | {"examples": [VECTORS]}


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _vectors_body()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "metadata": {
                            "type": "string",
                            "description": "JSON: a list with one object per image, or an object by file name.",
                            "examples": ['[{"person_id": "0005", "camera_id": "2"}]'],
                        },
                    },
                }
            },
        },
    }
}


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/collections/{collection}/items`."""
    routes = APIRouter(prefix="/v1/collections/{collection}/items", tags=["items"])

    @routes.post(
        "",
        responses={
            200: {"model": IngestAnswer, "content": {NDJSON: {}}},
            **responses(400, 404, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=_BODY,
        max_body_size=limits.body(limits.crops),
        response_model=None,
    )
    async def add_items(
        request: Request,
        collection: str,
        options: Annotated[ItemOptions, Query()],
    ) -> Response | IngestAnswer:
        """Index crops, or JSON with their vectors; one result each. `Accept: application/x-ndjson`: a line each, as it runs."""
        service.require_ready()
        streamed = NDJSON in request.headers.get("accept", "")
        most, group = (limits.streamed_crops, _GROUP) if streamed else (limits.crops, limits.crops)
        names = NamePattern(options.pattern) if options.pattern is not None else None
        stages: Stages = request.state.stages
        if is_json(request):
            body = await _read_vectors(request, most)
            vectors = await asyncio.to_thread(lambda: [_vector(i, one) for i, one in enumerate(body.items)])
            results = await service.ingest.add_vectors(collection, body.fingerprint, vectors, names, group, stages)
        else:
            results = await service.ingest.add(collection, await _read(request, most), names, group, stages)
        request_id: str = request.state.request_id
        if streamed:
            return StreamingResponse(_lines(results, request_id), media_type=NDJSON)
        rows = [_result(result, request_id) async for result in results]
        return IngestAnswer(results=rows, model=ModelName.of(service.model), timings_ms=stages.ms)

    @routes.get("", responses=responses(404, 422, 503))
    async def list_items(collection: str, options: Annotated[PageOptions, Query()]) -> ItemPage:
        """Items in the order added, a page at a time: all of them, or those that the filters accept."""
        page = service.galleries.page(collection, options.filter(), options.cursor, options.limit)
        items, next_cursor = await page
        return ItemPage(items=[ItemOut.of(item) for item in items], next_cursor=next_cursor)

    @routes.get("/{item_id}", responses=responses(404, 503))
    async def get_item(collection: str, item_id: str) -> ItemOut:
        """One item."""
        return ItemOut.of(await service.galleries.item(collection, item_id))

    @routes.get(
        "/{item_id}/crop",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **responses(404, 503)},
    )
    async def get_crop(collection: str, item_id: str) -> Response:
        """The kept crop, 128 x 256, as PNG. Only where the collection keeps crops."""
        crop = await service.galleries.crop(collection, item_id)
        if crop is None:
            raise NotFound(f"collection {collection!r} keeps no crop of item {item_id!r}")
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, "PNG", compress_level=1)
        return Response(buffer.getvalue(), media_type="image/png")

    @routes.delete("/{item_id}", status_code=204, responses=responses(404, 503))
    async def delete_item(collection: str, item_id: str) -> None:
        """Remove one item."""
        await service.galleries.remove(collection, item_id)

    return routes


async def _read(request: Request, most: int) -> list[NewCrop]:
    if media_type(request) != "multipart/form-data":
        raise UnsupportedMedia(
            "this route takes multipart/form-data with files in the field `image`, or application/json with vectors"
        )
    async with form_of(request, most) as form:
        uploads = await files_of(form, "image", most, {"metadata"})
        said = _descriptions(form, uploads)
    return [NewCrop(upload, description) for upload, description in zip(uploads, said, strict=True)]


async def _read_vectors(request: Request, most: int) -> VectorsIn:
    body = await read_json(request, VectorsIn)
    if len(body.items) > most:
        raise TooLarge(f"{len(body.items)} vectors; one request may have {most}")
    return body


def _vector(position: int, given: VectorIn) -> NewVector:
    name = given.source or f"items.{position}"
    said = Description(**given.model_dump(exclude={"vector", "source"}))
    return NewVector(name, _numbers(given.vector, name), given.source, said)


def _numbers(given: str | list[float], name: str) -> Floats | BadInput:
    """Float32 [n] of the body's vector, or why there are none: one bad vector refuses itself."""
    if isinstance(given, list):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            return np.array(given, dtype=np.float64).astype(np.float32)
    try:
        return np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4").astype(np.float32)
    except ValueError:
        return BadInput(f"{name}: the vector is not base64 of float32 numbers")


def _descriptions(form: FormData, uploads: Sequence[Upload]) -> list[Description]:
    """The field `metadata`: a list as long as the files, or an object by file name."""
    text = form.get("metadata")
    if text is None:
        return [Description()] * len(uploads)
    if not isinstance(text, str):
        raise BadField("metadata", "is a file; send JSON as text")
    try:
        given = _DESCRIPTIONS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadField(".".join(("metadata", *map(str, first["loc"][1:]))), first["msg"]) from error
    rows = given if isinstance(given, list) else _by_name(given, uploads)
    if len(rows) != len(uploads):
        raise BadField("metadata", f"{len(rows)} entries for {len(uploads)} images")
    return [Description(**row.model_dump()) for row in rows]


def _by_name(given: Mapping[str, DescriptionIn], uploads: Sequence[Upload]) -> list[DescriptionIn]:
    if unknown := set(given) - {upload.name for upload in uploads}:
        raise BadField("metadata", f"no image is named {sorted(unknown)[0]!r}")
    return [given.get(upload.name, DescriptionIn()) for upload in uploads]


def _result(result: Result, request_id: str) -> IngestResult:
    error = Problem(**problem_of(result.error, request_id)) if result.error else None
    return IngestResult(name=result.name, id=result.id, status=result.status, error=error)


async def _lines(results: AsyncIterator[Result], request_id: str) -> AsyncIterator[bytes]:
    """A line per crop. What goes wrong for all of them at once is a last line of its own: the status is sent already."""
    try:
        async for result in results:
            yield _result(result, request_id).model_dump_json(exclude_none=True).encode() + b"\n"
    except ReidError as error:
        yield json.dumps(problem_of(error, request_id)).encode() + b"\n"
