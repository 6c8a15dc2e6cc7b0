"""`reid evaluate`: the accuracy of a labelled folder, of a collection, or of vectors that were made elsewhere."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli import accuracy
from app.cli.common import Data, JsonPath, Model, Pattern, Target, Url, connect, out, write_json
from app.cli.waiting import result_of

_WIDTH = 122  # of the table; a narrower terminal breaks its lines, which is better than cells cut short


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    folder: Annotated[Path | None, typer.Argument(help="Folder with query/ and bounding_box_test/.")] = None,
    collection: Annotated[
        str | None, typer.Option(help="Instead: this collection, each labelled item against the others.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Instead: a file of vectors, persons and cameras that np.savez wrote.")
    ] = None,
    ais_bench: Annotated[
        Path | None, typer.Option(help="Instead: folder with query/ and gallery/, each with results of ais_bench.")
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Only this protocol; may be repeated.")] = None,
    pattern: Pattern = "auto",
    variant: Annotated[str | None, typer.Option(help="Embed with this variant [REID_VARIANT].")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=256, help="Embed at this batch size alone [REID_BATCH_SIZES].")
    ] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write one page with tables and plots (extra `report`).")
    ] = None,
) -> None:
    """Evaluate by every protocol that the data allow. With --url the folder is one that the server can read."""
    if sum(source is not None for source in (folder, collection, features, ais_bench)) != 1:
        raise typer.BadParameter("give one of FOLDER, --collection, --features and --ais-bench")
    protocols = protocol or []
    elsewhere = features is not None or ais_bench is not None
    if elsewhere and any(value is not None for value in (url, model, data, variant, batch_size)):
        raise typer.BadParameter(
            "vectors need no model and no server; leave --url, --model, --data, --variant and --batch-size out"
        )
    if html is not None:  # told before the work, not after
        from app.cli.report import require_plots

        require_plots()
    if features is not None:
        answer = accuracy.of_features(features, protocols)
    elif ais_bench is not None:
        answer = accuracy.of_results(ais_bench, pattern, protocols)
    else:
        how = {"variant": variant, "batch_size": batch_size}
        # A process of our own loads that variant; a server opens it beside its own.
        target = Target(url, model, data) if url else Target(url, model, data, variant, batch_size)
        asked = {"pattern": pattern, "protocols": protocols, **(how if url else {})}
        answer = asyncio.run(_evaluate(target, folder, collection, asked))
    if html is not None:
        from app.cli.report import write_html

        write_html(html, answer, folder)
    if not write_json(json, answer):
        show(answer)


async def _evaluate(
    target: Target, folder: Path | None, collection: str | None, asked: dict[str, Any]
) -> dict[str, Any]:
    if folder is not None:
        asked["folder"] = str(folder.resolve()) if target.url is None or folder.exists() else str(folder)
    else:
        asked["collection"] = collection
    async with connect(target, stored=folder is None, root=folder) as client:
        answer = await client.evaluate(asked | {"wait": 1})
        return await result_of(client, answer, "evaluating") if "state" in answer else answer


def show(answer: dict[str, Any]) -> None:
    """The table of protocols, and what to know of it."""
    data = answer["data"]
    title = f"{data.get('folder') or data.get('collection') or data.get('features')}  ({answer['model']['label']})"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in (
        "protocol",
        "mAP %",
        "95 %",
        "rank-1 %",
        "95 %",
        "rank-5 %",
        "rank-10 %",
        "mINP %",
        "queries",
        "gallery",
    ):
        table.add_column(column, justify="left" if column == "protocol" else "right", no_wrap=True)
    for name, r in answer["protocols"].items():
        interval = r["interval95"] or {"mAP": None, "rank1": None}
        table.add_row(
            name,
            _percent(r["mAP"]),
            _range(interval["mAP"]),
            _percent(r["rank1"]),
            _range(interval["rank1"]),
            _percent(r["rank5"]),
            _percent(r["rank10"]),
            _percent(r["mINP"]),
            f"{r['valid_queries']} of {r['queries']}",
            str(r["gallery"]),
        )
    Console(width=max(out.width, _WIDTH), markup=False, emoji=False).print(table)
    for sentence in remarks(answer):
        out.print(sentence)


def remarks(answer: dict[str, Any]) -> list[str]:
    """What has to be said beside the table."""
    said = [f"{name}: {r['reason']}" for name, r in answer["protocols"].items() if r["reason"]]
    for name, r in answer["protocols"].items():
        if orders := r["over_orders"]:
            low, high = (_percent(value) for value in orders["rank1"])
            said.append(
                f"{name}: depends on the order of the rows; rank-1 {low} to {high} over {orders['orders']} orders"
            )
        said += [
            f"{name}: published are rank-1 {_percent(f['rank1'])}, mAP {_percent(f['mAP'])} ({f['source']})"
            for f in r["published"]
        ]
    said += [f"{name}: left out; {reason}" for name, reason in answer["omitted"].items()]
    comparison = answer["comparison"]
    said += [
        f"the guide's rank-1 of 96.8 was {'' if same else 'not '}reproduced by {name}"
        for name, same in comparison["reproduced"].items()
    ]
    for split in ("query", "gallery"):
        counts = answer["data"][split]
        if counts["junk"] or counts["skipped"] or counts["refused"]:
            said.append(
                f"{split}: {counts['junk']} junk dropped, {counts['skipped']} skipped, {len(counts['refused'])} refused"
            )
    if gain := answer["reranking"]:
        before, after = gain["mAP"]
        said.append(
            f"re-ranking of the first 100 would make mAP {_percent(before)} {_percent(after)}, rank-1 "
            f"{_percent(gain['rank1'][0])} {_percent(gain['rank1'][1])} ({gain['queries']} queries)"
        )
    said += answer["open_set"]["sentences"] or [f"absent persons: {answer['open_set']['refused']}"]
    if (share := answer["index_agreement"]["share"]) is not None:
        said.append(f"the live index finds {share * 100:.1f} % of the exact first ten")
    return said


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate * 100:.1f}"


def _range(ends: list[float] | None) -> str:
    return "-" if ends is None else f"{ends[0] * 100:.1f}-{ends[1] * 100:.1f}"
