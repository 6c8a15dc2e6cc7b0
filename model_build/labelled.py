"""Labelled pictures on which two variants are compared: a folder's `query/` and `bounding_box_test/`, or drawn people."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.core.records import Label, NamePattern, label_files, require_labels
from app.core.splits import without_background
from app.demo.dataset import DEMO, Recipe, draw_dataset
from app.errors import BadInput

QUERY, GALLERY = "query", "bounding_box_test"
DRAWN, FOLDER = "drawn people", "a labelled folder"  # as the manifest calls them; a folder's name may say too much


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with its label; asked: a query, else of the gallery. `read` gives the encoded bytes."""

    name: str
    label: Label
    asked: bool
    read: Callable[[], bytes]


def drawn(recipe: Recipe = DEMO) -> list[Example]:
    """The demo's people. Another Pillow may draw other bytes; the manifest keeps a hash of what was compared."""
    return [
        Example(crop.name, Label(str(crop.person), str(crop.camera)), crop.split == QUERY, partial(bytes, crop.jpeg))
        for crop in draw_dataset(recipe)
    ]


def in_folder(folder: Path, pattern: str = "auto") -> list[Example]:
    """A folder's, labelled by their names. Raises BadInput for one without both splits or labels, BadField."""
    names = NamePattern(pattern)
    return [*_split(folder / QUERY, names, asked=True), *_split(folder / GALLERY, names, asked=False)]


def _split(folder: Path, pattern: NamePattern, asked: bool) -> list[Example]:
    try:
        files = label_files((entry.name for entry in folder.iterdir() if entry.is_file()), pattern)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be read ({error.strerror}); a labelled folder has {QUERY} and {GALLERY}"
        ) from error
    require_labels(files)
    if asked:
        files = without_background(files, pattern)
    if not files.labelled:
        raise BadInput(f"{folder} has no labelled pictures")
    return [Example(name, label, asked, partial(_read, folder / name)) for name, label in files.labelled]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
