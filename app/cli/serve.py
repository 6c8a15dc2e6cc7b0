"""`reid serve`: the HTTP server."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from app.cli.common import Data, Model, application, log_to_stderr, notes
from app.errors import BadSettings
from app.service import Service
from app.settings import Settings, read_settings
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
    try:
        asyncio.run(_serve(settings))
    except asyncio.CancelledError as stopped:  # SIGTERM while the devices were opened
        raise typer.Exit(0) from stopped


async def _serve(settings: Settings) -> None:
    if task := asyncio.current_task():  # until the server has handlers of its own; what is half open is closed
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_service(settings) as service:
        await run_server(application(service, settings), service, settings)


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address. Raises BadSettings where it is taken or is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise BadSettings(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    # An answer goes out as head and body; with Nagle's algorithm the body waits 40 ms for the client's delayed
    # acknowledgement (RFC 1122, 4.2.3.2). asyncio turns it off only on sockets that name their protocol, and
    # `create_server` makes one that does not; connections inherit the option from here.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return door


class Server(uvicorn.Server):
    """A server for an application whose life, and whose signals, are managed by the caller."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: uvicorn would raise them again at its end, before the gallery is closed."""
        yield

    def stop_where_it_failed(self, warming: "asyncio.Task[None]") -> None:
        """A start that fails ends the server; whoever waits for the task is told why."""
        if not warming.cancelled() and warming.exception() is not None:
            self.should_exit = True

    def stop_on(self, release: Callable[[], None], *signals: signal.Signals) -> list[signal.Signals]:
        """Stop gracefully at the first of these signals, at once at the next; the list fills with those that came.

        release: lets go of callers who wait for something that may take long; the server would wait for them.
        """
        came: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True
            came.append(number)
            release()

        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return came


async def run_server(app: FastAPI, service: Service, settings: Settings) -> None:
    """Listen, then warm up: `/livez` answers from the start, `/readyz` when requests are taken. Ends at a signal."""
    with listen(settings.host, settings.port) as door:
        server = Server(app)
        came = server.stop_on(service.jobs.release, signal.SIGINT, signal.SIGTERM)
        warming = asyncio.create_task(_warm_up(service))
        warming.add_done_callback(server.stop_where_it_failed)
        notes.print(f"serving on http://{settings.host}:{door.getsockname()[1]}  ({service.model.label})")
        await server.serve(sockets=[door])
        warming.cancel()  # closing gives up whatever it still waits for
        with suppress(asyncio.CancelledError):
            await warming
    if signal.SIGINT in came:
        raise KeyboardInterrupt


async def _warm_up(service: Service) -> None:
    if not service.engine.started:
        await service.start()
    await service.jobs.adopt()
    service.calibrations.renew_with(service.jobs)
