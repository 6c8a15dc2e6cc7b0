"""`reid search`: who is this?"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, notes, out, write_json
from app.client import Client
from app.errors import BadInput

_BATCH = 16


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("search")(search)


def search(
    images: Annotated[list[Path], typer.Argument(help="Crops, each a query of its own.")],
    collection: Annotated[str, typer.Option(help="Collection to search.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many matches at most.")] = 10,
    by: Annotated[str, typer.Option(help="item, or person: each person once, with its best item.")] = "item",
    person_score: Annotated[
        str | None, typer.Option(help="A person's score: centroid (of its accepted crops), or best (of its items).")
    ] = None,
    together: Annotated[bool, typer.Option(help="The crops are of one person: one query of up to 16.")] = False,
    fusion: Annotated[
        str | None, typer.Option(help="With --together: mean (one mean vector), or best (each item's best score).")
    ] = None,
    rerank: Annotated[bool, typer.Option(help="k-reciprocal re-ranking of the 100 best items.")] = False,
    exact: Annotated[bool, typer.Option(help="Score every accepted item; slow in a large collection.")] = False,
    camera_id: Annotated[str | None, typer.Option(help="The queries' camera: its items are left out.")] = None,
    same_camera: Annotated[bool, typer.Option(help="Do not leave out the queries' camera.")] = False,
    persons: Annotated[list[str] | None, typer.Option(help="Only these persons; repeatable.")] = None,
    cameras: Annotated[list[str] | None, typer.Option(help="Only these cameras; repeatable.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Only items with this key:value; repeated, with all of them.")
    ] = None,
    captured_from: Annotated[str | None, typer.Option(help="Only items captured then or later; RFC 3339.")] = None,
    captured_to: Annotated[str | None, typer.Option(help="Only items captured before; RFC 3339.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not the items of these ids; repeatable.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out matches below this cosine.")] = None,
    fpir: Annotated[
        float | None, typer.Option(help="Rate of false matches that the decision keeps: 0.001, 0.01 or 0.05.")
    ] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Search a collection for the person on each picture, or on all of them together."""
    if fusion is not None and not together:
        raise typer.BadParameter("--fusion says how the crops of one person become one query; give --together as well")
    options: dict[str, object] = {
        "k": k,
        "by": by,
        "person_score": person_score,
        "fusion": fusion,
        "rerank": rerank or None,
        "exact": exact or None,
        "camera_id": camera_id,
        "same_camera": same_camera or None,
        "persons": persons,
        "cameras": cameras,
        "attribute": attribute,
        "captured_from": captured_from,
        "captured_to": captured_to,
        "exclude": exclude,
        "min_score": min_score,
        "fpir": fpir,
    }
    answers = asyncio.run(_search(Target(url, model, data), collection, images, together, options))
    if not write_json(json, {"results": answers}):
        for answer in answers:
            _show(answer)
        for reason in dict.fromkeys(answer.get("decision_reason") for answer in answers):
            if reason is not None:
                notes.print(reason, style="yellow")
    if any("error" in answer or answer["refused"] for answer in answers):
        raise typer.Exit(1)


async def _search(
    target: Target, collection: str, images: list[Path], together: bool, options: dict[str, object]
) -> list[dict[str, Any]]:
    files = [(path.name, read_crop(path)) for path in images]
    async with connect(target) as client:
        if together:
            answer = await client.search_together(collection, files, **options)
            shown = ("matches", "persons", "refused", "decision", "decision_reason")
            told = {key: answer[key] for key in shown if answer.get(key) is not None}
            return [{"images": [name for name, _ in files], **told}]
        return await _each(client, collection, files, options)


async def _each(
    client: Client, collection: str, files: list[tuple[str, bytes]], options: dict[str, object]
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for start in range(0, len(files), _BATCH):
        piece = files[start : start + _BATCH]
        results = (await client.search_many(collection, piece, **options))["results"]
        for (name, _), result in zip(piece, results, strict=True):
            answers.append({"image": name} | {key: value for key, value in result.items() if value is not None})
    return answers


def read_crop(path: Path) -> bytes:
    """A crop's bytes. Raises BadInput."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def note_refused(refused: list[dict[str, Any]]) -> None:
    """Say which crops of one person could not be used."""
    for crop in refused:
        notes.print(f"refused: {crop['error']['detail']}", style="yellow")


def _show(answer: dict[str, Any]) -> None:
    if "error" in answer:
        notes.print(f"refused: {answer['error']['detail']}", style="yellow")
        return
    note_refused(answer["refused"])
    persons = "persons" in answer
    found = answer["persons"] if persons else answer["matches"]
    told = any(match["probability"] is not None for match in found)
    table = Table(title=answer.get("image") or ", ".join(answer["images"]), box=None, pad_edge=False)
    table.title_justify = "left"
    columns = ["rank", "person", "items" if persons else "camera", "score", "best item" if persons else "source"]
    for column in [*columns[:4], *(["probability"] if told else []), columns[4]]:
        right = column in ("rank", "items", "score", "probability")
        table.add_column(column, justify="right" if right else "left")
    for match in found:
        item = match["best"] if persons else match
        second = str(match["items"]) if persons else match["camera_id"] or "-"
        score, source = f"{match['score']:.3f}", item["source"] or item["id"][:12]
        probability = [f"{match['probability']:.1%}"] if told else []
        table.add_row(str(match["rank"]), match["person_id"] or "-", second, score, *probability, source)
    out.print(table)
    if "decision" in answer:
        out.print(f"decision: {answer['decision']}")
