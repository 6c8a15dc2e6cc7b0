"""What is loaded, what is going on, and whether requests are taken."""

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.errors import NotReady
from app.service import Service


def router(service: Service) -> APIRouter:
    """`/v1/model`, `/v1/stats`, `/livez`, `/readyz`, `/metrics`."""
    routes = APIRouter(tags=["system"])
    started = time.monotonic()

    @routes.get("/v1/model")
    async def model() -> dict[str, Any]:
        """The loaded model: its name, where it comes from, how well it was verified, and how its variant agrees with fp32."""
        loaded, fact = service.model, service.model.manifest.variant(service.model.variant)
        shown = {"label", "created_at", "width", "depths", "opset", "preprocessing", "checkpoint", "verification"}
        names = {"fingerprint": loaded.fingerprint, "variant": loaded.variant, "dim": loaded.dim}
        made = fact.model_dump(mode="json", include={"precision", "runtime", "quantized", "agreement"})
        return names | made | loaded.manifest.model_dump(mode="json", include=shown)

    @routes.get("/v1/stats")
    async def stats() -> dict[str, Any]:
        """Queue, batches, collections, versions."""
        return {
            "uptime_s": round(time.monotonic() - started, 1),
            "state": service.readiness.state,
            "queue_crops": service.engine.waiting,
            "devices": _devices(service),
            "jobs": service.jobs.counts(),
            "collections": await _collections(service),
            "retention": service.retention.as_json(),
            **service.facts,
        }

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        """The process answers. No model call."""
        return {"status": "alive"}

    @routes.get("/readyz", responses={503: {"description": "Not ready, and why"}})
    async def readyz() -> JSONResponse:
        """200 only while a device serves whose every batch size ran and whose golden crops came out right."""
        state = service.readiness
        body = {
            "ready": state.ready,
            "state": state.state,
            "detail": state.sentence,
            "golden_cosine": state.golden_cosine,
            "devices": {lane.name: {"state": lane.state, "detail": lane.sentence} for lane in service.engine.lanes},
        }
        return JSONResponse(body, 200 if state.ready else 503)

    @routes.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


async def _collections(service: Service) -> dict[str, Any]:
    """Each with its items and what answers its searches; none while they are being made ready."""
    try:
        described = await service.galleries.all()
    except NotReady:
        return {}
    return {d.collection.name: {"items": d.items, "index": asdict(d.index)} for d in described}


def _devices(service: Service) -> dict[str, Any]:
    """How each device is, what it showed when it was last proven, and what its batches cost lately."""
    return {
        lane.name: {
            "state": lane.state,
            "detail": lane.sentence,
            "restarts": lane.restarts,
            "batch_ms": lane.proof.batch_ms if lane.proof else {},
            "batch_ms_now": lane.costs.batch_ms if lane.proof else {},
            "golden_cosine": lane.proof.golden_cosine if lane.proof else None,
        }
        for lane in service.engine.lanes
    }
