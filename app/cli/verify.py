"""`reid verify`: are these the same person?"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, list_folder, out, write_json
from app.cli.search import note_refused, read_crop
from app.client import Json
from app.core.records import pictures
from app.errors import BadInput


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("verify")(verify)


def verify(
    a: Annotated[Path, typer.Argument(help="A crop, or a folder with up to 16 crops of one person.")],
    b: Annotated[Path | None, typer.Argument(help="Another one; with --item-id there is none.")] = None,
    collection: Annotated[
        str | None, typer.Option(help="The item's collection, whose calibration tells what a score means.")
    ] = None,
    item_id: Annotated[str | None, typer.Option(help="Compare with this item of the collection.")] = None,
    fpir: Annotated[
        float | None, typer.Option(help="Rate of false matches that the decision keeps: 0.001, 0.01 or 0.05.")
    ] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Compare two crops, two folders of crops, or a crop and an item: the same person?"""
    if (b is None) == (item_id is None):
        raise typer.BadParameter("give a second crop or folder, or --item-id with --collection; one of the two")
    answer = asyncio.run(_verify(Target(url, model, data), a, b, collection=collection, item_id=item_id, fpir=fpir))
    refused = [*answer["a"]["refused"], *answer["b"]["refused"]]
    if not write_json(json, answer):
        note_refused(refused)
        _show(answer)
    if refused:
        raise typer.Exit(1)


async def _verify(target: Target, a: Path, b: Path | None, **options: object) -> Json:
    one, other = _read(a), [] if b is None else _read(b)
    async with connect(target, stored=options["collection"] is not None) as client:
        return await client.verify(one, other, **options)


def _read(path: Path) -> list[tuple[str, bytes]]:
    if not path.is_dir():
        return [(path.name, read_crop(path))]
    names, _ = pictures(list_folder(path))
    if not names:
        raise BadInput(f"folder {str(path)!r} holds no picture")
    return [(name, read_crop(path / name)) for name in names]


def _show(answer: dict[str, Any]) -> None:
    out.print(f"score {answer['score']:.3f}")
    if answer["probability"] is not None:
        out.print(f"probability of the same person {answer['probability']:.1%}")
    out.print(f"decision: {answer['decision'] or 'none'}")
    if answer["decision_reason"]:
        out.print(answer["decision_reason"])
