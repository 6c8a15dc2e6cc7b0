"""Streams for tests: bytes in chunks of any length, archives with whatever in them, and all that a reader makes of it."""

import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypeVar

from app.errors import ReidError

Entry = TypeVar("Entry")


async def chunked(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read_all(entries: AsyncIterator[Entry]) -> tuple[list[Entry], ReidError | None]:
    """All entries, and the refusal that ended them early."""
    found: list[Entry] = []
    try:
        async for entry in entries:
            found.append(entry)
    except ReidError as error:
        return found, error
    return found, None


def tar_of(
    files: Mapping[str, bytes], format: int = tarfile.PAX_FORMAT, extra: Iterable[tarfile.TarInfo] = ()
) -> bytes:
    """A tar with these files, then entries without data, as the standard library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in extra:
            archive.addfile(entry)
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, piped: bool = False) -> bytes:
    """A zip with these files; piped: written to something that cannot seek, so that lengths stand behind the data."""
    buffer: io.BytesIO = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Pipe(io.BytesIO):
    """A file that only goes forward."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("a pipe")
