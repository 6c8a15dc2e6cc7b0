"""`reid erase`: items or persons, for good, with a receipt."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from app.cli.caretaking import caretaker
from app.cli.common import Data, JsonPath, Target, Url, notes, out, write_json
from app.errors import BadInput


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("erase")(erase)


def erase(
    collection: Annotated[str, typer.Option(help="Collection that they are in.")],
    persons: Annotated[list[str] | None, typer.Option(help="These persons; repeatable.")] = None,
    ids: Annotated[list[str] | None, typer.Option(help="Items of these ids; repeatable.")] = None,
    cameras: Annotated[list[str] | None, typer.Option(help="Items of these cameras; repeatable.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(help="Items with this key:value; repeatable.")] = None,
    captured_from: Annotated[str | None, typer.Option(help="Items captured then or later; RFC 3339.")] = None,
    captured_to: Annotated[str | None, typer.Option(help="Items captured before; RFC 3339.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every item of the collection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Remove items for good, with all that was made of them; the receipt says which snapshots still hold some of it."""
    which: dict[str, Any] = {
        "persons": persons, "ids": ids, "cameras": cameras, "attribute": attribute, "captured_from": captured_from,
        "captured_to": captured_to, "all": everything or None,
    }  # fmt: skip
    said = {name: value for name, value in which.items() if value is not None}
    target = Target(url, None, data)
    if not yes and not sys.stdin.isatty():
        raise BadInput("nobody can be asked here whether to erase that; say --yes")
    if not yes:
        typer.confirm(f"Erase from {collection} what {said or 'nothing'} says, for good?", abort=True, err=True)
    receipt = asyncio.run(_erase(target, collection, said))
    if not write_json(json, receipt):
        _show(receipt)


async def _erase(target: Target, collection: str, which: dict[str, Any]) -> dict[str, Any]:
    async with caretaker(target, derive=True) as client:
        return await client.erase(collection, which)


def _show(receipt: dict[str, Any]) -> None:
    line = receipt["audit"]
    out.print(f"{receipt['collection']}: {receipt['items']} items erased at {receipt['erased_at']}")
    out.print(f"audit: line {line['seq']}, hash {line['hash']}")
    if receipt["snapshots"]:
        out.print(f"snapshots that hold some of it: {', '.join(receipt['snapshots'])}; a restore leaves it out")
    if receipt["unreachable"]:
        notes.print(f"snapshots that could not be looked into: {', '.join(receipt['unreachable'])}", style="yellow")
    if receipt["recorded"] is False:
        notes.print(
            "it could not be recorded beside every snapshot; the next erase, snapshot or start tries again",
            style="yellow",
        )
