"""What all commands share: where things are printed, and how a refusal ends a command."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from app.errors import BadSettings, ReidError
from model_build.verify import Row

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
def stoppable() -> Iterator[None]:
    """Let a signal that asks this process to end unwind it, as Ctrl-C does: what it started would go on without it."""
    # What is ignored stays so: under nohup a terminal that closes is no reason to end.
    asking = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _unwind) for number in asking}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unwind(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


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
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def say_above(bar: Progress) -> Callable[[str], None]:
    """Prints sentences on stderr above the bar, whole and as they are."""
    return lambda sentence: bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def watcher(bar: Progress, task: TaskID) -> Callable[[str, float, str], None]:
    """Shows how long ATC has run and what it says; where nobody watches, a line a minute shows that it lives."""
    said: dict[str, int] = {}

    def watch(om: str, elapsed_s: float, line: str) -> None:
        if bar.console.is_terminal:
            bar.update(task, description=f"{om} {elapsed_s:.0f} s {line[:50]}")
        elif int(elapsed_s) // 60 > said.setdefault(om, 0):
            said[om] = int(elapsed_s) // 60
            say_above(bar)(f"{om}: atc has run for {elapsed_s:.0f} s")

    return watch


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
            "ok" if row.passed else f"FAILED ({row.bound})",
        )
    Console().print(table)
