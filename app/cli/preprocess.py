"""`reid preprocess`: pictures to the `.bin` files of the ModelZoo guide, which ais_bench reads."""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import JsonPath, list_folder, notes, out, progress, write_json
from app.core.preprocess import decode, normalise
from app.core.records import pictures
from app.errors import BadInput, ReidError
from app.files import whole_file


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("preprocess")(preprocess)


def preprocess(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of crops.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the .bin files; made if it is not there.")],
    json: JsonPath = None,
) -> None:
    """Write one .bin per crop: float32, little-endian, [3, 256, 128], no header; named up to its first dot."""
    names, skipped = pictures(list_folder(source))
    if not names:
        raise BadInput(f"no pictures in {str(source)!r}")
    _refuse_collisions(names)
    target.mkdir(parents=True, exist_ok=True)
    refused = 0
    with progress("crops") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("preprocessing", total=len(names))
        for error in pool.map(lambda name: _write(source / name, target / bin_name(name)), names):
            if error:
                refused += 1
                notes.print(f"refused: {error}", style="yellow")
            bar.advance(task)
    summary = {"written": len(names) - refused, "refused": refused, "skipped": len(skipped)}
    if not write_json(json, summary):
        out.print(f"{target}: {len(names) - refused} written, {refused} refused, {len(skipped)} skipped")
    if refused:
        raise typer.Exit(1)


def bin_name(name: str) -> str:
    """The file's name up to its first dot, as the guide and ais_bench have it: `0005_c2.x.jpg` gives `0005_c2.bin`."""
    return name.partition(".")[0] + ".bin"


def _refuse_collisions(names: Sequence[str]) -> None:
    sources: dict[str, list[str]] = defaultdict(list)
    for name in names:
        sources[bin_name(name)].append(name)
    for target, rivals in sources.items():
        if len(rivals) > 1:
            raise BadInput(f"{', '.join(rivals[:5])} would all become {target}; rename them, nothing was written")


def _write(source: Path, target: Path) -> ReidError | None:
    try:
        tensor = normalise(decode(source.read_bytes(), source.name)[None])[0]
    except ReidError as error:
        return error
    except OSError as error:
        return BadInput(f"{source.name}: cannot be read: {error.strerror}")
    with whole_file(target) as partial:
        tensor.astype("<f4").tofile(partial)
    return None
