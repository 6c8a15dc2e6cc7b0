"""`reid search`: who is this?"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, notes, out, write_json
from app.errors import BadInput

_BATCH = 16


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("search")(search)


def search(
    images: Annotated[list[Path], typer.Argument(help="Crops, each a query of its own.")],
    collection: Annotated[str, typer.Option(help="Collection to search.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many matches at most.")] = 10,
    camera_id: Annotated[str | None, typer.Option(help="The queries' camera: its items are left out.")] = None,
    same_camera: Annotated[bool, typer.Option(help="Do not leave out the queries' camera.")] = False,
    persons: Annotated[list[str] | None, typer.Option(help="Only these persons; repeatable.")] = None,
    cameras: Annotated[list[str] | None, typer.Option(help="Only these cameras; repeatable.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out matches below this cosine.")] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Search a collection for the person on each picture."""
    options: dict[str, object] = {
        "k": k,
        "camera_id": camera_id,
        "same_camera": same_camera or None,
        "persons": persons,
        "cameras": cameras,
        "min_score": min_score,
    }
    answers = asyncio.run(_search(Target(url, model, data), collection, images, options))
    if not write_json(json, {"results": answers}):
        for answer in answers:
            _show(answer)
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


async def _search(
    target: Target, collection: str, images: list[Path], options: dict[str, object]
) -> list[dict[str, Any]]:
    files = [(path.name, _read(path)) for path in images]
    answers: list[dict[str, Any]] = []
    async with connect(target) as client:
        for start in range(0, len(files), _BATCH):
            piece = files[start : start + _BATCH]
            results = (await client.search_many(collection, piece, **options))["results"]
            for (name, _), result in zip(piece, results, strict=True):
                answers.append({"image": name} | {key: value for key, value in result.items() if value is not None})
    return answers


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _show(answer: dict[str, Any]) -> None:
    if "error" in answer:
        notes.print(f"refused: {answer['error']['detail']}", style="yellow")
        return
    table = Table(title=answer["image"], title_justify="left", box=None, pad_edge=False)
    for column in ("rank", "person", "camera", "score", "source"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for m in answer["matches"]:
        cells = (
            str(m["rank"]),
            m["person_id"] or "-",
            m["camera_id"] or "-",
            f"{m['score']:.3f}",
            m["source"] or m["id"][:12],
        )
        table.add_row(*cells)
    out.print(table)
