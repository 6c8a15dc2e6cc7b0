"""The accuracy number: a labelled folder through the serving path, ranked exactly, reported by named protocol."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.core.metrics import Report
from app.core.records import NamedFiles, NamePattern, label_files, require_labels
from app.core.splits import Split, SplitCounts, rank, without_background
from app.errors import BadField, BadImage, BadInput, Forbidden, ReidError
from app.ports import Floats
from app.service.embed import Embedding, Upload
from app.service.stages import Stages

QUERY, GALLERY = "query", "bounding_box_test"
_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Reports by protocol, and what they rest on."""

    folder: str
    protocols: dict[str, Report]
    query: SplitCounts
    gallery: SplitCounts


@dataclass(slots=True)
class Progress:
    """Crops embedded so far and crops to embed, of all evaluations that run."""

    running: int = 0
    done: int = 0
    total: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """While one evaluation runs; the counts begin anew after the last."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self.done = self.total = 0


class Evaluate:
    """Evaluates folders below the allowed roots."""

    def __init__(self, embedding: Embedding, roots: Sequence[Path]) -> None:
        self._embedding = embedding
        self.progress = Progress()
        self._roots = [root.resolve() for root in roots]

    async def folder(self, path: str, pattern: str, stages: Stages) -> Evaluation:
        """Evaluate `query/` against `bounding_box_test/` below the folder by the `instance` protocol.

        Raises Forbidden outside the roots, BadInput for a folder without the two, or in which no name or picture is usable.
        """
        names = NamePattern(pattern)
        root = self._find(path)
        with stages.measure("embed"), self.progress.one():
            asked = await asyncio.to_thread(_list, root / QUERY, names, ask_for=True)
            kept = await asyncio.to_thread(_list, root / GALLERY, names, ask_for=False)
            self.progress.total += len(asked.labelled) + len(kept.labelled)
            query, query_counts = await self._embed_folder(root / QUERY, asked)
            gallery, gallery_counts = await self._embed_folder(root / GALLERY, kept)
        with stages.measure("rank"):
            protocols = await asyncio.to_thread(rank, query, gallery)
        return Evaluation(root.name, protocols, query_counts, gallery_counts)

    def _find(self, path: str) -> Path:
        """The data set's folder, resolved, links included, before it is compared with the roots."""
        if "\0" in path:
            raise BadField("folder", "holds a zero byte")
        try:
            resolved = Path(path).resolve()
        except (OSError, RuntimeError) as error:  # a name too long, a loop of links
            raise BadInput(f"there is no folder {path!r}") from error
        if not any(resolved.is_relative_to(root) for root in self._roots):
            named = ", ".join(map(str, self._roots)) or "none is set"
            raise Forbidden(f"folder {path!r} is not below REID_DATA_ROOTS ({named})")
        try:
            root = _data_set(resolved)
        except OSError as error:
            raise BadInput(f"folder {path!r} cannot be read: {error.strerror}") from error
        if root is None:
            raise BadInput(f"{path!r} is no folder with {QUERY} and {GALLERY} in it")
        return root

    async def _embed_folder(self, folder: Path, files: NamedFiles) -> tuple[Split, SplitCounts]:
        in_flight = asyncio.Semaphore(_IN_FLIGHT)
        vectors = await asyncio.gather(*(self._vector(folder / name, in_flight) for name, _ in files.labelled))
        rows = list(zip(vectors, (label for _, label in files.labelled), strict=True))
        good = [(vector, label) for vector, label in rows if not isinstance(vector, ReidError)]
        if not good:
            raise BadInput(f"no picture in {folder.parent.name}/{folder.name} could be embedded")
        refused = tuple(str(vector) for vector in vectors if isinstance(vector, ReidError))
        counts = SplitCounts(len(good), len(files.junk), len(files.skipped) + len(files.unlabelled), refused)
        return Split(np.stack([vector for vector, _ in good]), [label for _, label in good]), counts

    async def _vector(self, file: Path, in_flight: asyncio.Semaphore) -> Floats | ReidError:
        async with in_flight:
            try:
                data = await asyncio.to_thread(_read, file, self._embedding.max_bytes + 1)
            except OSError as error:
                return BadImage(f"{file.name}: cannot be read: {error.strerror}")
            upload = Upload(file.name, data)
            answer = await self._embedding.try_one(upload)
            self.progress.done += 1
        return answer if isinstance(answer, ReidError) else answer[1]


def _data_set(folder: Path) -> Path | None:
    """The folder that holds both splits: this one, or one below it, since some archives nest once. Links do not lead out."""
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


def _list(folder: Path, pattern: NamePattern, ask_for: bool) -> NamedFiles:
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
