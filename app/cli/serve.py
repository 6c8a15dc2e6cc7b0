"""`reid serve`: the HTTP server."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from app.api import create_app
from app.api.guard import LOOPBACK_NAMES
from app.api.limits import RequestLimits
from app.cli.common import Data, Model, log_to_stderr, notes
from app.errors import BadSettings
from app.service import Service
from app.settings import Settings, is_loopback, read_settings
from app.wiring import open_service


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("serve")(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [REID_HOST; default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port [REID_PORT; default: 8000].")] = None,
    model: Model = None,
    data: Data = None,
) -> None:
    """Serve the HTTP API until stopped."""
    settings = read_settings(host=host, port=port, model_dir=model, data_dir=data)
    log_to_stderr(settings)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with open_service(settings) as service:
        await run_server(application(service, settings), service, settings)


def application(service: Service, settings: Settings, examples: Path | None = None) -> FastAPI:
    """The ASGI application with the limits of the settings."""
    limits = RequestLimits(settings.max_crops, crop_bytes=settings.max_crop_bytes)
    return create_app(
        service, limits, examples, LOOPBACK_NAMES | {settings.host} if is_loopback(settings.host) else None
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address. Raises BadSettings where it is taken or is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise BadSettings(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def server(app: FastAPI) -> uvicorn.Server:
    """A server for the application; its life is managed by the caller, not by the application."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )


async def run_server(app: FastAPI, service: Service, settings: Settings) -> None:
    """Listen, then warm up: `/livez` answers from the start, `/readyz` when requests are taken."""
    with listen(settings.host, settings.port) as door:
        warming = None if service.readiness.ready else asyncio.create_task(service.start())
        port = door.getsockname()[1]
        notes.print(f"serving on http://{settings.host}:{port}  ({service.model.label})", markup=False)
        # uvicorn stops at SIGTERM and then raises it again, which must not end us before the gallery is closed.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        await server(app).serve(sockets=[door])
        if warming:
            await warming
