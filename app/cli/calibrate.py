"""`reid calibrate`: what a collection's scores mean, learnt from its own labels."""

import asyncio
from typing import Annotated, Any

import typer

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, notes, out, write_json
from app.cli.waiting import result_of


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    collection: Annotated[str, typer.Option(help="Collection whose labelled items are learnt from.")],
    fpir: Annotated[
        float, typer.Option(help="Rate of false matches that its searches keep: 0.001, 0.01 or 0.05.")
    ] = 0.01,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Learn which scores are a match, so that searches answer match, unsure or unknown. Status 1 where labels are too few."""
    answer = asyncio.run(_calibrate(Target(url, model, data), collection, fpir))
    learnt = answer["calibrations"]
    if not write_json(json, answer):
        for by, one in learnt.items():
            out.print(f"{by}:", style="bold")
            for sentence in one["sentences"] or [one["refused"]]:
                out.print(f"  {sentence}")
    if all(one["refused"] for one in learnt.values()):
        notes.print(f"{collection}: searches go on to answer with scores alone", style="yellow")
        raise typer.Exit(1)


async def _calibrate(target: Target, collection: str, fpir: float) -> dict[str, Any]:
    async with connect(target) as client:
        answer = await client.calibrate(collection, fpir, wait=1)
        if "state" in answer:
            await result_of(client, answer, "calibrating")
            answer = await client.calibrations(collection)
        return answer
