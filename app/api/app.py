"""The ASGI application over a service that somebody else has built."""

from collections.abc import Set
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api import problems
from app.api.evaluation import EvaluateIn
from app.api.examples import EXAMPLES
from app.api.guard import Guard
from app.api.limits import RequestLimits
from app.api.middleware import Envelope
from app.api.routes import (
    calibration,
    collections,
    embeddings,
    evaluate,
    imports,
    items,
    jobs,
    persons,
    search,
    system,
    upkeep,
    verify,
)
from app.api.schemas import ImagesIn, Problem
from app.api.searching import BatchIn, QueryIn, VerifyIn
from app.service import Service
from app.service.telemetry import Telemetry
from app.service.upkeep import Caretaker

WEB = Path(__file__).parent.parent / "web"
# Swagger UI's files, out of an installed package; FastAPI's own page would load them from elsewhere.
_SWAGGER = Path(fastapi_offline.__file__).parent / "static"


def create_app(
    service: Service,
    limits: RequestLimits = RequestLimits(),
    examples: Path | None = None,
    hosts: Set[str] | None = None,
) -> FastAPI:
    """Routes over the service, which the caller starts and closes.

    examples: a folder of example queries for the page. hosts: names that the server goes by, None for any.
    """
    app = FastAPI(
        title="Person re-identification",
        description="A person crop comes in, the service answers who in the gallery it is.",
        version=service.facts.get("version", ""),
        docs_url=None,
        redoc_url=None,
        # The framework exports traces where an inherited environment variable asks for it; here nothing leaves unasked.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    problems.install(app)
    app.add_middleware(Guard, hosts=hosts)
    app.add_middleware(Envelope, telemetry=service.telemetry)  # added last, it is the outermost
    app.include_router(search.router(service, limits))
    app.include_router(persons.router(service))
    app.include_router(imports.router(service))
    app.include_router(items.router(service, limits))
    app.include_router(collections.router(service))
    app.include_router(embeddings.router(service, limits))
    app.include_router(verify.router(service, limits))
    app.include_router(evaluate.router(service, limits))
    app.include_router(jobs.router(service.jobs))
    app.include_router(upkeep.router(service.caretaker))
    app.include_router(calibration.router(service))
    app.include_router(system.router(service))
    _docs(app)
    _page(app, examples)
    return app


def create_upkeep_app(caretaker: Caretaker) -> FastAPI:
    """The routes that need no model, for a command that works on a data directory."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    problems.install(app)
    app.add_middleware(Envelope, telemetry=Telemetry())
    app.include_router(jobs.router(caretaker.jobs))
    app.include_router(upkeep.router(caretaker))
    return app


def _docs(app: FastAPI) -> None:
    """`/docs` with Swagger UI's files from an installed package: nothing is fetched from the internet."""
    app.mount("/docs/static", StaticFiles(directory=_SWAGGER), name="docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/static/swagger-ui-bundle.js",
            swagger_css_url="/docs/static/swagger-ui.css",
            swagger_favicon_url="/docs/static/favicon.png",
        )

    describe = app.openapi

    def openapi() -> dict[str, Any]:
        """The schema, with those models that only hand-read bodies and problems use."""
        schema = describe()
        models = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, QueryIn, BatchIn, ImagesIn, VerifyIn, EvaluateIn):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            models.update(described.pop("$defs", {}))
            models[model.__name__] = described
        models.pop("HTTPValidationError", None)
        for example_of, example in EXAMPLES.items():
            models[example_of.__name__]["examples"] = [example]
        # The framework's own form of a 422 is never sent: we answer with a problem.
        for operation in (o for path in schema["paths"].values() for o in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = problems.responses(422)[422]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _page(app: FastAPI, examples: Path | None) -> None:
    """The page at `/`, and the example queries it offers."""
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    if examples is not None:
        app.mount("/examples/files", StaticFiles(directory=examples), name="examples")

    @app.get("/examples", include_in_schema=False)
    async def list_examples() -> dict[str, list[str]]:
        names = sorted(p.name for p in examples.glob("*.jpg")) if examples is not None else []
        return {"examples": names[:: max(1, len(names) // 24)][:24]}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse((WEB / "index.html").read_text(encoding="utf-8"))
