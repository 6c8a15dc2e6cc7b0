"""Collections and their items: made, shown, removed; and the rule that vectors of two models never meet."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from app.core.preprocess import Crop
from app.core.records import Collection, Filter, IndexFacts, Item, Retention
from app.errors import BadField, FingerprintMismatch, UnknownCollection, UnknownItem
from app.ports import GalleryStore

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Described:
    """A collection, how many items it holds, and what answers its searches."""

    collection: Collection
    items: int
    index: IndexFacts


def check_name(name: str, field: str = "collection") -> None:
    """Raises BadField, for that field, where no collection can have the name."""
    if not _NAME.fullmatch(name):
        raise BadField(
            field, f"{name!r}: 1 to 64 of letters, digits, '.', '_', '-', beginning with one of the first two"
        )


class Pages:
    """A collection's items, page by page in the order added, whatever is removed meanwhile.

    Where all of the last ten pages are removed at once, items before them may come again.
    """

    def __init__(self, store: GalleryStore, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._read: deque[str] = deque(maxlen=10 * size)

    def following(self) -> list[Item]:
        """The next page; empty at the end."""
        for after in (*reversed(self._read), None):
            with suppress(UnknownItem):
                items = self._store.scan(self._name, Filter(), after, self._size)
                self._read.extend(item.id for item in items)
                return items
        raise RuntimeError("there is always a beginning")


class Galleries:
    """Everything about collections that needs no model."""

    def __init__(self, store: GalleryStore, fingerprint: str, dim: int, clock: Callable[[], datetime]) -> None:
        self._store, self._fingerprint, self._dim, self._clock = store, fingerprint, dim, clock

    async def put(
        self, name: str, keep_crops: bool | None, retention: Retention | None = None
    ) -> tuple[Described, bool]:
        """Create a collection for the loaded model, or find it; and whether it was created.

        Raises BadField for a name that cannot be one, or for other settings than those of the collection that is there.
        """
        check_name(name)
        kept = Retention() if retention is None else retention
        wanted = Collection(name, self._fingerprint, self._dim, bool(keep_crops), self._clock(), kept)
        stored = await asyncio.to_thread(self._store.put_collection, wanted)
        if keep_crops is not None and stored.keep_crops != keep_crops:
            raise BadField(
                "keep_crops", f"collection {name!r} was made with {str(stored.keep_crops).lower()} and keeps it"
            )
        if retention is not None and stored.retention != retention:
            raise BadField("keep_days", f"collection {name!r} is there with other days; PATCH changes them")
        return await self._describe(stored), stored == wanted  # another caller's has another instant

    async def get(self, name: str) -> Described:
        """One collection."""
        return await self._describe(await asyncio.to_thread(self._store.collection, name))

    async def all(self) -> list[Described]:
        """All collections, by name; one that is deleted meanwhile is left out."""
        described = []
        for collection in await asyncio.to_thread(self._store.collections):
            with suppress(UnknownCollection):
                described.append(await self._describe(collection))
        return described

    async def keep(self, name: str, retention: Retention) -> Described:
        """Change how long items stay."""
        return await self._describe(await asyncio.to_thread(self._store.keep, name, retention))

    async def delete(self, name: str) -> None:
        """Remove a collection with everything in it."""
        await asyncio.to_thread(self._store.delete_collection, name)

    async def usable(self, name: str) -> Collection:
        """The collection, if the loaded model's vectors may be compared with its own. Raises FingerprintMismatch."""
        collection = await asyncio.to_thread(self._store.collection, name)
        if collection.fingerprint != self._fingerprint:
            raise FingerprintMismatch(name, collection.fingerprint, self._fingerprint)
        return collection

    async def item(self, name: str, item_id: str) -> Item:
        """One item. Raises UnknownItem."""
        (item,) = await asyncio.to_thread(self._store.get, name, [item_id])
        if item is None:
            raise UnknownItem(name, item_id)
        return item

    async def crop(self, name: str, item_id: str) -> Crop | None:
        """An item's kept crop, None where none was kept."""
        return await asyncio.to_thread(self._store.crop, name, item_id)

    async def page(self, name: str, where: Filter, after: str | None, limit: int) -> tuple[list[Item], str | None]:
        """A page of items in the order added, and the id to continue behind, None at the end."""
        if after is not None:
            await self.item(name, after)
        items = await asyncio.to_thread(self._store.scan, name, where, after, limit + 1)
        more = len(items) > limit
        return items[:limit], items[limit - 1].id if more else None

    async def remove(self, name: str, item_id: str) -> None:
        """Remove one item. Raises UnknownItem."""
        if not await asyncio.to_thread(self._store.delete, name, Filter(ids=frozenset({item_id}))):
            raise UnknownItem(name, item_id)

    async def remove_all(self, name: str, where: Filter) -> int:
        """Remove the items that the filter accepts; returns how many."""
        return await asyncio.to_thread(self._store.delete, name, where)

    async def _describe(self, collection: Collection) -> Described:
        index = await asyncio.to_thread(self._store.index, collection.name)
        return Described(collection, index.items, index)
