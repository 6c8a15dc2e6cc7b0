"""`reid bench search`: what a search of a large gallery costs, by the path of a real one, beside a plain scan by FAISS."""

import multiprocessing
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from app.cli.bench.crowd import PIECE, Crowd, Nearest, Size, asks
from app.cli.bench.machine import described
from app.cli.common import JsonPath, notes, out, progress, write_json
from app.core.metrics import Floats
from app.core.records import Collection
from app.errors import BadInput

if TYPE_CHECKING:
    from app.adapters.local_gallery import LocalGallery

Json = dict[str, Any]
NAME, K = "crowd", 10
_WARM = 5  # searches before the clock counts: the first ones open a connection and fill caches
_FLAT_QUERIES = 30
_SETTLED_S = 0.05  # between two looks at whether the background's work is done
DEFAULT = Size()


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(search)


def search(
    rows: Annotated[int, typer.Option(min=1, help="Items in the gallery.")] = DEFAULT.rows,
    queries: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = DEFAULT.queries,
    dim: Annotated[int, typer.Option(min=1, help="Numbers in a vector.")] = DEFAULT.dim,
    cameras: Annotated[int, typer.Option(min=2, help="Cameras.")] = DEFAULT.cameras,
    seed: Annotated[int, typer.Option(min=0, help="Of what is made up.")] = DEFAULT.seed,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Keep the gallery here, and use it again; else it is removed.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Searches one at a time, with and without filters: time, recall, memory, and what inserting and starting take."""
    with _directory(folder) as directory:
        answer = measure(Size(rows, queries, dim, cameras, seed), directory)
    if not write_json(json, answer):
        show(answer)


def measure(size: Size, directory: Path) -> Json:
    """All figures of one size."""
    crowd = Crowd(size)
    inserted = insert(crowd, directory)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as another:
        started = another.submit(opened, directory).result()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as another:
        rebuilt = another.submit(opened, directory, without_files=True).result()
    answer = {"size": asdict(size), "insert": inserted, "start": started, "rebuild": rebuilt}
    return answer | _searched(crowd, directory) | {"machine": described()}


def insert(crowd: Crowd, directory: Path) -> Json | None:
    """Fill the gallery; None where it is full already. Raises BadInput where it holds something else."""
    from app.adapters.local_gallery import LocalGallery

    size, gallery, seconds = crowd.size, LocalGallery(directory), 0.0
    try:
        made = datetime(2026, 1, 1, tzinfo=UTC)
        gallery.put_collection(Collection(NAME, repr(size)[-60:], size.dim, keep_crops=False, created_at=made))
        if gallery.count(NAME):
            if (gallery.count(NAME), gallery.collection(NAME).fingerprint) != (size.rows, repr(size)[-60:]):
                raise BadInput(f"{directory} holds another crowd than was asked for; give another --dir")
            return None
        with progress("items") as bar:
            task = bar.add_task("inserting", total=size.rows)
            for start, vectors in crowd.pieces():
                items, begun = crowd.items(start, len(vectors)), time.perf_counter()
                gallery.upsert(NAME, items, vectors)
                seconds += time.perf_counter() - begun
                bar.advance(task, len(vectors))
        begun = time.perf_counter()
        settled(gallery)
        return {
            "items_per_s": size.rows / seconds,
            "items_per_write": min(PIECE, size.rows),
            "settled_s": time.perf_counter() - begun,
        }
    finally:
        gallery.close()


def settled(gallery: "LocalGallery") -> None:
    """Wait until nothing is done in the background."""
    while gallery.index(NAME).pending:
        time.sleep(_SETTLED_S)


def opened(directory: Path, without_files: bool = False) -> Json:
    """In a process of its own: how long a start takes, and what memory it leaves in use. Without files codes are made anew."""
    from app.adapters.local_gallery import LocalGallery

    if without_files:
        shutil.rmtree(directory / "index", ignore_errors=True)
    before, begun = _memory("VmRSS"), time.perf_counter()
    gallery = LocalGallery(directory)
    ready_s = time.perf_counter() - begun
    settled(gallery)
    memory = {"resident_bytes": _memory("VmRSS") - before, "peak_bytes": _memory("VmHWM") - before}
    facts = gallery.index(NAME)
    gallery.close()
    return {"ready_s": ready_s, **memory, "index": asdict(facts)}


def _searched(crowd: Crowd, directory: Path) -> Json:
    """Our searches, beside the true answers and a plain scan."""
    from app.adapters.local_gallery import LocalGallery

    queries, cameras = crowd.queries()
    kinds = asks(crowd, cameras)
    nearest = Nearest(queries, K, kinds)
    plain = _scanned(crowd, queries, nearest)
    gallery, searches = LocalGallery(directory), {}
    try:
        settled(gallery)
        for ask in kinds:
            times, recalls = list[float](), list[float]()
            for place in [*range(min(_WARM, len(queries))), *range(len(queries))]:
                begun = time.perf_counter()
                (found,) = gallery.search(NAME, queries[place][None], K, ask.where(place))
                times.append(time.perf_counter() - begun)
                recalls.append(nearest.recall(ask.name, place, [match.item.id for match in found]))
            searches[ask.name] = _told(times[-len(queries) :], recalls[-len(queries) :], plain["p50_ms"])
        persons = _persons(gallery, queries)
    finally:
        gallery.close()
    return {"searches": searches, "persons": persons, "flat": plain}


def _scanned(crowd: Crowd, queries: Floats, nearest: Nearest) -> Json:
    """Fill in the true answers, and time a plain scan of as many rows as fit into memory, which is given back."""
    flat = _Flat(crowd)
    with progress("items") as bar:
        task = bar.add_task("scanning for the true answers", total=crowd.size.rows)
        for start, vectors in crowd.pieces():
            units = np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
            nearest.see(start, units)
            flat.add(units)
            bar.advance(task, len(vectors))
    return flat.timed(queries)


def _persons(gallery: "LocalGallery", queries: Floats) -> Json:
    from app.core.records import Filter

    times = []
    for query in queries:
        begun = time.perf_counter()
        gallery.search_persons(NAME, query[None], K, Filter())
        times.append(time.perf_counter() - begun)
    return {"p50_ms": float(np.median(times)) * 1000}


def _told(times: list[float], recalls: list[float], flat_ms: float) -> Json:
    p50_ms, p95_ms = (float(np.percentile(times, share)) * 1000 for share in (50, 95))
    return {
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        f"recall_at_{K}": float(np.mean(recalls)),
        "flat_over_ours": flat_ms / p50_ms,
    }


class _Flat:
    """FAISS's plain scan of float32 vectors, as one writes it down first; of the first rows where not all fit."""

    def __init__(self, crowd: Crowd) -> None:
        import faiss

        self._rows = crowd.size.rows
        self._most = min(self._rows, _free_bytes() // 2 // (crowd.size.dim * 4))
        self._index = faiss.IndexFlatIP(crowd.size.dim)

    def add(self, units: Floats) -> None:
        """The next rows."""
        room = self._most - self._index.ntotal
        if room > 0:
            self._index.add(np.ascontiguousarray(units[:room]))

    def timed(self, queries: Floats) -> Json:
        """Milliseconds for all rows: of a part, as many times more as there are rows."""
        import faiss

        times = []
        for query in queries[:_FLAT_QUERIES]:
            begun = time.perf_counter()
            self._index.search(query[None], K)
            times.append(time.perf_counter() - begun)
        scanned = int(self._index.ntotal)
        p50_ms = float(np.median(times)) * 1000 * self._rows / scanned
        return {"p50_ms": p50_ms, "rows_scanned": scanned, "threads": int(faiss.omp_get_max_threads())}


def show(answer: Json) -> None:
    """The same as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("search", "p50 ms", "p95 ms", f"recall@{K}", "flat / ours"):
        table.add_column(column, justify="left" if column == "search" else "right", no_wrap=True)
    for name, r in answer["searches"].items():
        shown = (f"{r['p50_ms']:.2f}", f"{r['p95_ms']:.2f}", f"{r[f'recall_at_{K}']:.4f}", f"{r['flat_over_ours']:.1f}")
        table.add_row(name, *shown)
    table.add_row("by person", f"{answer['persons']['p50_ms']:.2f}")
    out.print(table)
    for sentence in sentences(answer):
        out.print(sentence)


def sentences(answer: Json) -> list[str]:
    """What stands beside the table."""
    size, flat, started, mb = answer["size"], answer["flat"], answer["start"], 1e6
    inserted, index, rebuilt = answer["insert"], started["index"], answer["rebuild"]
    whole = flat["rows_scanned"] == size["rows"]
    part = "" if whole else f", extrapolated from {flat['rows_scanned']:,} rows"
    machine = answer["machine"]
    return [
        f"a plain scan by FAISS: {flat['p50_ms']:.1f} ms{part}",
        "inserting: the gallery was there already"
        if inserted is None
        else f"inserting: {inserted['items_per_s']:,.0f} items/s, {inserted['items_per_write']} a write; "
        f"done in the background {inserted['settled_s']:.1f} s later",
        f"starting: {started['ready_s']:.2f} s; {started['resident_bytes'] / mb:.0f} MB in use then, "
        f"{index['bytes'] / mb:.0f} MB of them the index ({index['kind']}, {index['coded']:,} items with codes)",
        f"starting without index files: {rebuilt['ready_s']:.2f} s, at most {rebuilt['peak_bytes'] / mb:.0f} MB",
        f"{size['rows']:,} x {size['dim']:,}, made up (seed {size['seed']}), one search at a time, {size['queries']} of each; "
        f"{machine['processor']}, {machine['cores']} cores, FAISS threads: {flat['threads']}",
    ]


@contextmanager
def _directory(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    notes.print("the gallery is made in a folder for temporary files; --dir keeps it elsewhere", style="dim")
    with tempfile.TemporaryDirectory(prefix="reid-bench-") as made:
        yield Path(made)


def _memory(name: str) -> int:
    """Bytes of this process, as Linux counts them; 0 elsewhere."""
    return _field(Path("/proc/self/status"), name)


def _free_bytes() -> int:
    """What may still be used without swapping; elsewhere than on Linux a guess."""
    return _field(Path("/proc/meminfo"), "MemAvailable") or 2**32


def _field(file: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
