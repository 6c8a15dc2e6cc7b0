"""The command `verify`: is this model directory whole, and does it still give torch's vectors?"""

from pathlib import Path
from typing import Annotated

import typer

from app.adapters.model_directory import ModelDirectory
from model_build.cli.output import print_rows, progress, refusals, say_above
from model_build.verify import check, verify_directory


def verify(directory: Annotated[Path, typer.Argument(help="A model directory written by export.")]) -> None:
    """Check every file's hash, then embed the golden crops with every file and compare. Needs no PyTorch.

    OMs run where there is a chip for them, OpenVINO's variants where it is installed and the CPU can; what does not run is
    named as not verified.
    """
    with refusals():
        opened = ModelDirectory.open(directory)
        rows = []
        with progress() as bar:
            task = bar.add_task("golden crops", total=len(opened.manifest.artefacts))
            for row in verify_directory(opened, skip=say_above(bar)):
                rows.append(row)
                bar.advance(task)
        print_rows(rows)
        check(rows)
        graphs, fewer = (len({row.file for row in rows if row.half is half}) for half in (False, True))
        also = f"; {fewer} of fewer bits give theirs within rounding" if fewer else ""
        typer.echo(f"{directory}: whole, and all {graphs} ONNX files give torch's vectors{also}")
