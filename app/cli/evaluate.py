"""`reid evaluate`: the accuracy number of a labelled folder."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.common import Data, JsonPath, Model, Pattern, Target, Url, connect, out, progress, write_json


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with query/ and bounding_box_test/.")],
    pattern: Pattern = "auto",
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Evaluate a labelled folder. With --url the folder is one that the server can read."""
    answer = asyncio.run(_evaluate(Target(url, model, data), folder, pattern))
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
