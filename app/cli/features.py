"""Accuracy from a file of vectors: no model, no server, no data directory.

query_vectors, gallery_vectors   float, [n, dim], raw, not normalised
query_pids, query_camids, gallery_pids, gallery_camids   integers, [n]; person -1 is junk and does not count
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.core.metrics import Labelled
from app.core.splits import Sides, SplitCounts
from app.errors import BadInput

JUNK = -1  # as the field writes it: detections of nobody, which no ranking counts
ARRAYS = tuple(f"{side}_{what}" for side in ("query", "gallery") for what in ("vectors", "pids", "camids"))
Array = npt.NDArray[Any]


def read_features(path: Path) -> tuple[Sides, SplitCounts, SplitCounts]:
    """Query and gallery, and what of each counts. Raises BadInput, naming the array at fault."""
    arrays = _read(path)
    sides, counts = [], []
    for side in ("query", "gallery"):
        labelled = _side(path, side, *(arrays[f"{side}_{what}"] for what in ("vectors", "pids", "camids")))
        kept = labelled.pids != JUNK
        counts.append(SplitCounts(int(kept.sum()), int((~kept).sum()), 0, ()))
        sides.append(_only(labelled, kept) if not kept.all() else labelled)
    query, gallery = sides
    if query.vectors.shape[1] != gallery.vectors.shape[1]:
        raise BadInput(
            f"{path.name}: query_vectors have {query.vectors.shape[1]} numbers, gallery_vectors {gallery.vectors.shape[1]}"
        )
    persons, pids = np.unique(np.concatenate([query.pids, gallery.pids]), return_inverse=True)
    cameras, camids = np.unique(np.concatenate([query.camids, gallery.camids]), return_inverse=True)
    split = len(query.pids)
    return (
        Sides(
            Labelled(query.vectors, pids[:split].astype(np.int64), camids[:split].astype(np.int64)),
            Labelled(gallery.vectors, pids[split:].astype(np.int64), camids[split:].astype(np.int64)),
            persons=[str(person) for person in persons.tolist()],
            cameras=[str(camera) for camera in cameras.tolist()],
        ),
        counts[0],
        counts[1],
    )


def _read(path: Path) -> dict[str, Array]:
    """The six arrays. Nothing is unpickled."""
    try:
        # Opened here, since numpy leaves a file that is no zip open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise BadInput(
                    f"{path.name} holds one array; the six of {', '.join(ARRAYS)} are needed, as np.savez writes them"
                )
            if missing := [name for name in ARRAYS if name not in stored]:
                raise BadInput(f"{path.name} has no {', '.join(missing)}")
            return {name: stored[name] for name in ARRAYS}
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, MemoryError) as error:
        raise BadInput(f"{path.name} is no file of arrays that np.savez wrote: {error}") from error


def _side(path: Path, side: str, vectors: Array, pids: Array, camids: Array) -> Labelled:
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or vectors.shape[1] == 0:
        raise BadInput(
            f"{path.name}: {side}_vectors are {vectors.dtype} {list(vectors.shape)}; floats [n, dim] are needed"
        )
    for what, array in (("pids", pids), ("camids", camids)):
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise BadInput(f"{path.name}: {side}_{what} are {array.dtype} {list(array.shape)}; integers [n] are needed")
        if len(array) != len(vectors):
            raise BadInput(f"{path.name}: {len(vectors)} {side}_vectors, {len(array)} {side}_{what}")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
        return Labelled(np.ascontiguousarray(vectors, dtype=np.float32), pids.astype(np.int64), camids.astype(np.int64))


def _only(rows: Labelled, kept: npt.NDArray[np.bool_]) -> Labelled:
    return Labelled(rows.vectors[kept], rows.pids[kept], rows.camids[kept])
