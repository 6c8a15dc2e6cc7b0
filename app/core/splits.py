"""Query and gallery of a labelled data set: which names count, and the arrays that the metrics take.

Whatever the vectors come from (pictures, or result files of another tool), the same rows count and the same code ranks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.metrics import Floats, Labelled
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
    """Vectors float32 [n, dim], raw or unit, with the label of each, and its file's name where it has one."""

    vectors: Floats
    labels: Sequence[Label]
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sides:
    """Query and gallery with numbers for persons and cameras, the same in both, and what the numbers stand for.

    Names may be missing: then both are empty. set_apart: the queries are other crops than the gallery's; else each
    query is one of the gallery's own crops.
    """

    query: Labelled
    gallery: Labelled
    persons: Sequence[str]
    cameras: Sequence[str]
    query_names: Sequence[str] = ()
    gallery_names: Sequence[str] = ()
    set_apart: bool = True


def without_background(files: NamedFiles, pattern: NamePattern) -> NamedFiles:
    """For queries: background, which is nobody, is junk among them."""
    nobody = {name for name, label in files.labelled if pattern.has_background and is_background(label.person_id)}
    labelled = tuple(row for row in files.labelled if row[0] not in nobody)
    return NamedFiles(labelled, files.unlabelled, (*files.junk, *sorted(nobody)), files.skipped)


def sides_of(query: Split, gallery: Split) -> Sides:
    """Persons and cameras numbered in the order of their texts."""
    labels = (*query.labels, *gallery.labels)
    persons, cameras = _sorted(label.person_id for label in labels), _sorted(label.camera_id for label in labels)
    pids, camids = ({text: number for number, text in enumerate(texts)} for texts in (persons, cameras))
    asked, kept = _labelled(query, pids, camids), _labelled(gallery, pids, camids)
    return Sides(asked, kept, persons, cameras, query.names, gallery.names)


def _labelled(split: Split, persons: dict[str, int], cameras: dict[str, int]) -> Labelled:
    pids = np.array([persons[label.person_id] for label in split.labels], dtype=np.int64)
    camids = np.array([cameras[label.camera_id] for label in split.labels], dtype=np.int64)
    return Labelled(split.vectors, pids, camids)


def _sorted(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts))
