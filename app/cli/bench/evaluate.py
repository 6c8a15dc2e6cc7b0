"""`reid bench evaluate`: all protocols at DukeMTMC-reID's size, beside the loop that one writes down first."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from app.cli.bench.machine import Peak, described
from app.cli.common import JsonPath, notes, out, write_json
from app.core.metrics import Floats, Ints, Labelled, average_precision, unit
from app.core.protocols import Result
from app.core.protocols import evaluate as evaluate_protocols
from app.errors import BadField

Json = dict[str, Any]
PLAIN_QUERIES = 200  # of the plain loop; all of them would take most of the command's time
# Chosen so that rank-1 by `instance` is near 0.85 at Duke's size: how many rows lie before the last right one is what
# ranking costs, so that perfect vectors would flatter it.
_FEATURES, _VIEW, _CROP, _REST = 32, 0.65, 0.4, 0.3
_CHUNK = 256  # rows made at a time: 2 MB at 2048 numbers


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(evaluate)


@dataclass(frozen=True, slots=True)
class Size:
    """Of a made-up data set; by default DukeMTMC-reID's. distractors: persons without a query, each seen by one camera."""

    queries: int = 2228
    gallery: int = 17661
    dim: int = 2048
    persons: int = 702
    distractors: int = 408
    cameras: int = 8
    seed: int = 0


DUKE = Size()


def evaluate(
    queries: Annotated[int, typer.Option(min=1, help="Queries.")] = DUKE.queries,
    gallery: Annotated[int, typer.Option(min=1, help="Gallery rows.")] = DUKE.gallery,
    dim: Annotated[int, typer.Option(min=1, help="Numbers in a vector.")] = DUKE.dim,
    persons: Annotated[int, typer.Option(min=1, help="Persons with queries.")] = DUKE.persons,
    distractors: Annotated[int, typer.Option(min=0, help="Persons in the gallery alone.")] = DUKE.distractors,
    cameras: Annotated[int, typer.Option(min=2, help="Cameras.")] = DUKE.cameras,
    seed: Annotated[int, typer.Option(min=0, help="Of what is made up.")] = DUKE.seed,
    json: JsonPath = None,
) -> None:
    """All protocols with their intervals, and without the shuffled orders: seconds, memory, and a plain loop beside them."""
    size = Size(queries, gallery, dim, persons, distractors, cameras, seed)
    notes.print(f"making up {queries + gallery:,} vectors of {dim}", style="dim")
    answer = measure(size, *made_up(size))
    if not write_json(json, answer):
        show(answer)


