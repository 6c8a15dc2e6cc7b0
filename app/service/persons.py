"""Persons of a collection: listed, renamed, merged, and items given to the right one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.records import Filter, Item, Merge, Person
from app.ports import GalleryStore


@dataclass(frozen=True, slots=True)
class PersonPage:
    """Some persons by id, and the id to continue behind; None at the end."""

    persons: list[Person]
    next_cursor: str | None


class Persons:
    """Everything about who an item is of; vectors stay as they are."""

    def __init__(self, store: GalleryStore) -> None:
        self._store = store

    async def page(self, collection: str, after: str | None, limit: int) -> PersonPage:
        """A page of persons."""
        persons = await asyncio.to_thread(self._store.persons, collection, after, limit + 1)
        more = len(persons) > limit
        return PersonPage(persons[:limit], persons[limit - 1].person_id if more else None)

    async def one(self, collection: str, person_id: str) -> Person:
        """One person. Raises UnknownPerson."""
        return await asyncio.to_thread(self._store.person, collection, person_id)

    async def rename(self, collection: str, person_id: str, new: str) -> Person:
        """Call a person by another name. Raises UnknownPerson, PersonExists where the name is somebody's."""
        return await asyncio.to_thread(self._rename, collection, person_id, new)

    async def merge(self, collection: str, person_id: str, into: str) -> Merge:
        """Make one person's items another's. Raises UnknownPerson."""
        return await asyncio.to_thread(self._store.merge, collection, person_id, into)

    async def undo_merge(self, collection: str) -> Merge:
        """Take the last merge back. Raises NothingToUndo."""
        return await asyncio.to_thread(self._store.undo_merge, collection)

    async def move(self, collection: str, where: Filter, person_id: str | None) -> int:
        """Make the accepted items this person's, or nobody's; returns how many changed."""
        return await asyncio.to_thread(self._store.move, collection, where, person_id)

    async def correct(self, collection: str, item_id: str, changes: Mapping[str, Any]) -> Item:
        """Change what is said of one item: person_id, camera_id, captured_at, attributes. Raises UnknownItem."""
        return await asyncio.to_thread(self._store.correct, collection, item_id, changes)

    def _rename(self, collection: str, person_id: str, new: str) -> Person:
        self._store.rename(collection, person_id, new)
        return self._store.person(collection, new)
