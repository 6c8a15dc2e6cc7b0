"""Labelled folders below the allowed roots: found, listed, and embedded through the serving path."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.core.records import NamedFiles, NamePattern, label_files, require_labels
from app.core.splits import Split, SplitCounts, without_background
from app.errors import BadField, BadImage, BadInput, Forbidden, ReidError
from app.ports import Floats
from app.service.embed import Embedding, Upload

QUERY, GALLERY = "query", "bounding_box_test"
_IN_FLIGHT = 16
Tell = Callable[[int, int, str], None]  # done, of how many, at what


@dataclass(slots=True)
class Count:
    """Crops embedded so far, told to whoever watches."""

    total: int
    tell: Tell
    done: int = 0

    def one_more(self) -> None:
        """Another crop is through."""
        self.done += 1
        self.tell(self.done, self.total, "embedding")


def below_roots(path: str, roots: Sequence[Path], what: str = "folder") -> Path:
    """A path of a caller's, resolved, links included, before it is compared with the roots; it need not be there.

    Raises Forbidden outside them, BadInput for what can be no path.
    """
    if "\0" in path:
        raise BadField(what, "holds a zero byte")
    try:
        resolved = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise BadInput(f"there is no {what} {path!r}") from error
    if not any(resolved.is_relative_to(root) for root in roots):
        named = ", ".join(map(str, roots)) or "none is set"
        raise Forbidden(f"{what} {path!r} is not below REID_DATA_ROOTS ({named})")
    return resolved


def find_data_set(path: str, roots: Sequence[Path]) -> Path:
    """The folder that holds both splits. Raises what `below_roots` raises, BadInput where there is none."""
    resolved = below_roots(path, roots)
    try:
        root = _with_splits(resolved)
    except OSError as error:
        raise BadInput(f"folder {path!r} cannot be read: {error.strerror}") from error
    if root is None:
        raise BadInput(f"{path!r} is no folder with {QUERY} and {GALLERY} in it")
    return root


def list_split(folder: Path, pattern: NamePattern, ask_for: bool) -> NamedFiles:
    """The pictures of a folder itself; links and subfolders are not followed, only counted.

    ask_for: these are queries, and background, which is nobody, is junk among them.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise BadInput(f"folder {folder.name!r} cannot be read: {error.strerror}") from error
    files = label_files((entry.name for entry in entries if entry.is_file() and not entry.is_symlink()), pattern)
    require_labels(files)
    others = tuple(entry.name for entry in entries if not entry.is_file() or entry.is_symlink())
    files = replace(files, skipped=(*files.skipped, *others))
    return without_background(files, pattern) if ask_for else files


async def embed_split(embedding: Embedding, folder: Path, files: NamedFiles, count: Count) -> tuple[Split, SplitCounts]:
    """The vectors of the labelled pictures. Raises BadInput where none could be embedded."""
    in_flight = asyncio.Semaphore(_IN_FLIGHT)

    async def one(name: str) -> Floats | ReidError:
        async with in_flight:
            try:
                data = await asyncio.to_thread(_read, folder / name, embedding.max_bytes + 1)
            except OSError as error:
                return BadImage(f"{name}: cannot be read: {error.strerror}")
            answer = await embedding.try_one(Upload(name, data))
            count.one_more()
            return answer if isinstance(answer, ReidError) else answer[1]

    vectors = await asyncio.gather(*(one(name) for name, _ in files.labelled))
    return split_of(files, vectors, f"{folder.parent.name}/{folder.name}")


def split_of(files: NamedFiles, vectors: Sequence[Floats | ReidError], called: str) -> tuple[Split, SplitCounts]:
    """The labelled names with their vectors; names whose pictures were refused are left out, and counted."""
    rows = list(zip(files.labelled, vectors, strict=True))
    good = [(name, label, vector) for (name, label), vector in rows if not isinstance(vector, ReidError)]
    if not good:
        raise BadInput(f"no picture in {called} could be embedded")
    refused = tuple(str(vector) for vector in vectors if isinstance(vector, ReidError))
    counts = SplitCounts(len(good), len(files.junk), len(files.skipped) + len(files.unlabelled), refused)
    names, labels, numbers = zip(*good, strict=True)
    return Split(np.stack(numbers), labels, names), counts


def _with_splits(folder: Path) -> Path | None:
    """This folder, or one below it, since some archives nest once. Links do not lead out."""
    if not folder.is_dir():
        return None
    for root in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        splits = (root / QUERY, root / GALLERY)
        if all(split.is_dir() and split.resolve().is_relative_to(folder) for split in splits):
            return root
    return None


def _read(file: Path, most: int) -> bytes:
    """A file's first bytes: one more than allowed is enough to refuse it."""
    with file.open("rb") as opened:
        return opened.read(most)
