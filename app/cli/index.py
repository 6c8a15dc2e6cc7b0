"""`reid index`: a folder of crops, or of vectors that ais_bench wrote, into a collection."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli import vectors
from app.cli.common import Data, JsonPath, Model, Target, Url, connect, list_folder, notes, out, write_json
from app.cli.sending import about, add_in_halves, send_rows
from app.cli.waiting import ingested
from app.client import Client, CropFile, Json
from app.core.records import Label, NamedFiles, NamePattern, label_files, require_labels
from app.errors import BadInput
from app.files import whole_file


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("index")(index)


def index(
    collection: Annotated[str, typer.Option(help="Collection to index into; made if it is not there.")],
    folder: Annotated[Path | None, typer.Argument(help="Folder of crops.")] = None,
    ais_bench: Annotated[
        Path | None, typer.Option(help="Instead: results of ais_bench, made by the model that is loaded here.")
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Pictures behind the results: some are embedded here and compared.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="duke, market1501, msmt17 or a regular expression; default: label what is recognised, keep the rest unlabelled."
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also the folders below.")] = False,
    keep_crops: Annotated[bool | None, typer.Option(help="Keep the crops themselves in a new collection.")] = None,
    on_server: Annotated[
        bool, typer.Option(help="With --url: FOLDER is one that the server itself reads, below its REID_DATA_ROOTS.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Also write what was refused, and why, to this file.")] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Index a folder of crops. What was acknowledged stays, whatever happens; indexing again adds nothing twice."""
    if (folder is None) == (ais_bench is None):
        raise typer.BadParameter("give either a FOLDER of crops or --ais-bench, a folder of results")
    target = Target(url, model, data)
    if on_server and url is None:
        raise typer.BadParameter("--on-server goes with --url")
    if ais_bench is not None:
        if recursive or on_server or report:
            raise typer.BadParameter("--recursive, --on-server and --report go with a FOLDER of crops")
        summary = vectors.index_results(target, ais_bench, collection, pattern, crops, keep_crops)
    else:
        assert folder is not None
        if crops is not None:
            raise typer.BadParameter("--crops goes with --ais-bench")
        wish = {"folder": str(folder), "pattern": pattern, "recursive": recursive}
        if url is None or on_server:
            summary = asyncio.run(_import(target, folder, collection, wish, keep_crops))
        else:
            summary = _send_folder(target, folder, recursive, collection, pattern, keep_crops)
        _tell_refused(summary["refused"], report)
    if not write_json(json, summary):
        _show(summary)
    if summary["results"]["refused"]:
        raise typer.Exit(1)


async def _import(target: Target, folder: Path, collection: str, wish: Json, keep_crops: bool | None) -> Json:
    """As a job, where the folder can be read: in this process, or by the server that is named."""
    if target.url is None:
        list_folder(folder)  # its sentence names the folder as it was given
        wish = {**wish, "folder": str(folder.resolve())}
    async with connect(target, root=folder if target.url is None else None) as client:
        await client.put_collection(collection, keep_crops)
        job = await client.import_into(collection, {**wish, "wait": 0})
        return await ingested(client, job, f"indexing {collection}", "crops")


def _tell_refused(refused: list[Json], report: Path | None) -> None:
    for one in refused:
        notes.print(f"refused: {one['detail']}", style="yellow")
    if report is not None:
        with whole_file(report) as partial:
            partial.write_text("".join(f"{one['name']}\t{one['detail']}\n" for one in refused), encoding="utf-8")


def _send_folder(
    target: Target, folder: Path, recursive: bool, collection: str, pattern: str | None, keep_crops: bool | None
) -> Json:
    files = label_files(list_folder(folder, recursive), NamePattern(pattern or "auto"))
    if pattern is not None:
        require_labels(files)
    if not files.labelled and not files.unlabelled:
        raise BadInput(f"no pictures in {str(folder)!r} ({len(files.skipped)} other files)")
    return asyncio.run(_index(target, folder, collection, files, pattern is None, keep_crops))


async def _index(
    target: Target, folder: Path, collection: str, files: NamedFiles, keep_unlabelled: bool, keep_crops: bool | None
) -> Json:
    async with connect(target) as client:
        await client.put_collection(collection, keep_crops)
        refused: list[Json] = []
        results = await send(client, folder, collection, rows_of(files, keep_unlabelled), refused)
    return {
        "collection": collection,
        "results": dict(results),
        "refused": refused,
        "labelled": len(files.labelled),
        "unlabelled": len(files.unlabelled) if keep_unlabelled else 0,
        "junk": len(files.junk),
        "skipped": len(files.skipped) + (0 if keep_unlabelled else len(files.unlabelled)),
    }


def _show(summary: Json) -> None:
    counts = ", ".join(f"{n} {status}" for status, n in summary["results"].items() if n)
    out.print(f"{summary['collection']}: {counts}; {summary['labelled']} labelled, {summary['unlabelled']} unlabelled, "
              f"{summary['junk']} junk dropped, {summary['skipped']} skipped")  # fmt: skip


def rows_of(files: NamedFiles, keep_unlabelled: bool = True) -> list[tuple[str, Label | None]]:
    """The files to index with their labels."""
    return [*files.labelled, *((name, None) for name in (files.unlabelled if keep_unlabelled else ()))]


async def send(
    client: Client,
    folder: Path,
    collection: str,
    rows: Sequence[tuple[str, Label | None]],
    refused: list[Json] | None = None,
) -> Mapping[str, int]:
    """Send files in batches, some at once; how many were added, unchanged, updated, refused.

    Refusals are added to `refused`, or printed where there is none.
    """

    async def piece(rows: Sequence[tuple[str, Label | None]]) -> list[Json]:
        crops = await asyncio.to_thread(_read, folder, rows)
        return await add_in_halves(functools.partial(client.add, collection), crops)

    return await send_rows(collection, rows, piece, refused)


def _read(folder: Path, rows: Sequence[tuple[str, Label | None]]) -> list[CropFile]:
    return [CropFile(name, (folder / name).read_bytes(), about(label)) for name, label in rows]
