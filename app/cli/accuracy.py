"""Accuracy from vectors that were made elsewhere: no model, no server, no data directory."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.cli.ais_bench import Run, find_run, read_vector, tell
from app.cli.common import notes, progress
from app.cli.features import read_features
from app.client import Json
from app.core.accuracy import measure
from app.core.accuracy_report import BY_NAME, as_json, data_json, no_agreement
from app.core.ais_bench import Result, usual_length
from app.core.metrics import Floats
from app.core.records import NamedFiles, NamePattern, label_names, require_labels, sort_names
from app.core.splits import Sides, Split, SplitCounts, sides_of, without_background
from app.core.vectors import fault
from app.errors import BadInput

QUERY, GALLERY = "query", "gallery"  # the guide's names, below its folder `result`


def of_results(folder: Path, pattern: str, protocols: Sequence[str]) -> Json:
    """The report of what ais_bench wrote for `query/` against `gallery/`, in the words of POST /v1/evaluate.

    Raises BadInput, BadField.
    """
    names, started = NamePattern(pattern), time.perf_counter()
    sides = [_listed(folder, name, names) for name in (QUERY, GALLERY)]
    with progress("results") as bar:
        task = bar.add_task("reading", total=sum(len(side.files.labelled) for side in sides))
        vectors = [_read(side, lambda: bar.advance(task)) for side in sides]
    length = usual_length(v for of_side in vectors for v in of_side.values() if not isinstance(v, BadInput))
    query, gallery = (_split(side, of_side, length) for side, of_side in zip(sides, vectors, strict=True))
    source = {"folder": folder.resolve().name}
    both = sides_of(query[0], gallery[0])
    return _report(both, query[1], gallery[1], protocols, source, BY_NAME, "vectors from ais_bench", started)


def of_features(file: Path, protocols: Sequence[str]) -> Json:
    """The report of six arrays in a file. Raises BadInput, BadField."""
    started = time.perf_counter()
    sides, query, gallery = read_features(file)
    source = {"folder": None, "features": file.name}
    return _report(sides, query, gallery, protocols, source, "that of the arrays", "vectors from a file", started)


def _report(
    sides: Sides,
    query: SplitCounts,
    gallery: SplitCounts,
    protocols: Sequence[str],
    source: Mapping[str, str | None],
    order: str,
    made_by: str,
    started: float,
) -> Json:
    read = time.perf_counter()
    with progress("protocols") as bar:
        task = bar.add_task("ranking", total=None)
        accuracy = measure(sides, protocols, tell=lambda at: bar.update(task, description=f"ranking: {at}"))
    ranked = time.perf_counter()
    model = {
        "fingerprint": None,
        "label": f"{made_by}, whose model is not recorded",
        "variant": None,
        "batch_size": None,
    }
    return as_json(accuracy) | {
        "data": data_json(accuracy, query, gallery, order, **source),
        "model": model,
        "index_agreement": no_agreement("there is no collection"),
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
    rows, labels, kept, refused = [], [], [], list(results.refused)
    for name, label in files.labelled:
        vector = vectors[name]
        if isinstance(vector, BadInput):
            refused.append(str(vector))
        elif why := fault(vector, length):
            refused.append(f"{side.results[name].file}: {why}")
        else:
            rows.append(vector)
            labels.append(label)
            kept.append(name)
    for sentence in refused[len(results.refused) :]:
        notes.print(f"refused: {sentence}", style="yellow")
    if not rows:
        raise BadInput(f"no result in {side.name} can be used: {refused[0] if refused else 'none is labelled'}")
    skipped = len(results.skipped) + len(results.other_outputs) + len(files.unlabelled)
    return Split(np.stack(rows), labels, kept), SplitCounts(len(rows), len(files.junk), skipped, tuple(refused))
