"""Who is this? One query, or many independent ones."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.api.departure import while_connected
from app.api.limits import RequestLimits, TimeoutMs
from app.api.problems import problem_of, responses
from app.api.schemas import ModelName, Problem
from app.api.searching import (
    BatchAnswer,
    BatchIn,
    BatchResult,
    PersonsAnswer,
    QueryIn,
    RefusedCrop,
    SearchAnswer,
    SearchOptions,
    matches_of,
    persons_of,
)
from app.api.uploads import is_json, listed_from_base64, read_images, read_json
from app.errors import BadField, ReidError, TooLarge
from app.service import Service
from app.service.person import MAX_CROPS
from app.service.search import Found
from app.service.search import Query as SearchQuery
from app.service.stages import Stages

_IMAGE = {"type": "string", "format": "binary"}


def image_body(schema: str) -> dict[str, Any]:
    """The request body for OpenAPI: a form, raw bytes, or JSON of the named schema."""
    images = {"type": "array", "items": _IMAGE}
    form = {"type": "object", "required": ["image"], "properties": {"image": images}}
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
    together = min(MAX_CROPS, limits.crops)

    @routes.post(
        "",
        responses=responses(400, 404, 409, 413, 415, 422, 429, 503, 504),
        openapi_extra=image_body("QueryIn"),
        max_body_size=limits.body(together),
    )
    async def search(
        request: Request, collection: str, options: Annotated[SearchOptions, Query()], timeout_ms: TimeoutMs = None
    ) -> SearchAnswer | PersonsAnswer:
        """Search a collection by pictures of one person (form, raw, base64) or a vector. `by=person` answers persons."""
        service.require_ready()
        stages: Stages = request.state.stages
        if is_json(request):
            body = await read_json(request, QueryIn)
            query = await _query(body.model_copy(update=_unless_set(options, body)), "", together)
        else:
            query = SearchQuery(options.options(), await read_images(request, together))
        stages.allow(limits.answer_s(timeout_ms))
        service.embedding.require_room(len(query.crops), stages)
        found = await while_connected(request, service.search.one(collection, query, stages), stages.due)
        refused = RefusedCrop.listed(found.refused, request.state.request_id)
        model = ModelName.of(service.model)
        if query.options.by == "person":
            return PersonsAnswer(
                persons=persons_of(found), **_decided(found), refused=refused, model=model, timings_ms=stages.ms
            )
        return SearchAnswer(
            matches=matches_of(found), **_decided(found), refused=refused, model=model, timings_ms=stages.ms
        )

    @routes.post(
        "/batch",
        responses=responses(400, 404, 409, 413, 415, 422, 429, 503, 504),
        openapi_extra=image_body("BatchIn"),
        max_body_size=limits.body(limits.crops),
    )
    async def search_batch(
        request: Request, collection: str, options: Annotated[SearchOptions, Query()], timeout_ms: TimeoutMs = None
    ) -> BatchAnswer:
        """Many independent queries, each with its own result; one bad picture spoils only its own."""
        service.require_ready()
        stages: Stages = request.state.stages
        if is_json(request):
            queries = await _queries(await read_json(request, BatchIn), options, limits.crops, together)
        else:
            images = await read_images(request, limits.crops)
            queries = [SearchQuery(options.options(), [image]) for image in images]
        stages.allow(limits.answer_s(timeout_ms))
        service.embedding.require_room(sum(len(query.crops) for query in queries), stages)
        answers = await while_connected(request, service.search.many(collection, queries, stages), stages.due)
        results = [
            _result(query, answer, request.state.request_id) for query, answer in zip(queries, answers, strict=True)
        ]
        return BatchAnswer(results=results, model=ModelName.of(service.model), timings_ms=stages.ms)

    return routes


def _unless_set(options: SearchOptions, body: QueryIn) -> dict[str, Any]:
    """Query parameters hold where the JSON says nothing."""
    return {name: getattr(options, name) for name in options.model_fields_set - body.model_fields_set}


async def _queries(body: BatchIn, options: SearchOptions, most: int, together: int) -> list[SearchQuery]:
    if len(body.queries) > most:
        raise TooLarge(f"{len(body.queries)} queries; one request may have {most}")
    rows = [query.model_copy(update=_unless_set(options, query)) for query in body.queries]
    queries = [await _query(row, f"queries.{i}.", together) for i, row in enumerate(rows)]
    if (crops := sum(len(query.crops) for query in queries)) > most:
        raise TooLarge(f"{crops} crops; one request may have {most}")
    return queries


async def _query(body: QueryIn, prefix: str, together: int) -> SearchQuery:
    if (body.image is None) == (body.vector is None):
        raise BadField(f"{prefix}image", "give either `image` (base64) or `vector`")
    if body.image is not None:
        return SearchQuery(body.options(), await listed_from_base64(body.image, f"{prefix}image", together))
    return SearchQuery(body.options(), vector=body.vector or ())


def _result(query: SearchQuery, answer: Found | ReidError, request_id: str) -> BatchResult:
    if isinstance(answer, ReidError):
        return BatchResult(error=Problem(**problem_of(answer, request_id)))
    refused = RefusedCrop.listed(answer.refused, request_id)
    if query.options.by == "person":
        return BatchResult(persons=persons_of(answer), **_decided(answer), refused=refused)
    return BatchResult(matches=matches_of(answer), **_decided(answer), refused=refused)


def _decided(found: Found) -> dict[str, Any]:
    return {"decision": found.judgement.decision, "decision_reason": found.judgement.reason}
