"""`reid bench`: what the parts cost on this machine, measured on made-up data, beside the plain way of doing the same.

Every figure is of the machine and of the moment: where nothing else runs, and with the threads that are told beside it.
"""

import typer

from app.cli.bench import evaluate, schedule, search

bench = typer.Typer(help="What the parts cost on this machine, on made-up data.", no_args_is_help=True)


@bench.callback()  # without one, typer takes a group of a single command for that command
def _group() -> None:
    pass


for module in (evaluate, search, schedule):
    module.add_to(bench)


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(bench, name="bench")
