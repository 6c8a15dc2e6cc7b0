"""`reid evaluate`: the accuracy of a labelled folder, or of vectors that ais_bench wrote."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli import accuracy
from app.cli.common import Data, JsonPath, Model, Pattern, Target, Url, connect, out, progress, write_json


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    folder: Annotated[Path | None, typer.Argument(help="Folder with query/ and bounding_box_test/.")] = None,
    ais_bench: Annotated[
        Path | None, typer.Option(help="Instead: folder with query/ and gallery/, each with results of ais_bench.")
    ] = None,
    pattern: Pattern = "auto",
    variant: Annotated[str | None, typer.Option(help="Embed with this variant [REID_VARIANT].")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=256, help="Embed at this batch size alone [REID_BATCH_SIZES].")
    ] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Evaluate a labelled folder. With --url the folder is one that the server can read."""
    if (folder is None) == (ais_bench is None):
        raise typer.BadParameter("give either a FOLDER of crops or --ais-bench, a folder of results")
    if folder is not None:
        answer = asyncio.run(_evaluate(Target(url, model, data, variant, batch_size), folder, pattern))
    else:
        assert ais_bench is not None
        if any(value is not None for value in (url, model, data, variant, batch_size)):
            raise typer.BadParameter(
                "--ais-bench needs no model and no server; leave --url, --model, --data, --variant and --batch-size out"
            )
        answer = accuracy.of_results(ais_bench, pattern)
    if not write_json(json, answer):
        _show(answer)


async def _evaluate(target: Target, folder: Path, pattern: str) -> dict[str, Any]:
    path = str(folder.resolve()) if target.url is None or folder.exists() else str(folder)
    async with connect(target, stored=False, root=folder) as client:
        work = asyncio.create_task(client.evaluate(path, pattern))
        with progress("crops") as bar:
            task = bar.add_task("evaluating", total=None)
            while not (await asyncio.wait({work}, timeout=0.5))[0]:
                counts = (await client.stats())["evaluating"]
                bar.update(task, completed=counts["done"], total=counts["total"] or None)
        return await work


def _show(answer: dict[str, Any]) -> None:
    title = f"{answer['data']['folder']}  ({answer['model']['label']})"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("protocol", "mAP %", "rank-1 %", "rank-5 %", "rank-10 %", "queries", "gallery"):
        table.add_column(column, justify="left" if column == "protocol" else "right")
    for name, r in answer["protocols"].items():
        rates = [_percent(r[key]) for key in ("mAP", "rank1", "rank5", "rank10")]
        table.add_row(name, *rates, f"{r['valid_queries']} of {r['queries']}", str(r["gallery"]))
    out.print(table)
    for split in ("query", "gallery"):
        counts = answer["data"][split]
        if counts["junk"] or counts["skipped"] or counts["refused"]:
            out.print(
                f"{split}: {counts['junk']} junk dropped, {counts['skipped']} skipped, {len(counts['refused'])} refused"
            )


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate * 100:.1f}"
