"""The collection that searches ask and index requests fill: made over HTTP, filled with a made-up crowd's vectors."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import aiohttp

from app.cli.bench.crowd import Crowd, Size
from tests.load.calls import COLLECTION
from tests.load.run import Target

DUKE_ROWS = 17_661  # gallery of DukeMTMC-reID
_AT_ONCE = 250  # vectors a request: about 2.7 MB of base64 at 2048 numbers


async def make_collection(target: Target, rows: int = 0) -> None:
    """Make it where it is missing, and put so many vectors in; returns when the server is done with its index."""
    async with aiohttp.ClientSession(target.url, raise_for_status=True) as session:
        async with session.get("/v1/model") as answer:
            model = await answer.json()
        async with session.put(f"/v1/collections/{COLLECTION}", json={}):
            pass
        for items in _crowd(rows, int(model["dim"])) if rows else ():
            body = {"fingerprint": model["fingerprint"], "items": items}
            lines = {"Accept": "application/x-ndjson"}
            async with session.post(f"/v1/collections/{COLLECTION}/items", json=body, headers=lines) as answer:
                if b'"refused"' in await answer.read():
                    raise RuntimeError("the server refused vectors of the made-up crowd")
        while await _pending(session):  # it would take processor time from what is measured
            await asyncio.sleep(0.2)


async def _pending(session: aiohttp.ClientSession) -> bool:
    async with session.get("/v1/stats") as answer:
        return bool((await answer.json())["collections"][COLLECTION]["index"]["pending"])


def _crowd(rows: int, dim: int) -> Iterator[list[dict[str, Any]]]:
    crowd = Crowd(Size(rows=rows, queries=1, dim=dim))
    for start, vectors in crowd.pieces():
        described = crowd.items(start, len(vectors))
        for first in range(0, len(vectors), _AT_ONCE):
            part = zip(described[first : first + _AT_ONCE], vectors[first : first + _AT_ONCE], strict=True)
            yield [
                {
                    "id": item.id,
                    "person_id": item.person_id,
                    "camera_id": item.camera_id,
                    "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
                }
                for item, vector in part
            ]
