"""`reid embed`: a folder of crops to a file of vectors."""

import asyncio
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.cli.common import (
    Data,
    JsonPath,
    Model,
    Target,
    Url,
    all_of,
    connect,
    list_folder,
    notes,
    out,
    progress,
    write_json,
)
from app.client import Client
from app.core.records import pictures
from app.errors import BadInput, ServerRefused
from app.files import whole_file

_AT_ONCE = 8


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("embed")(embed)


def embed(
    folder: Annotated[Path, typer.Argument(help="Folder of crops.")],
    output: Annotated[Path, typer.Option(help="File to write: arrays `vectors` (raw float32) and `names`.")],
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Embed every picture of a folder, in byte order of the names; what cannot be embedded is named and left out."""
    if not output.parent.is_dir():  # told before the work, not after
        raise BadInput(f"there is no folder {str(output.parent)!r} to write {output.name} into")
    names, skipped = pictures(list_folder(folder))
    if not names:
        raise BadInput(f"no pictures in {str(folder)!r}")
    vectors = asyncio.run(_embed(Target(url, model, data), folder, names))
    kept = [name for name, vector in zip(names, vectors, strict=True) if vector is not None]
    rows = [vector for vector in vectors if vector is not None]
    if not rows:
        raise BadInput(f"no picture in {str(folder)!r} could be embedded")
    with whole_file(output) as partial, partial.open("wb") as file:  # a name alone would be given the ending .npz
        np.savez(file, vectors=np.stack(rows), names=np.array(kept))
    summary = {"output": str(output), "embedded": len(kept), "refused": len(names) - len(kept), "dim": len(rows[0])}
    summary["skipped"] = len(skipped)
    if not write_json(json, summary):
        out.print(
            f"{output}: {len(kept)} vectors of {len(rows[0])}, {len(names) - len(kept)} refused, {len(skipped)} skipped"
        )
    if len(kept) < len(names):
        raise typer.Exit(1)


async def _embed(target: Target, folder: Path, names: list[str]) -> list[np.ndarray | None]:
    vectors: list[np.ndarray | None] = [None] * len(names)
    todo = iter(enumerate(names))
    async with connect(target, stored=False) as client:
        with progress("crops") as bar:
            task = bar.add_task("embedding", total=len(names))

            async def work() -> None:
                for position, name in todo:  # shared: each worker takes the next
                    vectors[position] = await _one(client, folder / name)
                    bar.advance(task)

            await all_of(work() for _ in range(_AT_ONCE))
    return vectors


async def _one(client: Client, path: Path) -> np.ndarray | None:
    try:
        unit, norm, _ = await client.embed([(path.name, path.read_bytes())])
    except ServerRefused as error:
        if error.answered not in (413, 422):  # the picture's fault, not the server's
            raise
        notes.print(f"refused: {error}", style="yellow")
        return None
    return np.asarray(np.frombuffer(unit, dtype="<f4") * np.frombuffer(norm, dtype="<f4"))
