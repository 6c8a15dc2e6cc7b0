"""Items go when they have stayed for as long as their collection keeps them."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from app.core.records import Retention
from app.errors import ReidError, UnknownCollection
from app.ports import GalleryStore

log = logging.getLogger(__name__)
EVERY_S = 3600.0  # days are counted, so that an hour more is little


class Sweeper:
    """Looks through all collections now and then, from the start on."""

    def __init__(self, store: GalleryStore, clock: Callable[[], datetime], every_s: float = EVERY_S) -> None:
        self._store, self._clock, self._every_s = store, clock, every_s
        self._expired = 0
        self._last: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """End, after the sweep that is going on."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> int:
        """Remove what has stayed long enough, in all collections; returns how much."""
        now = self._clock()
        count = await asyncio.shield(asyncio.to_thread(self._sweep, now))
        self._expired, self._last = self._expired + count, now
        return count

    def as_json(self) -> dict[str, Any]:
        """Items that went since the start, and when it looks again."""
        following = None if self._last is None else self._last + timedelta(seconds=self._every_s)
        return {
            "expired": self._expired,
            "last_sweep": None if self._last is None else self._last.isoformat(),
            "next_sweep": None if following is None else following.isoformat(),
        }

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except ReidError as error:  # a full disk, say: the next sweep tries again
                log.error("items whose time is over could not be removed: %s", error)
            await asyncio.sleep(self._every_s)

    def _sweep(self, now: datetime) -> int:
        count = 0
        for collection in self._store.collections():
            if collection.retention != Retention():
                with suppress(UnknownCollection):  # deleted meanwhile
                    count += self._store.expire(collection.name, now)
        if count:
            log.info("%d items were removed: their time was over", count)
        return count
