"""The entries of a zip, as it comes in, by the headers that stand before them.

The directory at a zip's end is not waited for: so nothing is put on a disk, and results come while the archive does. The
price: an entry that is stored without its length before it cannot be read. Sizes and checksums are checked all the same.
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from app.api.streams.cursor import Cursor
from app.api.streams.members import DIRECTORY, FILE, Member, too_large
from app.errors import BadArchive, BadInput

_LOCAL, _DESCRIPTOR = b"PK\3\4", b"PK\7\x08"
_AFTER = (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\x08")  # the directory, its end, and what may stand before them
_END, _END_BYTES, _COMMENT_BYTES = b"PK\5\6", 22, 65535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x2041, 0x8, 0x800  # flags [APPNOTE.TXT 4.4.4]
_IN_EXTRA = 0xFFFFFFFF
_PIECE = 2**20  # inflated at once: a piece of 64 kB may hold 64 MB
_BOMB_BYTES = 2**28  # inflated of one entry whose length nothing tells


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    wide: bool  # lengths of eight bytes (zip64)

    @property
    def sizes_follow(self) -> bool:
        return bool(self.flags & _SIZES_FOLLOW)

    @property
    def open_ended(self) -> bool:
        """Whether nothing before the data tells where it ends."""
        return self.sizes_follow and not (self.packed and self.size)

    @property
    def kind(self) -> str:
        if self.name.endswith("/"):
            return DIRECTORY
        if self.flags & _ENCRYPTED:
            return "encrypted"
        return FILE if self.method in (_STORED, _DEFLATED) else f"compressed by method {self.method}"


async def read_zip(cursor: Cursor, bomb_bytes: int = _BOMB_BYTES) -> AsyncIterator[Member]:
    """Entry by entry. bomb_bytes: how far one whose length nothing tells is inflated.

    Raises BadArchive, naming the byte, for what is no zip, is broken or cut short.
    """
    count = 0
    while (signature := await cursor.read(4)) == _LOCAL:
        entry = _Entry(cursor, await _header(cursor), bomb_bytes)
        yield entry.member
        await entry.finish()
        count += 1
    if signature not in _AFTER:
        raise BadArchive(f"byte {cursor.at - 4}: no header of a zip entry")
    await _check_directory(cursor, signature, count)


class _Entry:
    """One entry's data, read or skipped, once."""

    def __init__(self, cursor: Cursor, header: _Header, bomb_bytes: int) -> None:
        self._cursor, self._header, self._bomb_bytes = cursor, header, bomb_bytes
        self._end = cursor.at + header.packed  # where nothing else tells it
        self._begun = self._ended = False
        size = None if header.open_ended else header.size
        self.member = Member(header.name, header.kind, size, self._read)

    async def finish(self) -> None:
        """Go on behind the entry, whatever was read of it."""
        if self._header.open_ended:
            if not self._begun:
                await self._to_its_end()
        elif not self._ended:
            await self._cursor.skip(self._end - self._cursor.at)
            if self._header.sizes_follow:
                await _descriptor(self._cursor, self._header.wide)

    async def _read(self, most: int) -> bytes:
        self._begun, header = True, self._header
        if header.open_ended:
            return await self._to_its_end(most)
        if header.method == _STORED and header.packed != header.size:
            raise BadInput(f"{header.name}: says it has {header.size} bytes, and takes {header.packed}")
        data = await (self._inflated() if header.method == _DEFLATED else self._cursor.read(header.size))
        if header.sizes_follow:
            await self._cursor.skip(self._end - self._cursor.at)
            crc, _ = await _descriptor(self._cursor, header.wide)
            self._header = header = replace(header, crc=crc)
            self._ended = True
        return self._checked(data, header.crc, header.size)

    async def _inflated(self) -> bytes:
        """The data of an entry that says how long it is, packed and unpacked; not a byte more than that."""
        inflater, data = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
        most = self._header.size + 1
        while (left := self._end - self._cursor.at) and len(data) < most and not inflater.eof:
            packed = await self._cursor.read(min(left, 65536))
            try:
                data += await asyncio.to_thread(inflater.decompress, packed, most - len(data))
            except zlib.error as error:
                raise BadInput(f"{self._header.name}: cannot be inflated ({error})") from error
        return bytes(data)

    async def _to_its_end(self, most: int | None = None) -> bytes:
        """Data whose length nothing tells: inflating it tells. Raises TooLarge when it is more than wanted (None: none is)."""
        header = self._header
        if header.method != _DEFLATED or header.flags & _ENCRYPTED:
            return await self._nothing()
        inflater, data, size, crc = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), 0, 0
        packed = b""
        while not inflater.eof:
            packed = inflater.unconsumed_tail or await self._some()
            try:
                piece = await asyncio.to_thread(inflater.decompress, packed, _PIECE)
            except zlib.error as error:
                raise BadArchive(
                    f"{header.name}: cannot be inflated, and nothing tells where it ends ({error})"
                ) from error
            size, crc = size + len(piece), zlib.crc32(piece, crc)
            if size > self._bomb_bytes:
                raise BadArchive(f"{header.name}: inflates to more than {self._bomb_bytes} bytes")
            if most is not None and size <= most:
                data += piece
        self._cursor.back(inflater.unused_data)
        told, told_size = await _descriptor(self._cursor, header.wide)
        if most is None:
            return b""
        if size > most:
            raise too_large(header.name, size, most)
        return self._checked(bytes(data), told, told_size)

    async def _some(self) -> bytes:
        if chunk := await self._cursor.some():
            return chunk
        raise BadArchive(f"the archive is cut short: it ends at byte {self._cursor.at}, within {self._header.name}")

    async def _nothing(self) -> bytes:
        """A stored entry whose length stands behind it can only be read where it is empty: then that follows at once."""
        if (found := await self._cursor.read(4)) == _DESCRIPTOR:
            self._cursor.back(found)
            if await _descriptor(self._cursor, self._header.wide) == (0, 0):
                return b""
        raise BadArchive(
            f"{self._header.name}: its length stands behind it, and only inflating would tell where that is; "
            "write the zip to a file, not to a pipe, or send a tar"
        )

    def _checked(self, data: bytes, crc: int, size: int) -> bytes:
        if len(data) != size:
            more = "more" if len(data) > size else f"{len(data)}"
            raise BadInput(f"{self._header.name}: says it has {size} bytes, and has {more}")
        if zlib.crc32(data) != crc:
            raise BadInput(f"{self._header.name}: its checksum does not fit its bytes")
        return data