def made_up(size: Size) -> tuple[Labelled, Labelled]:
    """Query and gallery, raw float32 vectors of persons that look somewhat different in each camera and crop.

    Queries go round the persons, camera after camera; gallery rows go round all persons and the cameras of each.
    """
    if size.gallery < size.persons + size.distractors:
        raise BadField("gallery", f"{size.gallery} rows are too few for {size.persons + size.distractors} persons")
    rng = np.random.default_rng(size.seed)
    everybody = size.persons + size.distractors
    cameras = np.argsort(rng.random((everybody, size.cameras)), axis=1)  # of each person, in an order of its own
    asked, kept = np.arange(size.queries), np.arange(size.gallery)
    seen_by = np.ones(everybody, dtype=np.int64)
    seen_by[: size.persons] = np.clip(-(-(size.queries - np.arange(size.persons)) // size.persons), 2, size.cameras)
    of_query, of_gallery = asked % size.persons, kept % everybody
    query_cameras = cameras[of_query, asked // size.persons % size.cameras]
    gallery_cameras = cameras[of_gallery, kept // everybody % seen_by[of_gallery]]
    looks = _Looks(size, rng)
    return (
        Labelled(looks.of(of_query, query_cameras), of_query, query_cameras),
        Labelled(looks.of(of_gallery, gallery_cameras), of_gallery, gallery_cameras),
    )


class _Looks:
    """What persons have in common with themselves, in general and in one camera, spread over `dim` numbers."""

    def __init__(self, size: Size, rng: np.random.Generator) -> None:
        self._rng, self._dim = rng, size.dim
        everybody = size.persons + size.distractors
        self._person = rng.standard_normal((everybody, 1, _FEATURES), dtype=np.float32)
        views = _VIEW * rng.standard_normal((everybody, size.cameras, _FEATURES), dtype=np.float32)
        self._views = self._person + views
        self._spread = rng.standard_normal((_FEATURES, size.dim), dtype=np.float32) / np.float32(np.sqrt(_FEATURES))

    def of(self, pids: Ints, camids: Ints) -> Floats:
        """float32 [n, dim], a piece at a time: the memory that is measured later must not have been in use before."""
        vectors = np.empty((len(pids), self._dim), dtype=np.float32)
        for start in range(0, len(pids), _CHUNK):
            some = slice(start, start + _CHUNK)
            looks = self._views[pids[some], camids[some]]
            looks += _CROP * self._rng.standard_normal(looks.shape, dtype=np.float32)
            part = vectors[some]
            part[:] = _REST * self._rng.standard_normal(part.shape, dtype=np.float32)
            part += looks @ self._spread
        return vectors


def measure(
    size: Size,
    query: Labelled,
    gallery: Labelled,
    clock: Callable[[], float] = time.perf_counter,
    plain: int = PLAIN_QUERIES,
) -> Json:
    """Ours first, with its memory; then the plain loop for `instance` over some of the queries, evenly chosen."""
    begun: dict[str, float] = {}

    def begins(name: str) -> None:
        begun[name] = clock()

    memory = Peak()
    results = evaluate_protocols(query, gallery, shuffles=0, report=begins)
    ended = clock()
    peak_bytes = memory.above_start()
    seconds = lasted(begun, ended)
    chosen = np.unique(np.linspace(0, len(query.pids) - 1, min(plain, len(query.pids))).astype(np.int64))
    started = clock()
    precisions = plain_instance(query, gallery, chosen)
    plain_s = clock() - started
    return {
        "size": asdict(size),
        "protocols": {
            name: {"seconds": seconds[name], "rank1": result.report.ranks[1], "mAP": result.report.mAP}
            for name, result in results.items()
        },
        "total_s": ended - min(begun.values()),
        "peak_bytes": peak_bytes,
        "peak_by": memory.by,
        "vectors_bytes": query.vectors.nbytes + gallery.vectors.nbytes,
        "plain": compared(plain_s, len(chosen), len(query.pids), seconds["instance"])
        | {"largest_difference": _difference(results["instance"], precisions, chosen)},
        "machine": described(),
    }


def lasted(begun: dict[str, float], ended: float) -> dict[str, float]:
    """Seconds of each, from when each began and the last one ended.

    >>> lasted({"a": 1.0, "b": 3.0}, 3.5)
    {'a': 2.0, 'b': 0.5}
    """
    ends = [*list(begun.values())[1:], ended]
    return {name: end - start for (name, start), end in zip(begun.items(), ends, strict=True)}


def compared(plain_s: float, asked: int, queries: int, ours_s: float) -> Json:
    """The plain loop's time for all queries, by its time for those that were asked, and its ratio to ours."""
    whole_s = plain_s * queries / asked
    return {"queries": asked, "seconds": plain_s, "extrapolated_s": whole_s, "ratio": whole_s / ours_s}


def plain_instance(query: Labelled, gallery: Labelled, chosen: Ints) -> list[float]:
    """Average precision by `instance` as one writes it down first: every row of the ranking sorted, query by query."""
    rows = unit(gallery.vectors)
    precisions = []
    for i in chosen:
        order = np.argsort(-(rows @ unit(query.vectors[i : i + 1])[0]), kind="stable")
        pids, camids = gallery.pids[order], gallery.camids[order]
        counts = (pids != query.pids[i]) | (camids != query.camids[i])
        positions = np.flatnonzero(pids[counts] == query.pids[i]) + 1
        precisions.append(average_precision(positions) if len(positions) else float("nan"))
    return precisions


def _difference(ours: Result, precisions: list[float], chosen: Ints) -> float:
    """Of average precisions: both loops must have ranked the same."""
    apart = np.abs(ours.ranked.precision[chosen] - np.array(precisions))
    return float(np.nanmax(apart)) if np.isfinite(apart).any() else 0.0


def show(answer: Json) -> None:
    """The same as a table."""
    size, machine = answer["size"], answer["machine"]
    table = Table(box=None, pad_edge=False)
    for column in ("protocol", "seconds", "rank-1 %", "mAP %"):
        table.add_column(column, justify="left" if column == "protocol" else "right", no_wrap=True)
    for name, r in answer["protocols"].items():
        table.add_row(name, f"{r['seconds']:.2f}", *(_percent(r[key]) for key in ("rank1", "mAP")))
    out.print(table)
    for sentence in sentences(answer):
        out.print(sentence)
    out.print(
        f"{size['queries']:,} x {size['gallery']:,} x {size['dim']:,}, made up (seed {size['seed']}): accuracy means nothing here; "
        f"{machine['processor']}, {machine['cores']} cores, numpy {machine['numpy']}, "
        f"BLAS threads: {machine['blas_threads'] or 'unknown'}"
    )


def sentences(answer: Json) -> list[str]:
    """Total, memory, and the plain loop."""
    plain, mb = answer["plain"], 1e6
    return [
        f"all together: {answer['total_s']:.2f} s, with intervals, without shuffled orders",
        f"memory at its peak: {answer['peak_bytes'] / mb:.0f} MB above the vectors' {answer['vectors_bytes'] / mb:.0f} MB "
        f"({answer['peak_by']})",
        f"plain loop for instance: {plain['extrapolated_s']:.1f} s, {plain['ratio']:.1f} times ours; extrapolated from "
        f"{plain['seconds']:.2f} s for {plain['queries']} of {answer['size']['queries']:,} queries; average precisions differ by "
        f"{plain['largest_difference']:.1e} at most",
    ]


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate * 100:.1f}"
