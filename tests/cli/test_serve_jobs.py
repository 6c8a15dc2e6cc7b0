"""The server and jobs: it takes up what the last one left waiting, and does not wait for those who listen."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from app.adapters.local_gallery import LocalGallery
from app.api import create_app
from app.cli.serve import listen, run_server
from app.core.jobs import Job
from app.service.jobs import Report
from app.settings import Settings
from app.wiring import open_service


def test_a_server_takes_up_what_waits_and_stops_though_somebody_listens(
    tiny_model_directory: Path, tmp_path: Path
) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.jobs.put_job(Job("left", "hang", {}, datetime(2026, 1, 2, tzinfo=UTC)))
    gallery.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(model_dir=tiny_model_directory, data_dir=tmp_path, port=port, threads=1)
    # Well below the ten seconds that a request may take to end by itself.
    events = asyncio.run(asyncio.wait_for(_serve_until_somebody_listens(settings), 8))
    assert events == ["event: progress"]
    gallery = LocalGallery(tmp_path)
    assert gallery.jobs.job("left").state == "failed"
    gallery.close()


async def _serve_until_somebody_listens(settings: Settings) -> list[str]:
    async with open_service(settings) as service:
        begun = asyncio.Event()

        async def hang(job: Job, report: Report) -> Mapping[str, Any]:
            begun.set()
            await asyncio.Event().wait()
            return {}

        service.jobs.register("hang", hang)
        server = asyncio.create_task(run_server(create_app(service), service, settings))
        await begun.wait()
        events = []
        url = f"http://127.0.0.1:{settings.port}/v1/jobs/left/events"
        async with httpx.AsyncClient() as http, http.stream("GET", url) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    events.append(line)
                    os.kill(os.getpid(), signal.SIGTERM)
        await server
    return events


def test_an_answer_does_not_wait_for_the_clients_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        connection, _ = door.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
