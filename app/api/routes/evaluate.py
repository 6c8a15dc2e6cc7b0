"""The accuracy number of a labelled folder, through the path that serves."""

from dataclasses import asdict

from fastapi import APIRouter, Request

from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.api.schemas import EvaluateAnswer, EvaluateIn, ModelName, ProtocolReport, SplitCounts
from app.core.metrics import Report
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
            protocols={name: _report(report) for name, report in result.protocols.items()},
            data={
                "folder": result.folder,
                "query": SplitCounts(**asdict(result.query)),
                "gallery": SplitCounts(**asdict(result.gallery)),
            },
            model=ModelName.of(service.model),
            timings_ms=stages.ms,
        )

    return routes


def _report(report: Report) -> ProtocolReport:
    return ProtocolReport(
        mAP=report.mAP,
        rank1=report.ranks[1],
        rank5=report.ranks[5],
        rank10=report.ranks[10],
        rank20=report.ranks[20],
        rank50=report.ranks[50],
        valid_queries=report.valid_queries,
        queries=report.queries,
        gallery=report.gallery,
    )
