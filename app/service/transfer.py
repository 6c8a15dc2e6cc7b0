"""A collection as one tar archive, with its vectors, to be taken elsewhere; and back.

    reid-collection.json                      what it is: format, fingerprint, dim, keep_crops, retention
    00000/items.ndjson, vectors.npy, norms.npy, crops.npy     a thousand items a folder: a line, a unit vector float32, its
    00001/...                                                 raw norm; crops.npy: uint8 [256, 128, 3] of the items whose
                                                              places in the folder kept.npy tells
    end.json                                  how many items there were: an archive without it was cut short

Vectors of another model than the loaded one can be exported, and be imported where that model is loaded.
"""

import asyncio
import io
import itertools
import json
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from app.core.jobs import Job
from app.core.preprocess import Crop
from app.core.records import Collection, Item, Retention
from app.errors import BadInput, ForeignVectors, UnknownItem
from app.ports import Floats, GalleryStore
from app.service.datasets import Tell, below_roots
from app.service.galleries import Galleries, Pages
from app.service.labelled_gallery import there

HEAD, END = "reid-collection.json", "end.json"
_NAMES = {HEAD, END, "items.ndjson", "vectors.npy", "norms.npy", "kept.npy", "crops.npy"}
_FORMAT, _PART = 1, 1000
_MOST_HEAD, _MOST_LINES = 2**20, 2**28  # bytes: what a damaged or hostile archive may make us hold
_BLOCK = 2**18