async def _header(cursor: Cursor) -> _Header:
    fields = struct.unpack("<HHHHHIIIHH", await cursor.read(26))
    _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
    name = (await cursor.read(name_length)).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    wide = _zip64(await cursor.read(extra_length))
    if wide is not None:
        numbers = iter(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
        size = next(numbers, size) if size == _IN_EXTRA else size
        packed = next(numbers, packed) if packed == _IN_EXTRA else packed
    return _Header(name, flags, method, crc, packed, size, wide is not None)


def _zip64(extra: bytes) -> bytes | None:
    """The field of the extra ones that holds lengths of eight bytes."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return None


async def _descriptor(cursor: Cursor, wide: bool) -> tuple[int, int]:
    """Checksum and length of the entry before it; its signature is optional."""
    first = await cursor.read(4)
    if first == _DESCRIPTOR:
        first = await cursor.read(4)
    _, size = struct.unpack("<QQ" if wide else "<II", await cursor.read(16 if wide else 8))
    return struct.unpack("<I", first)[0], size


async def _check_directory(cursor: Cursor, tail: bytes, count: int) -> None:
    """The directory says how many entries there are: fewer of them came where one was left out."""
    while chunk := await cursor.some():
        tail = (tail + chunk)[-_END_BYTES - _COMMENT_BYTES :]
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise BadArchive(f"the archive is cut short: it ends at byte {cursor.at}, within its directory")
    (told,) = struct.unpack("<H", tail[place + 10 : place + 12])
    if told not in (count % 65536, 0xFFFF):  # 0xFFFF: the number stands in the zip64 record
        raise BadArchive(f"the archive's directory tells of {told} entries, {count} came")
