"""`reid index`: a folder of crops into a collection."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

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
from app.client import Client, CropFile
from app.core.records import Label, NamedFiles, NamePattern, label_files, require_labels
from app.errors import BadInput, ServerRefused

_BATCH, _AT_ONCE = 32, 2  # two requests in flight: one is read and decoded while the other is embedded


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("index")(index)


def index(
    folder: Annotated[Path, typer.Argument(help="Folder of crops.")],
    collection: Annotated[str, typer.Option(help="Collection to index into; made if it is not there.")],
    pattern: Annotated[
        str | None,
        typer.Option(
            help="duke, market1501, msmt17 or a regular expression; default: label what is recognised, keep the rest unlabelled."
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also the folders below.")] = False,
    keep_crops: Annotated[bool | None, typer.Option(help="Keep the crops themselves in a new collection.")] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Index a folder of crops. What was acknowledged stays, whatever happens; indexing again adds nothing twice."""
    files = label_files(list_folder(folder, recursive), NamePattern(pattern or "auto"))
    if pattern is not None:
        require_labels(files)
    if not files.labelled and not files.unlabelled:
        raise BadInput(f"no pictures in {str(folder)!r} ({len(files.skipped)} other files)")
    summary = asyncio.run(_index(Target(url, model, data), folder, collection, files, pattern is None, keep_crops))
    refused = summary["results"]["refused"]
    if not write_json(json, summary):
        counts = ", ".join(f"{n} {status}" for status, n in summary["results"].items() if n)
        out.print(f"{collection}: {counts}; {summary['labelled']} labelled, {summary['unlabelled']} unlabelled, "
                  f"{summary['junk']} junk dropped, {summary['skipped']} skipped")  # fmt: skip
    if refused:
        raise typer.Exit(1)


async def _index(
    target: Target, folder: Path, collection: str, files: NamedFiles, keep_unlabelled: bool, keep_crops: bool | None
) -> dict[str, Any]:
    async with connect(target) as client:
        await client.put_collection(collection, keep_crops)
        results = await send(client, folder, collection, rows_of(files, keep_unlabelled))
    return {
        "collection": collection,
        "results": dict(results),
        "labelled": len(files.labelled),
        "unlabelled": len(files.unlabelled) if keep_unlabelled else 0,
        "junk": len(files.junk),
        "skipped": len(files.skipped) + (0 if keep_unlabelled else len(files.unlabelled)),
    }


def rows_of(files: NamedFiles, keep_unlabelled: bool = True) -> list[tuple[str, Label | None]]:
    """The files to index with their labels."""
    return [*files.labelled, *((name, None) for name in (files.unlabelled if keep_unlabelled else ()))]


async def send(
    client: Client, folder: Path, collection: str, rows: Sequence[tuple[str, Label | None]]
) -> Mapping[str, int]:
    """Send files in batches, some at once; how many were added, unchanged, updated, refused. Refusals are printed."""
    counts: Counter[str] = Counter(added=0, unchanged=0, updated=0, refused=0)
    pieces = _pieces(rows)
    with progress("crops") as bar:
        task = bar.add_task(f"indexing {collection}", total=len(rows))

        async def work() -> None:
            for piece in pieces:  # shared: each worker takes the next
                crops = await asyncio.to_thread(_read, folder, piece)
                for result in await _add(client, collection, crops):
                    counts[result["status"]] += 1
                    if result.get("error"):
                        notes.print(f"refused: {result['error']['detail']}", style="yellow")
                bar.advance(task, len(piece))

        try:
            await all_of(work() for _ in range(_AT_ONCE))
        finally:
            if sum(counts.values()) < len(rows):
                notes.print(f"stopped: {sum(counts.values())} of {len(rows)} crops were acknowledged and stay")
    return counts


async def _add(client: Client, collection: str, crops: list[CropFile]) -> list[dict[str, Any]]:
    """Add crops; where they are too many or too large for one request, in halves, down to the one that is too large."""
    try:
        return await client.add(collection, crops)
    except ServerRefused as error:
        if error.answered != 413:
            raise
        if len(crops) == 1:
            detail = f"{crops[0].name}: {len(crops[0].data)} bytes; {error}"
            return [{"name": crops[0].name, "status": "refused", "error": {"detail": detail}}]
    half = len(crops) // 2
    return [*await _add(client, collection, crops[:half]), *await _add(client, collection, crops[half:])]


def _pieces(rows: Sequence[tuple[str, Label | None]]) -> Iterator[Sequence[tuple[str, Label | None]]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _read(folder: Path, rows: Sequence[tuple[str, Label | None]]) -> list[CropFile]:
    return [CropFile(name, (folder / name).read_bytes(), _about(label)) for name, label in rows]


def _about(label: Label | None) -> dict[str, object]:
    return {"person_id": label.person_id, "camera_id": label.camera_id} if label else {}
