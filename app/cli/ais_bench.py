"""Reads the result folders of ais_bench: finds the run, pairs results with inputs, reads vectors.

A folder may be the run itself, or hold one: `result/gallery/2023_01_05-10_11_12/*_0.txt`. With several devices each has a
folder of its own in the run, `device0` (2023) or `device0_0` (2024). The summary lies beside the folder it speaks of,
`<folder>_summary.json`, or, of the oldest versions, in it as `sumary.json`.
[ais_bench, infer/__main__.py and benchmark_process.py; ais_infer]
"""

import re
from dataclasses import dataclass
from pathlib import Path

from app.cli.common import list_folder, notes
from app.core.ais_bench import (
    MAX_RESULT_BYTES,
    MAX_SUMMARY_BYTES,
    Result,
    Results,
    is_result,
    parse_summary,
    parse_vector,
    refuse_rivals,
    sort_results,
)
from app.core.metrics import Floats
from app.core.records import sort_names
from app.errors import BadInput

_DEVICE = re.compile(r"device\d+(_\d+)?")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, and its files by kind; their names are paths below the folder."""

    folder: Path
    results: Results


def find_run(folder: Path) -> Run:
    """The one run in a folder. Raises BadInput where there is none, or where there are several."""
    if not folder.is_dir():
        raise BadInput(f"there is no folder {str(folder)!r}")
    folder = folder.resolve()  # the summary lies beside the folder itself, not beside a link to it
    parts = _parts(folder)
    if not parts:
        raise BadInput(
            f"no results of ais_bench in {str(folder)!r}: no <name>_0.txt, .npy or .bin, and no folder of them"
        )
    results = Results()
    for part in parts:
        results += _sorted(part, folder)
    return Run(folder, refuse_rivals(results))


def _parts(folder: Path) -> list[Path]:
    """The folders that hold results themselves: the run's own, or those of its devices."""
    below = [child for child in _folders(folder) if not _DEVICE.fullmatch(child.name)]
    runs = {child: part for child in below if (part := _of_run(child))}
    if own := _of_run(folder):
        if runs:
            names = ", ".join(child.name for child in runs)
            raise BadInput(f"results in {str(folder)!r} itself, and below it in {names}; give a folder with one run")
        return own
    devices = [part.name for parts in runs.values() for part in parts]
    # With several devices each process names the run by its own clock: one run may lie in two folders, a second apart.
    if len(runs) > 1 and not (all(map(_DEVICE.fullmatch, devices)) and len(set(devices)) == len(devices)):
        names = ", ".join(child.name for child in runs)
        raise BadInput(f"{len(runs)} runs in {str(folder)!r}: {names}; give a folder with one of them")
    return [part for parts in runs.values() for part in parts]


def _of_run(folder: Path) -> list[Path]:
    devices = [child for child in _folders(folder) if _DEVICE.fullmatch(child.name)]
    return [part for part in (folder, *devices) if any(map(is_result, list_folder(part)))]


def _folders(folder: Path) -> list[Path]:
    return [folder / name for name in sort_names(child.name for child in folder.iterdir() if child.is_dir())]


def _sorted(part: Path, root: Path) -> Results:
    """The files of one folder, named from `root` on."""
    summary, refused = None, []
    path = _summary(part)
    if path is not None:
        try:
            summary = parse_summary(path.name, _read(path, MAX_SUMMARY_BYTES))
        except BadInput as error:
            refused.append(str(error))
    results = sort_results((name for name in list_folder(part) if part / name != path), summary)
    below = "" if part == root else f"{part.relative_to(root).as_posix()}/"
    return Results(
        tuple(Result(below + result.file, result.source) for result in results.usable),
        (*(below + sentence for sentence in results.refused), *refused),
        tuple(below + name for name in results.other_outputs),
        tuple(below + name for name in results.skipped),
    )


def _summary(part: Path) -> Path | None:
    """The file that pairs inputs with results, where there is one."""
    beside = [part.parent / f"{part.name}_{word}.json" for word in ("summary", "sumary")]
    inside = [part / f"{word}.json" for word in ("summary", "sumary", f"{part.name}_summary")]
    return next((path for path in (*beside, *inside) if path.is_file()), None)


def read_vector(run: Run, result: Result) -> Floats | BadInput:
    """A result's vector float32 [n], or why it has none."""
    try:
        return parse_vector(result.file, _read(run.folder / result.file, MAX_RESULT_BYTES))
    except OSError as error:
        return BadInput(f"{result.file}: cannot be read: {error.strerror}")
    except BadInput as error:
        return error


def tell(results: Results) -> None:
    """Say what of a run is refused and what is left out."""
    for sentence in results.refused:
        notes.print(f"refused: {sentence}", style="yellow")
    if left := results.other_outputs:
        notes.print(f"left out: {len(left)} files of other outputs than the first, among them {left[0]}")


def _read(path: Path, most: int) -> bytes:
    """A file's bytes; one more than allowed is enough to refuse it."""
    with path.open("rb") as file:
        return file.read(most + 1)
