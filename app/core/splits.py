"""Query and gallery of a labelled data set: which names count, and the arrays that the metrics take.

Whatever the vectors come from (pictures, or result files of another tool), the same rows count and the same code ranks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.metrics import Floats, Labelled, Report, evaluate_instance
from app.core.records import Label, NamedFiles, NamePattern, is_background


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What of a split was used and what was not."""

    used: int
    junk: int
    skipped: int
    refused: tuple[str, ...]  # sentences about crops that gave no vector


@dataclass(frozen=True, slots=True)
class Split:
    """Vectors float32 [n, dim], raw or unit, with the label of each."""

    vectors: Floats
    labels: Sequence[Label]


def without_background(files: NamedFiles, pattern: NamePattern) -> NamedFiles:
    """For queries: background, which is nobody, is junk among them."""
    nobody = {name for name, label in files.labelled if pattern.has_background and is_background(label.person_id)}
    labelled = tuple(row for row in files.labelled if row[0] not in nobody)
    return NamedFiles(labelled, files.unlabelled, (*files.junk, *sorted(nobody)), files.skipped)


def rank(query: Split, gallery: Split) -> dict[str, Report]:
    """A report for each protocol."""
    return {"instance": evaluate_instance(*arrays(query, gallery))}


def arrays(query: Split, gallery: Split) -> tuple[Labelled, Labelled]:
    """The splits with numbers for persons and cameras, the same in both."""
    labels = (*query.labels, *gallery.labels)
    persons = _numbered(label.person_id for label in labels)
    cameras = _numbered(label.camera_id for label in labels)
    return _labelled(query, persons, cameras), _labelled(gallery, persons, cameras)


def _labelled(split: Split, persons: dict[str, int], cameras: dict[str, int]) -> Labelled:
    pids = np.array([persons[label.person_id] for label in split.labels], dtype=np.int64)
    camids = np.array([cameras[label.camera_id] for label in split.labels], dtype=np.int64)
    return Labelled(split.vectors, pids, camids)


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}
