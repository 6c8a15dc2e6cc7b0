"""`reid demo`: drawn people to try everything on, and the demo server of `make run`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from fastapi import FastAPI

from app.cli.common import application, list_folder, log_to_stderr, notes, out, progress, start
from app.cli.index import rows_of, send
from app.cli.serve import Server, listen, run_server
from app.client import Client
from app.core.records import NamePattern, label_files, sort_names
from app.demo.dataset import DEMO, write_folder
from app.settings import Settings, read_settings
from app.wiring import open_service

COLLECTION = "demo"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the demo; the pictures go to DIR/data.")],
    and_serve: Annotated[
        bool, typer.Option("--serve", help="Index them into the collection `demo`, and serve.")
    ] = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port [REID_PORT; default: 8000].")] = None,
) -> None:
    """Draw the demo data: about 1,100 crops of drawn people, in DukeMTMC-reID's layout."""
    data = folder / "data"
    if data.is_dir():
        notes.print(f"{data} is there already")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with progress("crops") as bar:
            task = bar.add_task("drawing people", total=None)
            counts = write_folder(DEMO, data, lambda: bar.advance(task))
        out.print(f"{data}: {counts['query']} queries, {counts['bounding_box_test']} gallery crops")
    if and_serve:
        settings = read_settings(port=port, data_dir=folder / "gallery", data_roots=(data.resolve(),))
        log_to_stderr(settings)
        listen(settings.host, settings.port).close()  # a taken port is told now, not after the indexing
        asyncio.run(_serve(settings, data))


async def _serve(settings: Settings, data: Path) -> None:
    async with open_service(settings) as service:
        await start(service)
        app = application(service, settings, examples=data / "query")
        # Indexed over a port of its own, so that the gallery is whole before anyone is told that the server is ready.
        async with _listening(app) as url, Client(url) as client:
            await _index(client, data / "bounding_box_test", service.model.fingerprint)
        query = sort_names(list_folder(data / "query"))[0]
        address = f"http://{settings.host}:{settings.port}"
        out.print(
            f"\nTry it:\n  curl -F image=@{data / 'query' / query} '{address}/v1/collections/{COLLECTION}/search?k=5'",
        )
        out.print(f"or open {address}/\n")
        await run_server(app, service, settings)


@asynccontextmanager
async def _listening(app: FastAPI) -> AsyncIterator[str]:
    """The application on a free port of this machine."""
    with listen("127.0.0.1", 0) as door:
        inner = Server(app)
        task = asyncio.create_task(inner.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"  # the kernel holds connections until it accepts them
        finally:
            inner.should_exit = True
            await task


async def _index(client: Client, gallery: Path, fingerprint: str) -> None:
    files = label_files(list_folder(gallery), NamePattern("duke"))
    collection = await client.put_collection(COLLECTION, keep_crops=True)
    if collection["fingerprint"] != fingerprint:  # of an older demo model; its crops are all here to be indexed again
        await client.delete_collection(COLLECTION)
        await client.put_collection(COLLECTION, keep_crops=True)
    counts = await send(client, gallery, COLLECTION, rows_of(files))
    out.print(f"collection {COLLECTION}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n))
    if counts["added"] + counts["updated"] or not (await client.calibrations(COLLECTION))["calibrations"]:
        await client.calibrate(COLLECTION, fpir=0.01, wait=300)  # so that answers come with a decision
