"""The command `verify`: is this model directory whole, and does it still give torch's vectors?"""

from pathlib import Path
from typing import Annotated

import typer

from app.adapters.model_directory import ModelDirectory
from model_build.cli.output import print_rows, progress, refusals
from model_build.verify import verify_directory, worst


def verify(directory: Annotated[Path, typer.Argument(help="A model directory written by export.")]) -> None:
    """Check every file's hash, then embed the golden crops with every ONNX file and compare. Needs no PyTorch."""
    with refusals():
        opened = ModelDirectory.open(directory)
        rows = []
        with progress() as bar:
            task = bar.add_task("golden crops", total=len(opened.manifest.artefacts))
            for row in verify_directory(opened):
                rows.append(row)
                bar.advance(task)
        print_rows(rows)
        worst(rows)
        typer.echo(f"{directory}: whole, and all {len(rows)} ONNX files give torch's vectors")
