"""Accuracy from the vectors that ais_bench wrote: no model, no server, no data directory."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from app.api.schemas import ProtocolReport
from app.cli.ais_bench import Run, find_run, read_vector, tell
from app.cli.common import notes, progress
from app.client import Json
from app.core.ais_bench import Result, usual_length
from app.core.metrics import Floats
from app.core.records import NamedFiles, NamePattern, label_names, require_labels, sort_names
from app.core.splits import Split, SplitCounts, rank, without_background
from app.core.vectors import fault
from app.errors import BadInput

QUERY, GALLERY = "query", "gallery"  # the guide's names, below its folder `result`
_MODEL = {
    "fingerprint": None,
    "label": "vectors from ais_bench, whose model is not recorded",
    "variant": None,
    "batch_size": None,
}


def of_results(folder: Path, pattern: str) -> Json:
    """The report of `query/` against `gallery/`, in the words of POST /v1/evaluate. Raises BadInput."""
    names = NamePattern(pattern)
    started = time.perf_counter()
    sides = [_listed(folder, name, names) for name in (QUERY, GALLERY)]
    with progress("results") as bar:
        task = bar.add_task("reading", total=sum(len(side.files.labelled) for side in sides))
        vectors = [_read(side, lambda: bar.advance(task)) for side in sides]
    length = usual_length(v for of_side in vectors for v in of_side.values() if not isinstance(v, BadInput))
    query, gallery = (_split(side, of_side, length) for side, of_side in zip(sides, vectors, strict=True))
    read = time.perf_counter()
    protocols = rank(query[0], gallery[0])
    ranked = time.perf_counter()
    return {
        "protocols": {name: ProtocolReport.of(report).model_dump() for name, report in protocols.items()},
        "data": {"folder": folder.resolve().name, QUERY: asdict(query[1]), GALLERY: asdict(gallery[1])},
        "model": _MODEL,
        "timings_ms": {"read": (read - started) * 1000, "rank": (ranked - read) * 1000},
    }


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two folders: its run, the results by their crops' names, and those names by kind."""

    run: Run
    results: Mapping[str, Result]
    files: NamedFiles

    @property
    def name(self) -> str:
        """For sentences, such as `query/2023_01_05-10_11_12`."""
        return f"{self.run.folder.parent.name}/{self.run.folder.name}"


def _listed(folder: Path, name: str, pattern: NamePattern) -> _Side:
    if not (folder / name).is_dir():
        raise BadInput(f"{str(folder)!r} is no folder with {QUERY} and {GALLERY} in it")
    run = find_run(folder / name)
    tell(run.results)
    results = {result.source: result for result in run.results.usable}
    files = label_names(sort_names(results), pattern)
    require_labels(files)
    return _Side(run, results, without_background(files, pattern) if name == QUERY else files)


def _read(side: _Side, advance: Callable[[], None]) -> dict[str, Floats | BadInput]:
    """The vector of each labelled crop by the crop's name, or why it has none."""
    vectors: dict[str, Floats | BadInput] = {}
    for name, _ in side.files.labelled:
        vectors[name] = read_vector(side.run, side.results[name])
        advance()
    return vectors


def _split(side: _Side, vectors: Mapping[str, Floats | BadInput], length: int) -> tuple[Split, SplitCounts]:
    """The vectors that can be compared, with their labels; the others are refused by name."""
    files, results = side.files, side.run.results
    rows, labels, refused = [], [], list(results.refused)
    for name, label in files.labelled:
        vector = vectors[name]
        if isinstance(vector, BadInput):
            refused.append(str(vector))
        elif why := fault(vector, length):
            refused.append(f"{side.results[name].file}: {why}")
        else:
            rows.append(vector)
            labels.append(label)
    for sentence in refused[len(results.refused) :]:
        notes.print(f"refused: {sentence}", style="yellow")
    if not rows:
        raise BadInput(f"no result in {side.name} can be used: {refused[0] if refused else 'none is labelled'}")
    skipped = len(results.skipped) + len(results.other_outputs) + len(files.unlabelled)
    return Split(np.stack(rows), labels), SplitCounts(len(rows), len(files.junk), skipped, tuple(refused))
