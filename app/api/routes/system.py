"""What is loaded, what is going on, and whether requests are taken."""

import time
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.service import Service


def router(service: Service) -> APIRouter:
    """`/v1/model`, `/v1/stats`, `/livez`, `/readyz`, `/metrics`."""
    routes = APIRouter(tags=["system"])
    started = time.monotonic()

    @routes.get("/v1/model")
    async def model() -> dict[str, Any]:
        """The loaded model: its name, where it comes from, and how well it was verified."""
        loaded = service.model
        shown = {"label", "created_at", "width", "depths", "opset", "preprocessing", "checkpoint", "verification"}
        names = {"fingerprint": loaded.fingerprint, "variant": loaded.variant, "dim": loaded.dim}
        return names | loaded.manifest.model_dump(mode="json", include=shown)

    @routes.get("/v1/stats")
    async def stats() -> dict[str, Any]:
        """Queue, batches, collections, versions."""
        return {
            "uptime_s": round(time.monotonic() - started, 1),
            "state": service.readiness.state,
            "queue_crops": service.engine.waiting,
            "batch_ms": service.readiness.batch_ms,
            "golden_cosine": service.readiness.golden_cosine,
            "evaluating": {"done": service.evaluate.progress.done, "total": service.evaluate.progress.total},
            "collections": {d.collection.name: d.items for d in await service.galleries.all()},
            **service.facts,
        }

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        """The process answers. No model call."""
        return {"status": "alive"}

    @routes.get("/readyz", responses={503: {"description": "Not ready, and why"}})
    async def readyz() -> JSONResponse:
        """200 only after every batch size ran and the golden crops came out right."""
        state = service.readiness
        body = {
            "ready": state.ready,
            "state": state.state,
            "detail": state.sentence,
            "golden_cosine": state.golden_cosine,
        }
        return JSONResponse(body, 200 if state.ready else 503)

    @routes.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
