"""`reid persons`: who is in a collection, and items given to the right one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.table import Table

from app.cli.common import Data, JsonPath, Model, Target, Url, connect, out, write_json
from app.client import Client, Json

persons = typer.Typer(help="Persons of a collection: list, rename, merge, and move items.", no_args_is_help=True)
Collection = Annotated[str, typer.Option(help="Collection whose persons they are.")]
_PAGE = 1000


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(persons, name="persons")


@persons.command("list")
def list_all(
    collection: Collection, url: Url = None, model: Model = None, data: Data = None, json: JsonPath = None
) -> None:
    """All persons, by id."""
    answer = _ask(Target(url, model, data), lambda client: _all(client, collection))
    if write_json(json, answer):
        return
    table = Table(box=None, pad_edge=False)
    for column in ("person", "items", "cameras", "first", "last"):
        table.add_column(column, justify="right" if column == "items" else "left")
    for one in answer["persons"]:
        times = (one["first_captured"] or "-", one["last_captured"] or "-")
        table.add_row(one["person_id"], str(one["items"]), ", ".join(one["cameras"]), *times)
    out.print(table)


@persons.command()
def rename(
    person: Annotated[str, typer.Argument(help="The person.")],
    new: Annotated[str, typer.Argument(help="The new name, which nobody has.")],
    collection: Collection,
    url: Url = None,
    model: Model = None,
    data: Data = None,
) -> None:
    """Call a person by another name."""
    answer = _ask(Target(url, model, data), lambda client: client.rename_person(collection, person, new))
    out.print(f"{collection}: {person} is {answer['person_id']} now, {answer['items']} items")


@persons.command()
def merge(
    person: Annotated[str, typer.Argument(help="Whose items become another's.")],
    into: Annotated[str, typer.Argument(help="Whose they become.")],
    collection: Collection,
    url: Url = None,
    model: Model = None,
    data: Data = None,
) -> None:
    """Make two persons one. `reid persons undo` takes it back, until the next merge."""
    answer = _ask(Target(url, model, data), lambda client: client.merge_persons(collection, person, into))
    out.print(f"{collection}: {answer['items']} items of {person} are {into}'s now")


@persons.command()
def undo(collection: Collection, url: Url = None, model: Model = None, data: Data = None) -> None:
    """Take the last merge back."""
    answer = _ask(Target(url, model, data), lambda client: client.undo_merge(collection))
    out.print(f"{collection}: {answer['items']} items are {answer['person_id']}'s again")


@persons.command()
def move(
    items: Annotated[list[str], typer.Argument(help="Ids of items.")],
    collection: Collection,
    to: Annotated[str | None, typer.Option(help="Whose they become; left out: nobody's.")] = None,
    url: Url = None,
    model: Model = None,
    data: Data = None,
) -> None:
    """Make items a person's, or nobody's."""
    answer = _ask(Target(url, model, data), lambda client: client.move_items(collection, items, to))
    out.print(f"{collection}: {answer['items']} items moved")


def _ask(target: Target, ask: Callable[[Client], Awaitable[Json]]) -> Json:
    async def asked() -> Json:
        async with connect(target) as client:
            return await ask(client)

    return asyncio.run(asked())


async def _all(client: Client, collection: str) -> Json:
    page = await client.persons(collection, limit=_PAGE)
    found = list(page["persons"])
    while page["next_cursor"] is not None:
        page = await client.persons(collection, page["next_cursor"], _PAGE)
        found += page["persons"]
    return {"persons": found}
