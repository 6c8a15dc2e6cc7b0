"""Persons on the wire, and what is said of items after they came in."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from app.api.schemas import _In, _Out
from app.api.searching import FilterOptions, Instant, ManyWords
from app.core.records import Filter, Merge, Person
from app.errors import BadField

PersonId = Annotated[str, Field(min_length=1, max_length=256)]


class KnownPerson(_Out):
    """A person, as the items tell."""

    person_id: str
    items: int
    cameras: list[str]
    first_captured: datetime | None
    last_captured: datetime | None

    @classmethod
    def of(cls, person: Person) -> Self:
        """A person as stored."""
        fields = {name: getattr(person, name) for name in cls.model_fields}
        return cls(**{**fields, "cameras": list(person.cameras)})


class PersonsPage(_Out):
    """Persons by id; pass `next_cursor` as `cursor` for the next ones."""

    persons: list[KnownPerson]
    next_cursor: str | None


class RenameIn(_In):
    """A person's new name."""

    person_id: PersonId


class MergeIn(_In):
    """Whom to make the person's items."""

    into: PersonId


class MergeOut(_Out):
    """Items of one person that became another's, or that were given back."""

    person_id: str
    into: str
    items: int

    @classmethod
    def of(cls, merge: Merge) -> Self:
        """A merge as the store tells it."""
        return cls(person_id=merge.person_id, into=merge.into, items=merge.items)


class ItemsIn(FilterOptions):
    """Which items: of these ids, or those that the filters accept; `all` for every one."""

    ids: ManyWords | None = Field(None, description="Only items of these ids.")
    persons: ManyWords | None = Field(None, description="Only items of these persons.")
    exclude: ManyWords | None = Field(None, description="Not the items of these ids.")
    all: bool = Field(False, description="Needed where nothing else says which.")

    def chosen(self) -> Filter:
        """As the store takes it. Raises BadField where nothing says which items are meant."""
        where = self.filter()
        if self.ids is not None:
            where = replace(where, ids=frozenset(self.ids))
        if where == Filter() and not self.all:
            raise BadField("all", "nothing says which items are meant; name some, or send all=true for every one")
        return where


class MoveIn(ItemsIn):
    """Whose the items become; null: nobody's."""

    person_id: PersonId | None


class CorrectIn(_In):
    """What is said of an item; what is not named stays, null takes it away."""

    person_id: PersonId | None = None
    camera_id: PersonId | None = None
    captured_at: Instant | None = None
    attributes: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="All of them: they replace the old."
    )

    def changes(self) -> dict[str, Any]:
        """The fields that were named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Changed(_Out):
    """How many items it was."""

    items: int
