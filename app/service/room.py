"""A number of bytes that many share. Whoever needs more waits until others have given theirs back."""

import asyncio


class Room:
    """Bytes to be held at once; first come, first served. Something larger than all of it is let in alone."""

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most
        self._turn = asyncio.Lock()  # one waits for room at a time, so that small ones do not keep a large one out
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait until there is room for so many bytes, and take it."""
        async with self._turn:
            while self.held and self.held + size > self._most:
                self._freed.clear()
                await self._freed.wait()
            self.held += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.held -= size
        self._freed.set()