class Transfer:
    """Export and import."""

    def __init__(self, galleries: Galleries, store: GalleryStore, roots: Sequence[Path]) -> None:
        self._galleries, self._store = galleries, store
        self._roots = [root.resolve() for root in roots]

    async def export(self, name: str) -> AsyncIterator[bytes]:
        """The archive in pieces. Raises UnknownCollection at once; items that come or go meanwhile may be in it or not."""
        described = await self._galleries.get(name)
        return self._archive(described.collection)

    async def check(self, archive: str) -> Path:
        """The archive's path. Raises Forbidden, BadInput, BadField."""
        path = below_roots(archive, self._roots, "archive")
        if not path.is_file():
            raise BadInput(f"there is no archive {archive!r}")
        return path

    async def job(self, job: Job, report: Tell) -> dict[str, Any]:
        """Import; params: collection, archive. What is there already, unchanged, stays. Raises what `check` raises,
        ForeignVectors, BadInput where the archive is none or damaged: what was read before stays.
        """
        name, archive = job.params["collection"], job.params["archive"]
        path = await self.check(archive)
        return await asyncio.to_thread(self._import, name, path, report, asyncio.get_running_loop())

    async def _archive(self, collection: Collection) -> AsyncIterator[bytes]:
        yield _entry(HEAD, json.dumps(_head(collection), indent=2).encode())
        part, count, pages = 0, 0, Pages(self._store, collection.name, _PART)
        while items := await asyncio.to_thread(pages.following):
            for piece in await asyncio.to_thread(self._part, collection, part, items):
                yield piece
            part, count = part + 1, count + len(items)
        yield _entry(END, json.dumps({"items": count}).encode()) + bytes(2 * tarfile.BLOCKSIZE)

    def _part(self, collection: Collection, part: int, items: list[Item]) -> list[bytes]:
        kept_items, vectors, norms = there(self._store, collection.name, items)
        lines = "".join(json.dumps(_as_json(item)) + "\n" for item in kept_items).encode()
        files = {"items.ndjson": lines, "vectors.npy": _npy(vectors), "norms.npy": _npy(norms)}
        if collection.keep_crops:
            crops = [self._crop(collection.name, item.id) for item in kept_items]
            kept = [i for i, crop in enumerate(crops) if crop is not None]
            files["kept.npy"] = _npy(np.array(kept, dtype=np.int64))
            files["crops.npy"] = _npy(np.array([crops[i] for i in kept], dtype=np.uint8))
        return [_entry(f"{part:05}/{name}", content) for name, content in files.items()]

    def _crop(self, name: str, item_id: str) -> Crop | None:
        with suppress(UnknownItem):  # removed meanwhile
            return self._store.crop(name, item_id)
        return None

    def _import(self, name: str, path: Path, report: Tell, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        counts = {"added": 0, "unchanged": 0, "updated": 0}
        with path.open("rb") as file:
            size = path.stat().st_size
            entries = _entries(file)
            head = _read_head(next(entries, None))
            put = self._galleries.put(name, head["keep_crops"] or None, None)
            if asyncio.run_coroutine_threadsafe(put, loop).result()[1]:  # one that was there has its own days
                self._store.keep(name, head["retention"])
            usable = asyncio.run_coroutine_threadsafe(self._galleries.usable(name), loop).result()
            if head["fingerprint"] != usable.fingerprint:
                raise ForeignVectors(usable.fingerprint, head["fingerprint"])
            ended = False
            for part in _parts(entries):
                if ended := END in part:
                    break
                for items, vectors, crops in _rows(part, usable):
                    for outcome in self._store.upsert(name, items, vectors, crops):
                        counts[outcome] += 1
                report(file.tell(), size, f"{sum(counts.values())} items")
        if not ended:
            raise BadInput(f"the archive was cut short: its last part is missing; {sum(counts.values())} items came in")
        return {"collection": name, "results": counts}


def _head(collection: Collection) -> dict[str, Any]:
    kept = asdict(collection.retention)
    shown = {"fingerprint": collection.fingerprint, "dim": collection.dim, "keep_crops": collection.keep_crops}
    return {"format": _FORMAT, **shown, "retention": kept}


def _as_json(item: Item) -> dict[str, Any]:
    captured_at = None if item.captured_at is None else item.captured_at.isoformat()
    return {**asdict(item), "attributes": dict(item.attributes), "captured_at": captured_at}


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _entry(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _entries(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The plain files of an archive, one after another. Raises BadInput."""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_BLOCK) as archive:
            for info in archive:
                known = info.isreg() and info.name.rpartition("/")[2] in _NAMES
                content = archive.extractfile(info) if known else None
                if content is None:
                    continue
                if info.size > _MOST_LINES:
                    raise BadInput(f"{info.name}: {info.size} bytes; an exported collection has none so large")
                yield info.name, content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadInput(f"the archive is damaged: {error}") from error


def _read_head(first: tuple[str, bytes] | None) -> dict[str, Any]:
    if first is None or first[0] != HEAD:
        raise BadInput(f"this is no exported collection: it does not begin with {HEAD}")
    try:
        head: dict[str, Any] = json.loads(first[1])
        if head["format"] != _FORMAT:
            raise BadInput(f"the archive has format {head['format']!r}; this version reads {_FORMAT}")
        kept = Retention(**head["retention"])
        return {
            "fingerprint": str(head["fingerprint"]),
            "keep_crops": bool(head["keep_crops"]),
            "retention": Retention(kept.keep_days, kept.cameras),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{HEAD} cannot be read: {error}") from error


def _parts(entries: Iterator[tuple[str, bytes]]) -> Iterator[dict[str, bytes]]:
    """The files of one folder together."""
    folder, files = "", dict[str, bytes]()
    for name, content in entries:
        at, _, file = name.rpartition("/")
        if at != folder and files:
            yield files
            files = {}
        folder, files[file] = at, content
    if files:
        yield files


def _rows(part: dict[str, bytes], collection: Collection) -> list[tuple[list[Item], Floats, list[Crop] | None]]:
    """Items, raw vectors and crops of a part, in order; apart where some have crops and others none. Raises BadInput."""
    try:
        items = [_item(json.loads(line)) for line in part["items.ndjson"].splitlines()]
        vectors = np.load(io.BytesIO(part["vectors.npy"]), allow_pickle=False)
        norms = np.load(io.BytesIO(part["norms.npy"]), allow_pickle=False)
        if vectors.shape != (len(items), collection.dim) or norms.shape != (len(items),):
            raise ValueError(f"{len(items)} items, vectors {vectors.shape}, norms {norms.shape}")
        raw = (vectors.astype(np.float64) * norms.astype(np.float64)[:, None]).astype(np.float32)
        if not (np.isfinite(raw).all() and raw.any(axis=1).all()):
            raise ValueError("a vector is not finite or has no direction")
        crops = _crops(part) if collection.keep_crops else {}
        runs = itertools.groupby(range(len(items)), key=lambda i: i in crops)
        chosen = [(list(run), kept) for kept, run in runs]
        return [([items[i] for i in run], raw[run], [crops[i] for i in run] if kept else None) for run, kept in chosen]
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise BadInput(f"the archive is damaged: {error}") from error


def _crops(part: dict[str, bytes]) -> dict[int, Crop]:
    """By the item's place."""
    if "crops.npy" not in part:
        return {}
    crops = np.load(io.BytesIO(part["crops.npy"]), allow_pickle=False)
    kept = np.load(io.BytesIO(part["kept.npy"]), allow_pickle=False)
    return dict(zip(kept.tolist(), crops, strict=True))


def _item(line: dict[str, Any]) -> Item:
    captured_at = None if line["captured_at"] is None else datetime.fromisoformat(line["captured_at"])
    texts = {name: line[name] for name in ("id", "sha256", "person_id", "camera_id", "source", "attributes")}
    return Item(**{**texts, "captured_at": captured_at})
