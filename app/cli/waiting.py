"""Waiting for a job of a server with a bar that shows how far it is."""

import asyncio
from typing import Any

from app.cli.common import notes, progress
from app.client import Client
from app.errors import BadInput

_LOOK_S = 0.3  # how often it is looked at


async def ingested(client: Client, job: dict[str, Any], doing: str, unit: str = "") -> dict[str, Any]:
    """As `result_of`, for a job that puts crops into a collection: Ctrl-C cancels it, and says what stays."""
    try:
        return await result_of(client, job, doing, unit)
    except asyncio.CancelledError:
        at = (await client.delete_job(job["id"]))["progress"]
        notes.print(f"stopped: {at['done']} of {at['total']} {unit} were acknowledged and stay")
        raise


async def result_of(client: Client, job: dict[str, Any], doing: str, unit: str = "") -> dict[str, Any]:
    """The result of a job when it is done; unit: of its steps. Raises BadInput with the job's sentence where it failed or
    was cancelled.
    """
    with progress(unit) as bar:
        task = bar.add_task(doing, total=None)
        while job["state"] in ("queued", "running"):
            at = job["progress"]
            bar.update(task, completed=at["done"], total=at["total"] or None, description=at["note"] or doing)
            await asyncio.sleep(_LOOK_S)
            job = await client.job(job["id"])
    if job["state"] != "done":
        raise BadInput(job["error"]["detail"] if job["error"] else "it was cancelled")
    result: dict[str, Any] = job["result"]
    return result
