"""What all commands share: where things are printed, and how a refusal ends a command."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from app.errors import BadSettings, ReidError
from model_build.verify import MAX_RELATIVE, Row

TORCH_MISSING = "PyTorch and ONNX are not installed; install the extra `build`: pip install 'reid-service[build]'"


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a refusal into its sentence on stderr and exit status 1. Faults of ours keep their traceback."""
    try:
        yield
    except ReidError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except BrokenPipeError:  # typer knows what to do: the reader has left
        raise
    except OSError as error:  # a file of the user's choice that cannot be written; the error names it
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def build_libraries() -> Iterator[None]:
    """Around imports of what needs torch and onnx: their absence is a sentence. Raises BadSettings."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name in ("torch", "onnx"):
            raise BadSettings(TORCH_MISSING) from error
        raise


def progress() -> Progress:
    """A bar on stderr that goes away when it is done; none where nobody watches, so that logs hold sentences alone."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def print_rows(rows: Sequence[Row]) -> None:
    """How the artefacts' vectors agree with torch's: lowest cosine, largest absolute and relative difference."""
    table = Table(
        Column("file", no_wrap=True), "batch", "crops", "cosine", "difference", "relative", "", box=None, pad_edge=False
    )
    for row in rows:
        fact = row.verification
        table.add_row(
            row.file,
            "any" if row.batch is None else str(row.batch),
            str(fact.crops),
            f"{fact.cosine_min:.7f}",
            f"{fact.largest_difference:.2e}",
            f"{fact.relative_difference:.2e}",
            "ok" if row.passed else f"FAILED (allowed {MAX_RELATIVE:g})",
        )
    Console().print(table)
