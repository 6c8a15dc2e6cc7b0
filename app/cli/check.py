"""`reid check`: is what is stored whole?"""

import asyncio
from typing import Annotated, Any

import typer

from app.cli.caretaking import caretaker
from app.cli.common import Data, JsonPath, Target, Url, notes, out, write_json
from app.cli.waiting import result_of
from app.errors import StorageFailed


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check")(check)


def check(
    quick: Annotated[
        bool, typer.Option(help="At one vector and crop of a hundred, and not at the database's indexes.")
    ] = False,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Look at the database, at what searches read, and at the audit. Status 1 where something is wrong."""
    answer = asyncio.run(_check(Target(url, None, data), quick))
    if not write_json(json, answer):
        for finding in answer["findings"]:
            faults = finding["faults"]
            out.print(f"{'FAIL' if faults else 'ok':<5} {finding['what']}: {finding['looked_at']}")
            for fault in faults:
                out.print(f"      {fault}")
    if not answer["ok"]:
        raise typer.Exit(1)


async def _check(target: Target, quick: bool) -> dict[str, Any]:
    try:
        async with caretaker(target, derive=True) as client:
            return await _answer(client, quick)
    except StorageFailed as error:  # what searches read cannot be made of it: look at what can be looked at
        notes.print(f"the galleries cannot be searched: {error}", style="red")
        async with caretaker(target) as client:
            return await _answer(client, quick)


async def _answer(client: Any, quick: bool) -> dict[str, Any]:
    answer = await client.check(quick, wait=1)
    found: dict[str, Any] = await result_of(client, answer, "checking") if "state" in answer else answer
    return found
