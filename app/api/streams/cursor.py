"""The bytes of a stream in the pieces that its format is made of. Holds one piece and one chunk, never more."""

from collections.abc import AsyncIterator

from app.errors import BadArchive


class Cursor:
    """A place in a stream. Raises BadArchive, naming the place, where the stream ends too early."""

    def __init__(self, chunks: AsyncIterator[bytes], what: str) -> None:
        """what: names the stream in sentences, such as "archive"."""
        self.at = 0  # bytes read so far
        self._chunks, self._what = chunks, what
        self._held = bytearray()

    async def some(self) -> bytes:
        """The next bytes, as many as there are at hand; b"" at the end."""
        if not self._held and not await self._fill():
            return b""
        return self._taken(len(self._held))

    async def read(self, size: int) -> bytes:
        """Exactly so many."""
        while len(self._held) < size:
            if not await self._fill():
                end = self.at + len(self._held)
                raise BadArchive(
                    f"the {self._what} is cut short: it ends at byte {end}, {size} were due from {self.at}"
                )
        return self._taken(size)

    async def skip(self, size: int) -> None:
        """Leave so many out, without holding them."""
        while size > len(self._held):
            size -= len(self._held)
            self._taken(len(self._held))
            if not await self._fill():
                raise BadArchive(
                    f"the {self._what} is cut short: it ends at byte {self.at}, {size} before an entry's end"
                )
        self._taken(size)

    async def line(self, most: int) -> bytes | None:
        """The next line without its end, None behind the last. Of one that is longer than `most`, the first `most` + 1."""
        line, searched = b"", 0
        while (end := self._held.find(b"\n", searched)) < 0:
            searched = len(self._held)
            if searched > most:  # nobody wants the rest
                line = line or bytes(self._held[: most + 1])
                self._taken(searched)
                searched = 0
            if not await self._fill():
                rest = self._taken(len(self._held))
                return line or rest or None
        rest = self._taken(end + 1)[:-1]
        return line or rest[: most + 1]

    def back(self, data: bytes) -> None:
        """Put back what was read too far."""
        self._held[:0] = data
        self.at -= len(data)

    async def _fill(self) -> bool:
        data = await anext(self._chunks, b"")
        self._held += data
        return bool(data)

    def _taken(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        self.at += size
        return data
