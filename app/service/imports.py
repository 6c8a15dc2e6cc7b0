"""A folder below the allowed roots into a collection, as a job: what is stored already is not embedded again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.jobs import Job
from app.core.records import Label, NamedFiles, NamePattern, label_files, require_labels
from app.errors import BadInput
from app.service.datasets import Tell, below_roots
from app.service.embed import Upload
from app.service.galleries import Galleries
from app.service.incoming import Description, New, NewCrop, Result, Unusable
from app.service.ingest import Ingest
from app.service.stages import Stages

_READ = 16  # files that are read at a time, in a thread
MOST_REFUSED = 200  # refusals that are told one by one; all are counted
Row = tuple[str, Label | None]


@dataclass(frozen=True, slots=True)
class ImportWish:
    """What to import. pattern: how names tell labels; None labels what is recognised and keeps the rest unlabelled."""

    collection: str
    folder: str
    pattern: str | None = None
    recursive: bool = False


@dataclass(slots=True)
class Tally:
    """What became of the crops so far."""

    total: int
    tell: Tell
    counts: Counter[str] = field(default_factory=lambda: Counter(added=0, unchanged=0, updated=0, refused=0))
    refused: list[dict[str, str]] = field(default_factory=list)

    async def take(self, results: Sequence[Result]) -> None:
        """Count results and tell."""
        for result in results:
            self.counts[result.status] += 1
            if result.error is not None and len(self.refused) < MOST_REFUSED:
                self.refused.append({"name": result.name, "detail": str(result.error)})
        self.tell(self.counts.total(), self.total, "indexing")


class Imports:
    """Folders, by the way that all crops go in."""

    def __init__(self, ingest: Ingest, galleries: Galleries, roots: Sequence[Path], max_bytes: int) -> None:
        """max_bytes: of one picture; more is not read."""
        self._ingest, self._galleries, self._max_bytes = ingest, galleries, max_bytes
        self._roots = [root.resolve() for root in roots]

    async def check(self, wish: ImportWish) -> None:
        """What can be told before the work. Raises Forbidden, BadInput, BadField, UnknownCollection, FingerprintMismatch."""
        self._folder(wish)
        NamePattern(wish.pattern or "auto")
        await self._galleries.usable(wish.collection)

    async def job(self, job: Job, report: Tell) -> dict[str, Any]:
        """Import; params are a wish's fields. What was acknowledged stays, whatever happens."""
        wish = ImportWish(**job.params)
        await self.check(wish)
        folder = self._folder(wish)
        files = await asyncio.to_thread(_listed, folder, wish)
        rows: list[Row] = [*files.labelled, *((name, None) for name in files.unlabelled if wish.pattern is None)]
        tally = Tally(len(rows), report)
        await self._ingest.add(wish.collection, self._crops(folder, rows), tally.take, Stages())
        unlabelled = len(files.unlabelled)
        return {
            "collection": wish.collection,
            "results": dict(tally.counts),
            "labelled": len(files.labelled),
            "unlabelled": unlabelled if wish.pattern is None else 0,
            "junk": len(files.junk),
            "skipped": len(files.skipped) + (0 if wish.pattern is None else unlabelled),
            "refused": tally.refused,
        }

    async def _crops(self, folder: Path, rows: Sequence[Row]) -> AsyncIterator[New]:
        for start in range(0, len(rows), _READ):
            for crop in await asyncio.to_thread(_read, folder, rows[start : start + _READ], self._max_bytes + 1):
                yield crop

    def _folder(self, wish: ImportWish) -> Path:
        folder = below_roots(wish.folder, self._roots)
        if not folder.is_dir():
            raise BadInput(f"there is no folder {wish.folder!r}")
        return folder


def _listed(folder: Path, wish: ImportWish) -> NamedFiles:
    """The pictures by name, in the order of their names; links are not followed."""
    try:
        entries = sorted(folder.rglob("*") if wish.recursive else folder.iterdir())
    except OSError as error:
        raise BadInput(f"folder {wish.folder!r} cannot be read: {error.strerror}") from error
    names = (entry.relative_to(folder).as_posix() for entry in entries if entry.is_file() and not entry.is_symlink())
    files = label_files(names, NamePattern(wish.pattern or "auto"))
    if wish.pattern is not None:
        require_labels(files)
    if not files.labelled and not files.unlabelled:
        raise BadInput(f"no pictures in {wish.folder!r} ({len(files.skipped)} other files)")
    return files


def _read(folder: Path, rows: Sequence[Row], most: int) -> list[New]:
    return [_one(folder, name, label, most) for name, label in rows]


def _one(folder: Path, name: str, label: Label | None, most: int) -> New:
    """A file as a crop: one byte more than is allowed is enough to refuse it."""
    said = Description(person_id=label.person_id, camera_id=label.camera_id) if label else Description()
    try:
        with (folder / name).open("rb") as file:
            return NewCrop(Upload(name, file.read(most)), said)
    except OSError as error:
        return Unusable(name, BadInput(f"{name}: cannot be read: {error.strerror}"))
