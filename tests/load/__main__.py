"""`python -m tests.load SCENARIO`: one scenario, its figures on stdout, all of it as JSON and as a page where asked for."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.files import whole_file
from tests.load.arrivals import Bounds
from tests.load.bench import FP32, Bench, NoModel
from tests.load.calls import Kind
from tests.load.model import made_up_model
from tests.load.report import Report
from tests.load.scenarios import SCENARIOS, Name
from tests.load.servers import cores, running_server

_HELP = "\n\n".join(f"{name}: {(scenario.__doc__ or '').strip()}" for name, scenario in SCENARIOS.items())

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write everything here as JSON.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write a page with curves here (extra `report`).")]


def main(
    scenario: Annotated[Name, typer.Argument(help="What to measure.")],
    model: Annotated[Path | None, typer.Option(help="Model directory; default: a made-up full-size one.")] = None,
    variant: Annotated[str, typer.Option(help="Variant of it.")] = FP32,
    url: Annotated[str | None, typer.Option(help="Measure this server instead of starting one.")] = None,
    pid: Annotated[int | None, typer.Option(help="Its process, for processor time and memory.")] = None,
    yes_remote: Annotated[bool, typer.Option("--yes-remote", help="It may be another machine's.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="Of the model; 0: one a core.")] = 0,
    kind: Annotated[Kind, typer.Option(help="Requests of sweep, overload and memory.")] = "embeddings",
    clients: Annotated[str, typer.Option(help="Of closed loops, separated by commas.")] = "8,32",
    shares: Annotated[str, typer.Option(help="Of the capacity, for sweep.")] = "0.1,0.3,0.5,0.64,0.8,0.9,1.1,1.5",
    rounds: Annotated[int, typer.Option(min=1, help="Of what is measured in turn.")] = 3,
    requests: Annotated[int, typer.Option(min=0, help="A run has at least so many,")] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, help="and lasts at least so long,")] = 20.0,
    most_seconds: Annotated[float, typer.Option(min=0.1, help="but never longer.")] = 240.0,
    deadline_ms: Annotated[float, typer.Option(min=1, help="Of overload and sweep.")] = 2000.0,
    overload_s: Annotated[float, typer.Option(min=0.1, help="How long three times the capacity is offered.")] = 60.0,
    rows: Annotated[int, typer.Option(min=0, help="Items in the gallery that is searched; 0: the scenario's own.")] = 0,
    crops: Annotated[int, typer.Option(min=1, help="In a stream.")] = 2000,
    pure_by: Annotated[
        str, typer.Option(help="`session`: ONNX Runtime alone; `adapter`: with normalising.")
    ] = "session",
    json: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Load the service and say what it does. Nothing is sent to another machine unless --yes-remote says so."""
    require_plots(html)
    try:
        running = running_server(url, pid, yes_remote) if url else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    bench = Bench(
        model=model or (None if running else made_up_model(variant)),
        variant=variant,
        threads=threads or cores(),
        bounds=Bounds(requests, seconds, most_seconds=most_seconds),
        rounds=rounds,
        kind=kind,
        clients=[int(part) for part in clients.split(",")],
        shares=[float(part) for part in shares.split(",")],
        deadline_ms=deadline_ms,
        overload_s=overload_s,
        rows=rows,
        crops=crops,
        pure_by=pure_by,
        running=running,
    )
    try:
        report = asyncio.run(SCENARIOS[scenario](bench))
    except NoModel as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    deliver(report, json, html)


def require_plots(html: Path | None) -> None:
    """Before an hour of measuring, not behind it."""
    if html:
        import tests.load.page  # noqa: F401


def deliver(report: Report, json_file: Path | None, html_file: Path | None) -> None:
    """Print it, and write what was asked for. Status 2 where the measurement does not hold."""
    typer.echo(report.text())
    if json_file:
        _write_json(json_file, report.as_json())
    if html_file:
        from tests.load.page import write_page

        write_page(html_file, report)
    if report.invalid:
        raise typer.Exit(2)


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=_HELP)(main)
    app()
