"""Commands that run ATC: `compile` on a model directory, and `all`, from a checkpoint to OMs."""

import re
import shlex
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.adapters.ascend.npu_smi import chips
from app.adapters.model_directory import ModelDirectory
from app.errors import BadDevice, BadSettings
from model_build.aipp import aipp_text
from model_build.cli.options import batch_sizes
from model_build.cli.output import build_libraries, print_rows, progress, refusals, say_above, stoppable, watcher
from model_build.compile import Workshop, compile_directory
from model_build.plan import AIPP_FILE, PRECISIONS, CompileOptions, command_of, graph_of, plan
from model_build.toolkit import find_toolkit
from model_build.verify import OneChip

SocVersion = Annotated[
    str | None, typer.Option("--soc-version", help="Chip to compile for, such as Ascend310P3; else npu-smi's.")
]
Sizes = Annotated[str, typer.Option("--batch-sizes", help="An OM for each.")]
Aipp = Annotated[
    bool, typer.Option("--aipp/--no-aipp", help="The OM takes uint8 pixels and the NPU normalises them; or floats.")
]
Dynamic = Annotated[bool, typer.Option("--dynamic-batch", help="One OM for all batch sizes instead of one for each.")]
Precision = Annotated[
    str | None, typer.Option("--precision-mode", help=f"{', '.join(PRECISIONS)}; else ATC's own, the first.")
]
Timeout = Annotated[float, typer.Option("--timeout-minutes", min=0.01, help="After which an ATC is ended.")]


def compile_oms(
    directory: Annotated[Path, typer.Argument(help="A model directory written by export.")],
    soc_version: SocVersion = None,
    sizes: Sizes = "1,4,8,16",
    aipp: Aipp = False,
    dynamic: Dynamic = False,
    precision_mode: Precision = None,
    timeout_minutes: Timeout = 60,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, as a shell script.")] = False,
) -> None:
    """Turn a model directory's ONNX into OMs with ATC, one after another; what is there already is not made again."""
    wanted = batch_sizes(sizes)
    with refusals(), stoppable():
        soc = soc_version_of(soc_version)
        options = CompileOptions(soc, wanted, aipp, dynamic, precision_mode, timeout_minutes * 60)
        if dry_run:
            typer.echo(script(ModelDirectory.open(directory), options), nl=False)
            return
        jobs, toolkit = plan(options), find_toolkit()
        with progress() as bar:
            task = bar.add_task("compiling", total=len(jobs))
            done = partial(bar.advance, task)
            workshop = Workshop(options, toolkit, directory, say_above(bar), watcher(bar, task), done)
            outcome = compile_directory(directory, workshop)
        files = f"{', '.join(outcome.asked)}; {len(outcome.made)} made now"
        typer.echo(f"{directory}: {jobs[0].variant} for {soc}: {files}")


def build_everything(
    checkpoint: Annotated[Path, typer.Option(help="Training checkpoint; nothing in it is run.")],
    output: Annotated[Path, typer.Option(help="Model directory to write. An older model in it is replaced.")],
    soc_version: SocVersion = None,
    sizes: Sizes = "1,4,8,16",
    aipp: Aipp = False,
    dynamic: Dynamic = False,
    precision_mode: Precision = None,
    label: Annotated[
        str | None, typer.Option(help="What users will see; else the checkpoint's own label or `your checkpoint`.")
    ] = None,
    timeout_minutes: Timeout = 60,
) -> None:
    """Export, verify, compile, verify again, and write the model directory: all of it or nothing."""
    wanted = batch_sizes(sizes)
    with refusals(), stoppable():
        options = CompileOptions(
            soc_version_of(soc_version), wanted, aipp, dynamic, precision_mode, timeout_minutes * 60
        )
        plan(options)
        toolkit = find_toolkit()  # a wrong wish and a missing atc are told before the long work
        with build_libraries():
            from model_build.all import build_all, steps_of_all
            from model_build.build import Options
            from model_build.checkpoint import read_checkpoint
        with progress() as bar:
            task = bar.add_task("reading the checkpoint")
            workshop = Workshop(options, toolkit, output, say_above(bar), watcher(bar, task))
            bar.update(task, total=1 + steps_of_all(Options(wanted, label), workshop))
            built = build_all(
                read_checkpoint(checkpoint),
                output,
                Options(wanted, label),
                workshop,
                OneChip(),
                datetime.now(UTC),
                report=lambda step: bar.update(task, advance=1, description=step),
            )
        print_rows(built.rows)
        described = built.directory.manifest
        typer.echo(f"{output}: {described.label}; {', '.join(described.variants)}; {len(described.files())} files")


def soc_version_of(given: str | None) -> str:
    """The chip to compile for: as given, else the only kind that this machine has. Raises BadDevice, BadSettings."""
    if given is not None:
        if not re.fullmatch(r"Ascend\w+", given):
            raise typer.BadParameter(f"{given!r}: chips are named as in Ascend310P3: Ascend, then npu-smi's Name")
        return given
    try:
        kinds = sorted({chip.soc_version for chip in chips()})
    except BadDevice as error:
        raise BadDevice(f"{error}; name the chip to compile for: --soc-version Ascend310P3") from error
    if len(kinds) > 1:
        raise BadSettings(f"this machine has several kinds of chip, {', '.join(kinds)}: name one with --soc-version")
    return kinds[0]


def script(directory: ModelDirectory, options: CompileOptions) -> str:
    """What would be run, as a shell script that can be."""
    described, jobs = directory.manifest, plan(options)
    lines = [f"cd {shlex.quote(str(directory.path.resolve()))}"]
    if options.aipp:
        lines += [f"cat > {AIPP_FILE} <<'END'", *aipp_text(described.preprocessing).splitlines(), "END"]
    for job in jobs:
        command, graph = command_of(job, described, options.soc_version), graph_of(job, described)
        if graph.batch != job.batch:
            lines.append(f"# {command.model} is not there; it is derived from {graph.file}")
        lines.append(shlex.join(["atc", *command.arguments()]))
    return "\n".join(lines) + "\n"
