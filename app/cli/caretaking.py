"""The way to a server's upkeep, or to that of a data directory: without a model, and where the gallery is damaged too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from app.api import create_upkeep_app
from app.cli.common import Target
from app.client import Client
from app.settings import read_settings
from app.wiring import open_caretaker


@asynccontextmanager
async def caretaker(target: Target, derive: bool = False) -> AsyncIterator[Client]:
    """A client to the server at --url, or to the routes of upkeep over the data directory.

    derive: make ready what searches read, without which nothing can be erased or added.
    """
    if target.url is not None:
        async with Client(target.url) as client:
            yield client
        return
    settings = read_settings(data_dir=target.data)
    async with (
        open_caretaker(settings, derive) as opened,
        Client("http://127.0.0.1", httpx.ASGITransport(create_upkeep_app(opened))) as client,
    ):
        yield client
