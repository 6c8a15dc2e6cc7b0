"""Results of ais_bench into a collection: labelled by their names, and compared with the pictures where those are at hand."""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.cli.ais_bench import Run, find_run, read_vector, tell
from app.cli.common import Target, connect, list_folder, notes
from app.cli.sending import about, add_in_halves, refused, send_rows
from app.client import Client, Json, VectorFile
from app.core.ais_bench import Result, stem
from app.core.metrics import Floats
from app.core.records import Label, NamePattern, label_names, pictures, require_labels, sort_names
from app.core.vectors import fault
from app.errors import BadInput

COMPARED, COSINE = 8, 0.99  # float16 on an NPU gives 0.999 and more; another model, or another crop, much less


@dataclass(frozen=True, slots=True)
class _Row:
    """A result with the name it goes by: its picture's where the pictures are at hand, else its input's."""

    name: str
    result: Result
    label: Label | None


def index_results(
    target: Target, folder: Path, collection: str, pattern: str | None, crops: Path | None, keep_crops: bool | None
) -> Json:
    """Index the vectors of a run; what became of them. Raises BadInput where there are none, or where they are others."""
    run = find_run(folder)
    behind = _by_stem(list_folder(crops)) if crops is not None else None
    named = {(behind or {}).get(stem(result.source), result.source): result for result in run.results.usable}
    files = label_names(sort_names(named), NamePattern(pattern or "auto"))
    if pattern is not None:
        require_labels(files)
    unlabelled = files.unlabelled if pattern is None else ()
    rows = [_Row(name, named[name], label) for name, label in files.labelled]
    rows += [_Row(name, named[name], None) for name in unlabelled]
    if not rows:
        tell(run.results)
        raise BadInput(f"no result in {str(folder)!r} can be indexed ({len(files.junk)} are junk by their names)")
    check = None if crops is None else _Comparison(crops, frozenset((behind or {}).values()))
    results, compared = asyncio.run(_index(target, run, collection, rows, check, keep_crops))
    left_out = len(files.unlabelled) - len(unlabelled)
    return {
        "collection": collection,
        "results": results,
        "labelled": len(files.labelled),
        "unlabelled": len(unlabelled),
        "junk": len(files.junk),
        "skipped": len(run.results.skipped) + len(run.results.other_outputs) + left_out,
        "compared": compared,
    }


async def _index(
    target: Target,
    run: Run,
    collection: str,
    rows: Sequence[_Row],
    comparison: "_Comparison | None",
    keep_crops: bool | None,
) -> tuple[dict[str, int], Json | None]:
    async with connect(target) as client:
        model = await client.model()
        compared = None
        if comparison is not None:
            compared = await comparison.run(client, run, rows, model["dim"])
        else:
            notes.print(f"not checked: that {model['fingerprint']} made these vectors; give --crops to compare some")
        await client.put_collection(collection, keep_crops)
        send = functools.partial(_send, client, run, collection, model["fingerprint"])
        counts = await send_rows(collection, rows, send)
    tell(run.results)
    counts["refused"] += len(run.results.refused)
    return dict(counts), compared


async def _send(client: Client, run: Run, collection: str, fingerprint: str, rows: Sequence[_Row]) -> list[Json]:
    """One batch, a result for each. What cannot be read is refused here."""
    vectors = await asyncio.to_thread(lambda: [read_vector(run, row.result) for row in rows])
    bad = [refused(row.name, str(v)) for row, v in zip(rows, vectors, strict=True) if isinstance(v, BadInput)]
    good = [
        VectorFile(row.name, vector.astype("<f4").tobytes(), about(row.label))
        for row, vector in zip(rows, vectors, strict=True)
        if not isinstance(vector, BadInput)
    ]
    if not good:
        return bad
    return [*bad, *await add_in_halves(functools.partial(client.add_vectors, collection, fingerprint), good)]


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Pictures by their names up to the first dot; where that is not unique, none."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in pictures(names)[0]:
        found[stem(name)].append(name)
    return {key: names[0] for key, names in found.items() if len(names) == 1}


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Some pictures go through the loaded model and are compared with their results."""

    folder: Path
    pictures: frozenset[str]

    async def run(self, client: Client, run: Run, rows: Sequence[_Row], dim: int) -> Json:
        """How many were compared, and the lowest cosine. Raises BadInput where they disagree, or where there are none."""
        cosines: dict[str, float] = {}
        for row in _spread([row for row in rows if row.name in self.pictures], COMPARED):
            vector = read_vector(run, row.result)
            if isinstance(vector, BadInput) or fault(vector, dim):
                continue  # it is refused by name when its turn comes
            cosines[row.name] = _cosine(vector, await _embed(client, self.folder / row.name))
        if not cosines:
            raise BadInput(
                f"nothing could be compared: no result is named as a picture in {str(self.folder)!r} "
                f"and holds {dim} finite numbers"
            )
        worst = min(cosines, key=cosines.__getitem__)
        if cosines[worst] < COSINE:
            raise BadInput(
                f"{worst}: the cosine of its result to what the loaded model makes of the picture is {cosines[worst]:.4f}, "
                f"at least {COSINE} is needed; these vectors are not of this model, or the crops are not these"
            )
        notes.print(f"compared: {len(cosines)} crops, cosine to the loaded model at least {cosines[worst]:.4f}")
        return {"crops": len(cosines), "cosine_min": cosines[worst]}


def _spread(rows: Sequence[_Row], most: int) -> list[_Row]:
    """At most so many of the rows, from the first to the last."""
    if not rows:
        return []
    return [rows[i] for i in sorted(set(np.linspace(0, len(rows) - 1, most).astype(int).tolist()))]


async def _embed(client: Client, picture: Path) -> Floats:
    data = await asyncio.to_thread(picture.read_bytes)
    vector, _, _ = await client.embed([(picture.name, data)])
    return np.frombuffer(vector, dtype="<f4").astype(np.float32)


def _cosine(one: Floats, other: Floats) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
