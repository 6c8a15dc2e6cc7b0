"""Commands that make something from weights: `export`, and `made-up-checkpoint` for trying it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from model_build.cli.options import batch_sizes
from model_build.cli.output import build_libraries, print_rows, progress, refusals


def export(
    checkpoint: Annotated[Path, typer.Option(help="Training checkpoint; nothing in it is run.")],
    output: Annotated[Path, typer.Option(help="Model directory to write. An older model in it is replaced.")],
    sizes: Annotated[
        str, typer.Option("--batch-sizes", help="Fixed-batch files beside the dynamic one, or `none`.")
    ] = "1,4,8,16",
    label: Annotated[
        str | None, typer.Option(help="What users will see; else the checkpoint's own label or `your checkpoint`.")
    ] = None,
) -> None:
    """Turn a checkpoint into ONNX, compare its vectors with torch's, and write a model directory."""
    wanted = batch_sizes(sizes)
    with refusals():
        with build_libraries():
            from model_build.build import Options, build, steps
            from model_build.checkpoint import read_checkpoint
        options = Options(wanted, label)
        with progress() as bar:
            task = bar.add_task("reading the checkpoint", total=1 + steps(options))
            weights = read_checkpoint(checkpoint)
            built = build(
                weights,
                output,
                options,
                datetime.now(UTC),
                report=lambda step: bar.update(task, advance=1, description=step),
            )
        print_rows(built.rows)
        described = built.directory.manifest
        typer.echo(f"{output}: {described.label}; {described.dim} values a vector; {len(described.files())} files")


def made_up_checkpoint(
    output: Annotated[Path, typer.Option(help="File to write, such as made-up.ckpt.")],
    width: Annotated[int, typer.Option(min=1, max=128, help="Channels of the stem; 64 in the published network.")] = 64,
    depths: Annotated[str, typer.Option(help="Blocks of the four stages.")] = "3,4,6,3",
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Write a checkpoint of made-up weights, laid out as the published one, to try export and service with."""
    try:
        first, second, third, fourth = (int(part) for part in depths.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--depths: {depths!r} is no list of four numbers such as 3,4,6,3") from error
    if not all(1 <= depth <= 50 for depth in (first, second, third, fourth)):
        raise typer.BadParameter("--depths: each lies between 1 and 50")
    with refusals():
        with build_libraries():
            from model_build.made_up import LABEL, save_made_up_checkpoint
            from model_build.network import Architecture
        save_made_up_checkpoint(output, Architecture(width, (first, second, third, fourth)), seed)
        typer.echo(f"{output}: {LABEL}")
