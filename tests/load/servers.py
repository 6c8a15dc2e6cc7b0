"""Servers to be measured: our own as `reid serve` starts it, or one that runs already."""

import asyncio
import ipaddress
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tests.load.run import Target
from tests.server import Server

OURS = "reid"
READY_S = 120.0


@asynccontextmanager
async def our_server(
    model: Path, variant: str, threads: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Target]:
    """`reid serve` on a free port with an empty data directory, ready; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="reid-load-") as data:
        given = {"REID_VARIANT": variant, "REID_THREADS": str(threads), **(environment or {})}
        server = await asyncio.to_thread(lambda: Server("--model", str(model), "--data", data, environment=given))
        try:
            await wait_until_ready(f"{server.url}/readyz")
            yield Target(OURS, server.url, (server.process.pid,))
        finally:
            with suppress(ProcessLookupError):
                await asyncio.to_thread(server.stop, signal.SIGTERM)


async def wait_until_ready(url: str, seconds: float = READY_S) -> None:
    """Returns once it answers 200. Raises TimeoutError with what it said last."""
    said = "nothing"
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError, ConnectionError):
                    async with session.get(url) as answer:
                        said = f"{answer.status} {await answer.text()}"
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(f"{url} was not ready within {seconds:.0f} s; it said {said}") from error


def running_server(url: str, pid: int | None, remote_too: bool) -> Target:
    """One that somebody else started. Raises ValueError for another machine's, unless that is meant."""
    host = urlsplit(url).hostname or ""
    if not remote_too and not is_loopback(host):
        raise ValueError(f"{host or url} is not this machine; add --yes-remote if its owner agrees to be loaded")
    return Target(OURS, url.rstrip("/"), (pid,) if pid else ())


def is_loopback(host: str) -> bool:
    """Whether a host of an address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port() -> int:
    """For a server that cannot take port 0 and tell which it got."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def cores() -> int:
    """That this process may use: the thread budget of every model."""
    return len(os.sched_getaffinity(0))
