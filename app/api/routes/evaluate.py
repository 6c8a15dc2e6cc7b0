"""The accuracy number of a labelled folder, through the path that serves."""

from dataclasses import asdict

from fastapi import APIRouter, Request

from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.api.schemas import EvaluateAnswer, EvaluatedModel, EvaluateIn, ProtocolReport, SplitCounts
from app.service import Service
from app.service.stages import Stages


def router(service: Service) -> APIRouter:
    """`/v1/evaluate`, and `/evaluate` for short."""
    routes = APIRouter(tags=["evaluate"], max_body_size=SMALL_BODY)

    @routes.post("/v1/evaluate", responses=responses(400, 403, 422, 429, 503))
    @routes.post("/evaluate", include_in_schema=False)
    async def evaluate(request: Request, body: EvaluateIn) -> EvaluateAnswer:
        """Embed `query/` and `bounding_box_test/` of a folder, and rank by the `instance` protocol."""
        service.require_ready()
        stages: Stages = request.state.stages
        result = await service.evaluate.folder(body.folder, body.pattern, stages)
        return EvaluateAnswer(
            protocols={name: ProtocolReport.of(report) for name, report in result.protocols.items()},
            data={
                "folder": result.folder,
                "query": SplitCounts(**asdict(result.query)),
                "gallery": SplitCounts(**asdict(result.gallery)),
            },
            model=EvaluatedModel.of(service.model),
            timings_ms=stages.ms,
        )

    return routes
