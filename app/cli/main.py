"""Puts the commands together, and turns refusals into one sentence and a status."""

import sys
from collections.abc import Sequence

import typer

from app.cli import (
    audit,
    backup,
    bench,
    calibrate,
    check,
    demo,
    doctor,
    embed,
    erase,
    evaluate,
    index,
    persons,
    preprocess,
    restore,
    search,
    serve,
    transfer,
    verify,
)
from app.cli.common import notes
from app.errors import ReidError

app = typer.Typer(
    name="reid",
    help="Person re-identification: a person crop comes in, the service answers who in the gallery it is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (
    serve, index, search, verify, persons, evaluate, calibrate, transfer, embed, preprocess, demo, bench, doctor,
    backup, restore, erase, check, audit,
):  # fmt: skip
    module.add_to(app)


def run(arguments: Sequence[str]) -> int:
    """Run a command. Status 0: done; 1: refused, with a sentence; 2: wrong usage; 130: stopped by Ctrl-C."""
    try:
        app(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except ReidError as error:
        notes.print(f"reid: {error}", style="red")
        return 1
    except OSError as error:  # a file or folder of the caller's; the system's words name it
        notes.print(f"reid: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def main() -> None:
    """The entry of the command."""
    sys.exit(run(sys.argv[1:]))
