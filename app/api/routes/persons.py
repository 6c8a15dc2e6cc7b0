"""Persons of a collection, and items given to the right one."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.limits import SMALL_BODY
from app.api.persons import (
    Changed,
    CorrectIn,
    ItemsIn,
    KnownPerson,
    MergeIn,
    MergeOut,
    MoveIn,
    PersonsPage,
    RenameIn,
)
from app.api.problems import responses
from app.api.schemas import ItemOut
from app.service import Service
from app.service.galleries import MAX_PAGE


def router(service: Service) -> APIRouter:
    """`/v1/collections/{collection}/persons`, and what changes items that are there."""
    routes = APIRouter(prefix="/v1/collections/{collection}", tags=["persons"], max_body_size=SMALL_BODY)
    persons = service.persons

    @routes.get("/persons", responses=responses(404, 422, 503))
    async def list_persons(
        collection: str, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100, cursor: str | None = None
    ) -> PersonsPage:
        """Persons by id, a page at a time. Items without a person are nobody's."""
        page = await persons.page(collection, cursor, limit)
        return PersonsPage(persons=[KnownPerson.of(p) for p in page.persons], next_cursor=page.next_cursor)

    @routes.post("/persons/undo-merge", responses=responses(404, 409, 503))
    async def undo_merge(collection: str) -> MergeOut:
        """Take the collection's last merge back: items that are still where it put them return. Once."""
        return MergeOut.of(await persons.undo_merge(collection))

    @routes.get("/persons/{person_id}", responses=responses(404, 503))
    async def get_person(collection: str, person_id: str) -> KnownPerson:
        """One person. Its items: `GET .../items?persons=`."""
        return KnownPerson.of(await persons.one(collection, person_id))

    @routes.patch("/persons/{person_id}", responses=responses(400, 404, 409, 422, 503))
    async def rename_person(collection: str, person_id: str, body: RenameIn) -> KnownPerson:
        """Call a person by another name. One that is somebody's is refused: merging is a request of its own."""
        return KnownPerson.of(await persons.rename(collection, person_id, body.person_id))

    @routes.post("/persons/{person_id}/merge", responses=responses(400, 404, 422, 503))
    async def merge_persons(collection: str, person_id: str, body: MergeIn) -> MergeOut:
        """Make the person's items another's. It can be undone until the collection's next merge."""
        return MergeOut.of(await persons.merge(collection, person_id, body.into))

    @routes.post("/items/move", responses=responses(400, 404, 422, 503))
    async def move_items(collection: str, body: MoveIn) -> Changed:
        """Make items a person's, or nobody's. Their vectors and order stay."""
        return Changed(items=await persons.move(collection, body.chosen(), body.person_id))

    @routes.patch("/items/{item_id}", responses=responses(400, 404, 422, 503))
    async def correct_item(collection: str, item_id: str, body: CorrectIn) -> ItemOut:
        """Change what is said of an item; its vector stays."""
        return ItemOut.of(await persons.correct(collection, item_id, body.changes()))

    @routes.delete("/items", responses=responses(404, 422, 503))
    async def delete_items(collection: str, which: Annotated[ItemsIn, Query()]) -> Changed:
        """Remove the items that the filters accept; `all=true` removes every one."""
        return Changed(items=await service.galleries.remove_all(collection, which.chosen()))

    return routes
