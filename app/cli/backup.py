"""`reid backup`: snapshots of all galleries."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.caretaking import caretaker
from app.cli.common import Data, JsonPath, Target, Url, out, write_json
from app.cli.waiting import result_of


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("backup")(backup)


def backup(
    list_all: Annotated[bool, typer.Option("--list", help="Show the snapshots there are, and make none.")] = False,
    delete: Annotated[str | None, typer.Option(help="Remove the snapshot of this id instead.")] = None,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Copy everything, as it is at one moment, into the folder of snapshots (REID_SNAPSHOT_DIR); a server goes on meanwhile."""
    if list_all and delete is not None:
        raise typer.BadParameter("--list shows snapshots, --delete removes one: give one or the other")
    answer = asyncio.run(_backup(Target(url, None, data), list_all, delete))
    if write_json(json, answer):
        return
    if list_all:
        out.print(_table(answer["snapshots"]))
    elif delete is not None:
        out.print(f"{delete} is removed")
    else:
        out.print(f"{answer['path']}: {_held(answer)}, {answer['bytes']} bytes, sha256 {answer['sha256']}")


async def _backup(target: Target, list_all: bool, delete: str | None) -> dict[str, Any]:
    async with caretaker(target) as client:
        if list_all:
            return await client.snapshots()
        if delete is not None:
            await client.delete_snapshot(delete)
            return {"deleted": delete}
        answer = await client.snapshot(wait=1)
        return await result_of(client, answer, "copying", "bytes") if "state" in answer else answer


def _table(snapshots: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "bytes", "collections", "path"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for one in snapshots:
        table.add_row(one["id"], str(one["bytes"]), _held(one), one["path"])
    return table


def _held(snapshot: dict[str, Any]) -> str:
    if not snapshot["reachable"]:
        return "not reachable"
    return ", ".join(f"{name} {items}" for name, items in snapshot["collections"].items()) or "no collection"
