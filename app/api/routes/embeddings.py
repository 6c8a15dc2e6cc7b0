"""Vectors for those who search elsewhere."""

import base64
import io

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from app.api.departure import while_connected
from app.api.limits import RequestLimits, TimeoutMs
from app.api.problems import responses
from app.api.routes.search import image_body
from app.api.schemas import EmbeddingsAnswer, ImagesIn, ModelName
from app.api.uploads import from_base64, is_json, read_images, read_json
from app.errors import TooLarge
from app.service import Service
from app.service.embed import Upload
from app.service.stages import Stages

BASE64, NPY = "application/vnd.reid.base64+json", "application/x-npy"


def router(service: Service, limits: RequestLimits) -> APIRouter:
    """`/v1/embeddings`."""
    routes = APIRouter(tags=["embeddings"])
    content: dict[str, dict[str, str]] = {"application/json": {}, BASE64: {}, NPY: {}}

    @routes.post(
        "/v1/embeddings",
        responses={
            200: {"model": EmbeddingsAnswer, "content": content},
            **responses(400, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra=image_body("ImagesIn"),
        max_body_size=limits.body(limits.crops),
        response_model=None,
    )
    async def embeddings(request: Request, timeout_ms: TimeoutMs = None) -> Response:
        """Unit vectors of pictures, with their raw norms: JSON, or by `Accept` base64 of float32 or a .npy file of the vectors."""
        service.require_ready()
        stages: Stages = request.state.stages
        uploads = await _uploads(request, limits.crops)
        stages.allow(limits.answer_s(timeout_ms))
        service.embedding.require_room(len(uploads), stages)
        embedded = await while_connected(request, service.embedding.embed(uploads, stages), stages.due)
        accept = request.headers.get("accept", "")
        if NPY in accept:
            return Response(_npy(embedded.vectors), media_type=NPY, headers={"X-Reid-Model": service.model.fingerprint})
        encoded = BASE64 in accept
        answer = EmbeddingsAnswer(
            vectors=_base64(embedded.vectors) if encoded else embedded.vectors.tolist(),
            norms=_base64(embedded.norms) if encoded else embedded.norms.tolist(),
            dim=service.model.dim,
            model=ModelName.of(service.model),
            timings_ms=stages.ms,
        )
        return Response(answer.model_dump_json(), media_type=BASE64 if encoded else "application/json")

    return routes


async def _uploads(request: Request, most: int) -> list[Upload]:
    if not is_json(request):
        return await read_images(request, most)
    images = (await read_json(request, ImagesIn)).all()
    if len(images) > most:
        raise TooLarge(f"{len(images)} images; one request may have {most}")
    return [await from_base64(text, f"image.{i}") for i, text in enumerate(images)]


def _npy(vectors: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def _base64(values: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()
