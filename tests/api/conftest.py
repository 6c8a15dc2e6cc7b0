"""A whole service on a tiny real network, and a client to it over ASGI."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.api import create_app
from app.cli.common import application
from app.service import Service
from app.settings import Settings
from app.wiring import open_service


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tiny_model_directory: Path, tmp_path: Path) -> Settings:
    roots = (tmp_path / "roots",)
    roots[0].mkdir()
    return Settings(
        model_dir=tiny_model_directory,
        data_dir=tmp_path / "data",
        data_roots=roots,
        threads=1,
        max_crops=8,
        max_crop_bytes=200_000,
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with open_service(settings) as opened:
        await opened.start()
        assert opened.readiness.ready, opened.readiness.sentence
        yield opened


@pytest.fixture
async def http(service: Service, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        transport = httpx.ASGITransport(application(service, settings))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1"))


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """A PNG that differs for every number; the same number, the same bytes."""

    def draw(seed: int) -> bytes:
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((64, 128), Image.Resampling.NEAREST).save(buffer, "PNG")
        return buffer.getvalue()

    return draw


@pytest.fixture
def service_routes(service: Service) -> set[str]:
    """Every documented operation, such as `GET /v1/model`."""
    paths = create_app(service).openapi()["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
