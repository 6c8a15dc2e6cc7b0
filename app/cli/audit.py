"""`reid audit`: what was done, and whether the account of it was tampered with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.caretaking import caretaker
from app.cli.common import Data, JsonPath, Target, Url, out, write_json
from app.client import Client

audit = typer.Typer(help="What was done to items and persons.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(audit, name="audit")


@audit.command()
def verify(
    seq: Annotated[int | None, typer.Option(help="With --hash, of a receipt: this line must be in it.")] = None,
    hash: Annotated[str | None, typer.Option(help="The line's hash.")] = None,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Walk the whole chain. Status 1 where a line was changed, or is gone."""
    head = _ask(Target(url, None, data), lambda client: client.verify_audit(seq, hash))
    if not write_json(json, head):
        out.print(f"{head['seq']} lines, each fits the one before it; the last one's hash is {head['hash']}")


@audit.command()
def show(
    after: Annotated[int, typer.Option(help="Lines behind this number.")] = 0,
    limit: Annotated[int, typer.Option(help="So many at most.")] = 100,
    collection: Annotated[str | None, typer.Option(help="With --item or --person: whose lines.")] = None,
    item: Annotated[str | None, typer.Option(help="All that was done to the item of this id, there or not.")] = None,
    person: Annotated[str | None, typer.Option(help="The same of a person.")] = None,
    url: Url = None,
    data: Data = None,
    json: JsonPath = None,
) -> None:
    """Lines of the audit, or all that it tells about an item or a person. Ids stand in it as keyed digests alone."""
    options: dict[str, Any] = {"collection": collection, "item_id": item, "person_id": person}
    options |= {"after": after, "limit": limit}
    page = _ask(Target(url, None, data), lambda client: client.audit(**options))
    if write_json(json, page):
        return
    table = Table(box=None, pad_edge=False)
    for column in ("line", "at", "action", "collection", "details"):
        table.add_column(column, justify="right" if column == "line" else "left")
    for line in page["lines"]:
        details = ", ".join(f"{name} {value}" for name, value in line["details"].items())
        table.add_row(str(line["seq"]), line["at"], line["action"], line["collection"], details)
    out.print(table)


def _ask(target: Target, question: Callable[[Client], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with caretaker(target) as client:
            return await question(client)

    return asyncio.run(ask())
