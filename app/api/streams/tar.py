"""The entries of a tar (ustar, pax, GNU), as it comes in.

The standard library reads the headers. Its `TarFile` is not used: over a stream it takes a broken header in the middle for
the end, holds extended headers of any length, and needs a thread and a pipe. Nor is compression: crops are compressed
already, and a gzip bomb is a thousand times as long as what was sent.
"""

import functools
import tarfile
from collections.abc import AsyncIterator

from app.api.streams.cursor import Cursor
from app.api.streams.members import DIRECTORY, FILE, Member
from app.errors import BadArchive

_BLOCK = 512
_EXTENDED_BYTES = 64 * 1024  # of a pax header or a GNU long name
_SPARSE = tarfile.GNUTYPE_SPARSE
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XGLTYPE,
)
_KINDS = {
    tarfile.REGTYPE: FILE, tarfile.AREGTYPE: FILE, tarfile.CONTTYPE: FILE, tarfile.DIRTYPE: DIRECTORY, _SPARSE: "a sparse file",
}  # fmt: skip
_WITHOUT_DATA = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe", tarfile.DIRTYPE: DIRECTORY,
}  # fmt: skip


async def read_tar(cursor: Cursor) -> AsyncIterator[Member]:
    """Entry by entry. Raises BadArchive, naming the byte, for what is no tar, is broken or cut short."""
    extended: dict[str, str] = {}
    while any(block := await cursor.read(_BLOCK)):
        header = _header(block, cursor.at - _BLOCK)
        if header.type in _EXTENDED:
            extended |= await _extension(cursor, header)
            continue
        size = _size(extended.get("size", header.size), cursor.at)
        if header.type == _SPARSE:
            await _skip_sparse_map(cursor, block)
        kind = _WITHOUT_DATA.get(header.type) or _KINDS.get(header.type, f"an entry of type {header.type!r}")
        if any(key.startswith("GNU.sparse.") for key in extended):
            kind = "a sparse file"
        size = 0 if header.type in _WITHOUT_DATA else size
        start = cursor.at
        name = extended.get("path", header.name)
        yield Member(name, kind, size, functools.partial(_data, cursor, size))
        await cursor.skip(start + size + -size % _BLOCK - cursor.at)
        extended = {}
    await _expect_nothing_more(cursor)


async def _data(cursor: Cursor, size: int, _most: int) -> bytes:
    return await cursor.read(size)  # the size was looked at before


def _header(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if block.startswith(b"\x1f\x8b"):
            raise BadArchive(f"byte {at}: compressed with gzip; send what `gunzip -c` gives") from error
        raise BadArchive(f"byte {at}: no header of a tar entry ({error})") from error
    if header.size < 0:
        raise BadArchive(f"byte {at}: an entry of {header.size} bytes")
    return header


async def _extension(cursor: Cursor, header: tarfile.TarInfo) -> dict[str, str]:
    """What the entries before a file say of it: its `path`, its `size`."""
    at = cursor.at
    if header.size > _EXTENDED_BYTES:
        raise BadArchive(f"byte {at}: an extended header of {header.size} bytes; at most {_EXTENDED_BYTES} are read")
    data = await cursor.read(header.size)
    await cursor.skip(-header.size % _BLOCK)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    if header.type in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
        return {}  # a link is refused, whatever it leads to; a global header says nothing of a single file
    return dict(_records(data, at))


def _records(data: bytes, at: int) -> list[tuple[str, str]]:
    """Records of a pax header, each `length key=value` and a line's end."""
    records = []
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 2 < int(length) <= len(data):
            raise BadArchive(f"byte {at}: a broken extended header")
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        key, _, value = record.decode("utf-8", "surrogateescape").partition("=")
        records.append((key, value))
    return records


def _size(given: str | int, at: int) -> int:
    text = str(given)
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise BadArchive(f"byte {at}: an entry of {text[:40]!r} bytes")
    return int(text)


async def _skip_sparse_map(cursor: Cursor, block: bytes) -> None:
    """A GNU sparse file's map goes on in blocks behind its header, each of which says whether one more follows."""
    more = block[482]
    while more:
        more = (await cursor.read(_BLOCK))[504]


async def _expect_nothing_more(cursor: Cursor) -> None:
    while chunk := await cursor.some():
        if any(chunk):
            raise BadArchive(f"more follows the end of the archive, before byte {cursor.at}: nothing of that was read")
