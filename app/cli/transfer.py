"""`reid export`, `reid import` and `reid reembed`: a collection with its vectors elsewhere, back, and under a new model."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, out, write_json
from app.cli.waiting import ingested
from app.client import Json
from app.errors import BadInput
from app.files import whole_file


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("export")(export)
    app.command("import")(import_archive)
    app.command("reembed")(reembed)


def export(
    collection: Annotated[str, typer.Argument(help="Collection to take out.")],
    file: Annotated[Path, typer.Argument(help="Archive to write.")],
    url: Url = None,
    model: Model = None,
    data: Data = None,
) -> None:
    """A collection with its vectors, and its crops where it keeps them, as one tar archive."""
    asyncio.run(_export(Target(url, model, data), collection, file))
    out.print(f"{collection}: {file.stat().st_size:,} bytes in {file}")


def import_archive(
    file: Annotated[
        Path, typer.Argument(help="Archive that `reid export` wrote; with --url one that the server reads.")
    ],
    collection: Annotated[str, typer.Option(help="Collection to put it into; made if it is not there.")],
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """An exported collection into one of this model. What is there already, unchanged, stays."""
    summary = asyncio.run(_import(Target(url, model, data), file, collection))
    if not write_json(json, summary):
        out.print(f"{collection}: {', '.join(f'{n} {status}' for status, n in summary['results'].items() if n)}")


def reembed(
    collection: Annotated[str, typer.Argument(help="Collection that kept its crops; it stays.")],
    into: Annotated[str, typer.Option(help="Collection to make of them with the loaded model.")],
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Kept crops through the loaded model, into another collection. Status 1 where some items had no crop."""
    summary = asyncio.run(_reembed(Target(url, model, data), collection, into))
    if not write_json(json, summary):
        out.print(f"{into}: {summary['items']} items; {summary['without_crop']} of {collection} have no crop")
    if summary["without_crop"]:
        raise typer.Exit(1)


async def _export(target: Target, collection: str, file: Path) -> None:
    async with connect(target) as client:
        with whole_file(file) as partial, partial.open("wb") as archive:
            async for piece in client.export(collection):
                archive.write(piece)


async def _import(target: Target, file: Path, collection: str) -> Json:
    here = target.url is None
    if here and not file.is_file():
        raise BadInput(f"there is no archive {str(file)!r}")
    async with connect(target, root=file.parent if here else None) as client:
        wish = {"archive": str(file.resolve() if here else file), "wait": 0}
        return await ingested(client, await client.import_into(collection, wish), f"importing {collection}", "bytes")


async def _reembed(target: Target, collection: str, into: str) -> Json:
    async with connect(target) as client:
        return await ingested(
            client, await client.reembed(collection, into, wait=0), f"embedding {collection}", "crops"
        )
