"""The command `bench`: how fast is each batch size on the devices that are here?"""

import enum
import json
import os
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import ACLRUNTIME, ONNXRUNTIME, OPENVINO
from app.errors import BadDevice, BadField
from app.ports import Embedder
from model_build.bench import HEADINGS, Line, Target, as_json, markdown, read_report, run, table
from model_build.cli.options import batch_sizes
from model_build.cli.output import progress, refusals


class Form(enum.StrEnum):
    """How the table is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def bench(
    directory: Annotated[Path, typer.Argument(help="A model directory.")],
    variant: Annotated[
        str | None, typer.Option(help="Only this variant; else the OMs, or the ONNX without an NPU.")
    ] = None,
    chip: Annotated[int | None, typer.Option(min=0, help="The NPU chip; else the first that npu-smi shows.")] = None,
    sizes: Annotated[str | None, typer.Option("--batch-sizes", help="Only these; else all that were compiled.")] = None,
    loop: Annotated[int, typer.Option(min=1, help="Runs of each batch size, as ais_bench's --loop.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.01, help="At most so long for each batch size.")] = 30.0,
    report: Annotated[
        list[Path] | None, typer.Option(help="A report of `reid evaluate --batch-size N --json`; may be repeated.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to print the table.")] = Form.TEXT,
) -> None:
    """Print the guide's closing table for the devices that are here: images/s by batch size, and the best one."""
    wanted = batch_sizes(sizes) if sizes else ()
    with refusals():
        opened = ModelDirectory.open(directory)
        reports = [read_report(path, opened) for path in report or []]
        chosen = list(targets(opened, variant, chip, wanted))
        crops, lines = opened.golden().crops, list[Line]()
        with progress() as bar:
            task = bar.add_task("measuring", total=sum(len(target.sizes) for target in chosen))
            for target in chosen:
                for line in run(target, crops, loop, seconds, reports):
                    lines.append(line)
                    bar.update(task, advance=1, description=f"{target.variant}, batch {line.batch_size}")
        _print(lines, form)


def targets(
    directory: ModelDirectory, variant: str | None, chip: int | None, sizes: tuple[int, ...]
) -> Iterator[Target]:
    """What to measure. Raises BadModelDirectory, BadDevice, BadField."""
    variants = directory.manifest.variants
    names = [variant] if variant else list(variants)
    compiled = [name for name in names if directory.manifest.variant(name).runtime == ACLRUNTIME]
    if compiled and (found := _chip(chip, must=variant in compiled)):
        yield from _on_chip(directory, compiled, *found, sizes)
        return
    rest = [name for name in names if variants[name].runtime in (ONNXRUNTIME, OPENVINO)]
    if not rest:
        raise BadField("--variant", "nothing here runs on this machine")
    yield from (_on_cpu(directory, name, sizes) for name in rest)


def _chip(number: int | None, must: bool) -> tuple[int, str] | None:
    """A chip's device number and kind; None, said aloud, where there is none and none is asked for. Raises BadDevice."""
    from app.adapters.ascend.npu_smi import chips

    try:
        seen = {chip.device if chip.device is not None else chip.chip: chip.soc_version for chip in chips()}
    except BadDevice as error:
        if number is not None:  # npu-smi may be missing where the chip is not, in a container
            return number, "Ascend"
        if must:
            raise
        typer.echo(f"no NPU ({error}); the CPU variants instead", err=True)
        return None
    first = next(iter(seen)) if number is None else number
    return first, seen.get(first, "Ascend")


def _on_chip(
    directory: ModelDirectory, names: list[str], chip: int, soc: str, sizes: tuple[int, ...]
) -> Iterator[Target]:
    """The variants in the sizes that each has of those asked for."""
    from app.adapters.ascend import sizes_of

    has = {name: sizes_of(directory, name) for name in names}
    every = {size for of_one in has.values() for size in of_one}
    if missing := sorted(set(sizes) - every):
        said = f"no OM for {', '.join(map(str, missing))}; there are {', '.join(map(str, sorted(every)))}"
        raise BadField("--batch-sizes", said)
    for name in names:
        wanted = tuple(size for size in has[name] if not sizes or size in sizes)
        yield Target(f"ascend:{chip}", soc, name, wanted, partial(_open, directory, name, chip))


def _open(directory: ModelDirectory, name: str, chip: int, size: int) -> Embedder:
    from app.adapters.ascend import open_variant

    return open_variant(directory, name, chip, (size,))


def _on_cpu(directory: ModelDirectory, name: str, sizes: tuple[int, ...]) -> Target:
    artefacts = [artefact for artefact in directory.manifest.artefacts if artefact.variant == name]
    fixed = tuple(sorted(artefact.batch for artefact in artefacts if artefact.batch is not None))
    threads = len(os.sched_getaffinity(0))
    open_one = partial(_open_on_cpu, directory, name, threads)
    return Target("cpu", f"{platform.machine()}, {threads} threads", name, sizes or fixed or (1, 4, 8), open_one)


def _open_on_cpu(directory: ModelDirectory, name: str, threads: int, size: int) -> Embedder:
    """As the server opens it. Raises BadSettings without OpenVINO, BadDevice on a CPU that has not the precision."""
    described = directory.manifest.variant(name)
    if described.runtime == OPENVINO:
        from app.adapters.openvino import open_variant

        return open_variant(directory, name, threads, (size,))
    from app.adapters.onnx import OnnxEmbedder

    path, dim = directory.artefact(name), directory.manifest.dim
    return OnnxEmbedder(path, described.fingerprint, dim, threads, (size,))


def _print(lines: list[Line], form: Form) -> None:
    match form:
        case Form.JSON:
            typer.echo(json.dumps(as_json(lines), indent=2))
        case Form.MARKDOWN:
            typer.echo(markdown(lines))
        case Form.TEXT:
            printed = Table(*HEADINGS, box=None, pad_edge=False)
            for row in table(lines):
                printed.add_row(*row)
            Console(width=160 if not Console().is_terminal else None).print(printed)
