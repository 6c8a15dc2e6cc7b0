"""Every refusal as RFC 9457 `application/problem+json` with a stable `type`, a `code` and the request's id."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import BadField, Overloaded, ReidError, Unavailable

MEDIA_TYPE = "application/problem+json"
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media"}


def problem(request_id: str, status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    """The body of a problem."""
    title = HTTPStatus(status).phrase
    kind = f"urn:reid:problem:{code}"
    return {
        "type": kind,
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
        **more,
    }


def problem_of(error: ReidError, request_id: str) -> dict[str, Any]:
    """The body for one of our errors."""
    if isinstance(error, BadField):
        return problem(request_id, error.status, error.code, str(error), field=error.field)
    return problem(request_id, error.status, error.code, str(error))


def respond(body: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem as a response."""
    return JSONResponse(body, body["status"], headers, MEDIA_TYPE)


def fault(request_id: str) -> JSONResponse:
    """What a client is told of a mistake of ours: where the operator finds the rest."""
    detail = f"internal error; the server's log has it under request {request_id}"
    return respond(problem(request_id, 500, "internal", detail))


def install(app: FastAPI) -> None:
    """Answer every refusal with a problem. Whatever else a route raises is for the middleware, which has the log."""
    app.add_exception_handler(ReidError, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route for OpenAPI; 500 goes without saying."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ReidError)
    if error.status >= 500 and not isinstance(error, Unavailable):
        raise error  # meant for the operator, never for a client
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Overloaded) else None
    return respond(problem_of(error, request.state.request_id), headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such route, wrong method, an unreadable form."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http")
    headers = dict(error.headers) if error.headers else None
    return respond(problem(request.state.request_id, error.status_code, code, str(error.detail)), headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [{"field": _field(e["loc"]), "message": str(e["msg"])} for e in error.errors()]
    first = problems[0]
    if any(e["type"] in ("json_invalid", "json_type") for e in error.errors()):
        return respond(
            problem(request.state.request_id, 400, "bad_request", f"the body is not JSON: {first['message']}")
        )
    detail = f"{first['field']}: {first['message']}"
    body = problem(request.state.request_id, 422, "bad_field", detail, field=first["field"], errors=problems)
    return respond(body)


def _field(loc: tuple[int | str, ...]) -> str:
    """`("body", "queries", 0, "vector")` as `queries.0.vector`."""
    parts = [str(part) for part in loc]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] in ("body", "query", "path", "header") else parts)
