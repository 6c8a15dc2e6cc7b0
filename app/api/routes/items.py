"""Crops into a collection, and its items page by page."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from app.api.departure import while_connected
from app.api.examples import VECTORS
from app.api.limits import RequestLimits
from app.api.problems import responses
from app.api.schemas import IngestAnswer, ItemOptions, ItemOut, ItemPage, ModelName, VectorIn, VectorsIn
from app.api.searching import PageOptions
from app.api.streams import FORM, KINDS, LINES, Body, numbers, read_crops
from app.api.streams.results import Lines, result_out
from app.api.streams.said import description
from app.api.uploads import is_json, media_type, read_json
from app.core.records import NamePattern
from app.errors import NotFound, TooLarge, UnsupportedMedia
from app.service import Service
from app.service.incoming import Description, New, NewVector, Reading, Result
from app.service.ingest import each
from app.service.stages import Stages


def _vectors_body() -> dict[str, Any]:
    """The JSON body for OpenAPI, whole: the items' schema stands in it, not among the components."""
    schema = VectorsIn.model_json_schema()
    del schema["$defs"]
    schema["properties"]["items"]["items"] = VectorIn.model_json_schema()
    return schema | {"examples": [VECTORS]}


_ABOUT = {"type": "string", "description": "JSON: a list with one object per image, or an object by file name.",
          "examples": ['[{"person_id": "0005", "camera_id": "2"}]']}  # fmt: skip
_ENTRIES = {"type": "string", "description": "NDJSON: of each crop of the array a line, in order; before `crops`."}
_FILE = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _vectors_body()},
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "array", "items": _FILE},
                        "metadata": _ABOUT,
                        "crops": _FILE | {"description": "Instead: a `.npy` array, uint8 [n, 256, 128, 3]."},
                        "items": _ENTRIES,
                    },
                }
            },
            **{kind: {"schema": _FILE} for kind in KINDS if kind != FORM},
        },
    }
}


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/collections/{collection}/items`."""
    routes = APIRouter(prefix="/v1/collections/{collection}/items", tags=["items"])

    @routes.post(
        "",
        responses={
            200: {"model": IngestAnswer, "content": {LINES: {}}},
            **responses(400, 404, 408, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=_BODY,
        response_model=None,
    )
    async def add_items(
        request: Request,
        collection: str,
        options: Annotated[ItemOptions, Query()],
    ) -> Response | IngestAnswer:
        """Index crops or vectors; one result each. `Accept: application/x-ndjson`: a line each, while they still come in."""
        service.require_ready()
        streamed = LINES in request.headers.get("accept", "")
        body = _body(request, limits, streamed)
        stages: Stages = request.state.stages
        reading = _reading(options)

        async def work(take: Callable[[Sequence[Result]], Awaitable[None]]) -> None:
            await service.ingest.target(collection)  # before the body is read
            entries, fingerprint = await _entries(request, body, limits, streamed)
            how = replace(reading, fingerprint=fingerprint or reading.fingerprint)
            await service.ingest.add(collection, entries, take, stages, how, together=not streamed)

        if streamed:
            return Lines(work, body, request.state.request_id, limits.silence_s)
        results: list[Result] = []

        async def keep(some: Sequence[Result]) -> None:
            results.extend(some)

        await while_connected(body.departure(), work(keep))
        rows = [result_out(result, request.state.request_id) for result in results]
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


def _body(request: Request, limits: RequestLimits, streamed: bool) -> Body:
    """The body, with a limit where it is held whole. Raises TooLarge, UnsupportedMedia."""
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedMedia(f"content encoding {coding!r}: send it as it is, crops are compressed already")
    whole = is_json(request) or not streamed
    return Body(request, limits.body(limits.crops) if whole else None, limits.silence_s)


def _reading(options: ItemOptions) -> Reading:
    pattern = NamePattern(options.pattern) if options.pattern is not None else None
    otherwise = Description(person_id=options.person_id, camera_id=options.camera_id)
    return Reading(pattern, otherwise, options.fingerprint)


async def _entries(
    request: Request, body: Body, limits: RequestLimits, streamed: bool
) -> tuple[AsyncIterator[New], str | None]:
    """What comes in, and the fingerprint that a JSON body names."""
    if not is_json(request):
        content_type = request.headers.get("content-type", "")
        return read_crops(body, media_type(request), content_type, limits, not streamed), None
    given = await read_json(body.request(), VectorsIn)
    most = limits.streamed_crops if streamed else limits.crops
    if len(given.items) > most:
        raise TooLarge(f"{len(given.items)} vectors; one request may have {most}")
    vectors = await asyncio.to_thread(lambda: [_vector(i, one) for i, one in enumerate(given.items)])
    return each(vectors), given.fingerprint


def _vector(position: int, given: VectorIn) -> NewVector:
    name = given.source or f"items.{position}"
    return NewVector(name, numbers(given.vector, name), given.source, description(given))
