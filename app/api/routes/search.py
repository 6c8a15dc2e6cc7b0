"""Who is this? One query, or many independent ones."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.api.departure import while_connected
from app.api.limits import RequestLimits
from app.api.problems import problem_of, responses
from app.api.schemas import (
    BatchAnswer,
    BatchIn,
    BatchResult,
    MatchOut,
    ModelName,
    Problem,
    QueryIn,
    SearchAnswer,
    SearchOptions,
)
from app.api.uploads import from_base64, is_json, only_one, read_images, read_json
from app.core.records import Match
from app.errors import BadField, ReidError, TooLarge
from app.service import Service
from app.service.search import Query as SearchQuery
from app.service.stages import Stages

_IMAGE = {"type": "string", "format": "binary"}


def image_body(schema: str) -> dict[str, Any]:
    """The request body for OpenAPI: a form, raw bytes, or JSON of the named schema."""
    form = {"type": "object", "required": ["image"], "properties": {"image": _IMAGE}}
    content = {
        "multipart/form-data": {"schema": form},
        "image/*": {"schema": _IMAGE},
        "application/octet-stream": {"schema": _IMAGE},
        "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}},
    }
    return {"requestBody": {"required": True, "content": content}}


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/collections/{collection}/search` and `.../search/batch`."""
    routes = APIRouter(prefix="/v1/collections/{collection}/search", tags=["search"])

    @routes.post(
        "",
        responses=responses(400, 404, 409, 413, 415, 422, 429, 503),
        openapi_extra=image_body("QueryIn"),
        max_body_size=limits.body(1),
    )
    async def search(request: Request, collection: str, options: Annotated[SearchOptions, Query()]) -> SearchAnswer:
        """Search a collection by a picture (form, raw, base64) or a vector."""
        service.require_ready()
        stages: Stages = request.state.stages
        if is_json(request):
            body = await read_json(request, QueryIn)
            query = await _query(body.model_copy(update=_unless_set(options, body)), "")
        else:
            query = SearchQuery(only_one(await read_images(request, 2)), options.options())
        matches = await while_connected(request, service.search.one(collection, query, stages))
        return SearchAnswer(matches=MatchOut.listed(matches), model=ModelName.of(service.model), timings_ms=stages.ms)

    @routes.post(
        "/batch",
        responses=responses(400, 404, 409, 413, 415, 422, 429, 503),
        openapi_extra=image_body("BatchIn"),
        max_body_size=limits.body(limits.crops),
    )
    async def search_batch(
        request: Request, collection: str, options: Annotated[SearchOptions, Query()]
    ) -> BatchAnswer:
        """Many independent queries, each with its own result; one bad picture spoils only its own."""
        service.require_ready()
        stages: Stages = request.state.stages
        if is_json(request):
            body = await read_json(request, BatchIn)
            if len(body.queries) > limits.crops:
                raise TooLarge(f"{len(body.queries)} queries; one request may have {limits.crops}")
            rows = [q.model_copy(update=_unless_set(options, q)) for q in body.queries]
            queries = [await _query(row, f"queries.{i}.") for i, row in enumerate(rows)]
        else:
            queries = [SearchQuery(image, options.options()) for image in await read_images(request, limits.crops)]
        answers = await while_connected(request, service.search.many(collection, queries, stages))
        results = [_result(answer, request.state.request_id) for answer in answers]
        return BatchAnswer(results=results, model=ModelName.of(service.model), timings_ms=stages.ms)

    return routes


def _unless_set(options: SearchOptions, body: QueryIn) -> dict[str, Any]:
    """Query parameters hold where the JSON says nothing."""
    return {name: getattr(options, name) for name in options.model_fields_set - body.model_fields_set}


async def _query(body: QueryIn, prefix: str) -> SearchQuery:
    if (body.image is None) == (body.vector is None):
        raise BadField(f"{prefix}image", "give either `image` (base64) or `vector`")
    if body.image is not None:
        return SearchQuery(await from_base64(body.image, f"{prefix}image"), body.options())
    assert body.vector is not None
    return SearchQuery(body.vector, body.options())


def _result(answer: list[Match] | ReidError, request_id: str) -> BatchResult:
    if isinstance(answer, ReidError):
        return BatchResult(error=Problem(**problem_of(answer, request_id)))
    return BatchResult(matches=MatchOut.listed(answer))
