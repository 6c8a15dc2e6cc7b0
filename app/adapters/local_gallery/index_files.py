"""Codes on disk, so that a start need not make them anew: whole or absent, and believed only as far as the database agrees.

A file is one segment's codes with its rows' sequence numbers and revisions. It is named after the collection and its own
content; what does not fit its checksum is thrown away.
"""

import hashlib
import json
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.adapters.local_gallery.codes import CodeIndex
from app.adapters.local_gallery.segment import Segment, Sequences
from app.files import whole_file

log = logging.getLogger(__name__)
FOLDER = "index"
_MAGIC = b"reidcod1"
_UNUSABLE = (OSError, ValueError, KeyError, struct.error)
_HEAD = struct.Struct("<8s32sI")  # what it is, sha256 of all behind, bytes of the header that follows


@dataclass(frozen=True, slots=True)
class StoredCodes:
    """What a file holds."""

    path: Path
    seqs: Sequences
    revisions: Sequences
    index: CodeIndex


class IndexFiles:
    """The folder of a data directory's index files."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / FOLDER

    def write(self, collection_id: int, segment: Segment) -> Path:
        """Put a coded segment's rows on disk, dead ones too. Raises OSError."""
        assert isinstance(segment.index, CodeIndex)
        arrays = {
            "seqs": segment.seqs.astype("<i8"),
            "revisions": segment.revisions.astype("<i8"),
            "ids": segment.index.ids.astype("<i8"),
            "codes": segment.index.stored(),
        }
        header = json.dumps({name: array.nbytes for name, array in arrays.items()}).encode()
        sha256 = hashlib.sha256(header)
        for array in arrays.values():
            sha256.update(array.data)
        path = self._folder / f"{collection_id}-{sha256.hexdigest()[:24]}.codes"
        if path.exists():
            return path
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with whole_file(path) as partial:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600)  # made here: readable by nobody else
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEAD.pack(_MAGIC, sha256.digest(), len(header)) + header)
                for array in arrays.values():
                    file.write(array.data)
        return path

    def read(self, collection_id: int, dim: int) -> Iterator[StoredCodes]:
        """What lies there for a collection, the largest first. A file that is not whole is removed."""
        paths = self._folder.glob(f"{collection_id}-*.codes")
        for path in sorted(paths, key=lambda path: (-path.stat().st_size, path.name)):
            try:
                stored = _read(path)
                if stored.index.dim != dim:
                    raise ValueError(f"vectors of {stored.index.dim} numbers, not {dim}")
            except _UNUSABLE as error:
                log.warning("the index file %s cannot be used and is made anew: %s", path.name, error)
                path.unlink(missing_ok=True)
            else:
                yield stored

    def keep(self, collection_id: int, kept: set[Path]) -> None:
        """Remove the collection's files but these. Raises OSError."""
        left = self._folder.glob(f".{collection_id}-*")  # half written, by a process that ended
        for path in (*self._folder.glob(f"{collection_id}-*"), *left):
            if path not in kept:
                path.unlink(missing_ok=True)

    def keep_collections(self, collection_ids: set[int]) -> None:
        """Remove the files of collections other than these. Raises OSError."""
        for path in self._folder.glob("*"):
            number = path.name.lstrip(".").partition("-")[0]
            if not number.isdigit() or int(number) not in collection_ids:
                path.unlink(missing_ok=True)


def read_all(directory: Path) -> Iterator[tuple[Path, Exception | None]]:
    """A data directory's index files, each with why it cannot be used. Nothing is changed."""
    for path in sorted((directory / FOLDER).glob("[0-9]*.codes")):
        try:
            _read(path)
            yield path, None
        except FileNotFoundError:  # replaced meanwhile
            continue
        except _UNUSABLE as error:
            yield path, error


def _read(path: Path) -> StoredCodes:
    whole = np.fromfile(path, dtype=np.uint8)
    magic, digest, length = _HEAD.unpack_from(whole.data)
    behind = whole[_HEAD.size :]
    if magic != _MAGIC or hashlib.sha256(behind.data).digest() != digest:
        raise ValueError("its checksum does not fit")
    sizes: dict[str, int] = json.loads(behind[:length].tobytes())
    parts, start = dict[str, np.ndarray](), length
    for name, size in sizes.items():
        parts[name] = behind[start : start + size]
        start += size
    seqs, revisions, ids = (np.frombuffer(parts[name].tobytes(), dtype="<i8") for name in ("seqs", "revisions", "ids"))
    return StoredCodes(path, seqs.astype(np.int64), revisions.astype(np.int64), CodeIndex.read(parts["codes"], ids))
