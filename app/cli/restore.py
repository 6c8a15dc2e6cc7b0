"""`reid restore`: a new data directory out of a snapshot, or one of its collections beside those that are there."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.caretaking import caretaker
from app.cli.common import Data, JsonPath, Target, Url, out, progress, write_json
from app.cli.waiting import result_of
from app.errors import BadInput
from app.settings import read_settings


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("restore")(restore)


def restore(
    snapshot: Annotated[str, typer.Argument(help="The snapshot's folder; with --collection its id.")],
    collection: Annotated[
        str | None, typer.Option(help="Only this collection, into the galleries that are there.")
    ] = None,
    name: Annotated[str | None, typer.Option("--as", help="With --collection: its new name.")] = None,
    erasures: Annotated[
        Path | None, typer.Option(help="What was erased since; default: erasures.jsonl beside the snapshot's folder.")
    ] = None,
    ignore_erasures: Annotated[
        bool, typer.Option(help="Restore also what was erased since, because that file is lost.")
    ] = False,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Restore a snapshot into an empty data directory (--data), without what was erased since it was made."""
    target = Target(url, None, data)
    if collection is None:
        if url is not None or name is not None:
            raise typer.BadParameter("--url and --as go with --collection; a whole snapshot needs an empty --data")
        answer = _directory(Path(snapshot), target, erasures, ignore_erasures)
    elif name is None or erasures is not None or ignore_erasures:
        raise typer.BadParameter("--collection needs --as, its new name, and takes what was erased from where it lies")
    else:
        answer = asyncio.run(_collection(target, snapshot, collection, name))
    if not write_json(json, answer):
        left_out = f"; {answer['erased']} that were erased since are left out" if answer["erased"] else ""
        out.print(f"{name or answer['directory']}: {answer['items']} items restored{left_out}")


def _directory(source: Path, target: Target, erasures: Path | None, ignore: bool) -> dict[str, Any]:
    from app.adapters.local_gallery.erasures import LOG
    from app.adapters.local_gallery.restore import restore_directory

    directory = read_settings(data_dir=target.data).data_dir
    log = erasures or source.resolve().parent / LOG
    if not ignore and not log.is_file():
        raise BadInput(
            f"{log} is not there, so that nobody knows what was erased since the snapshot was made; "
            "name it with --erasures, or accept that with --ignore-erasures"
        )
    with progress("bytes") as bar:
        task = bar.add_task("copying", total=None)
        restored = restore_directory(
            source,
            directory,
            None if ignore else log,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    told = {name: getattr(restored, name) for name in ("snapshot", "items", "erased", "erasures")}
    return {"directory": str(directory), **told}


async def _collection(target: Target, snapshot_id: str, collection: str, name: str) -> dict[str, Any]:
    async with caretaker(target, derive=True) as client:
        answer = await client.restore(snapshot_id, collection, name, wait=1)
        return await result_of(client, answer, "restoring", "items") if "state" in answer else answer
