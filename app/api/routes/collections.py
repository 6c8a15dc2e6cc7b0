"""Galleries: made, shown, listed, removed."""

from fastapi import APIRouter, Response

from app.api.limits import SMALL_BODY
from app.api.problems import responses
from app.api.schemas import CollectionIn, CollectionOut, Collections, RetentionIn
from app.service import Service


def router(service: Service) -> APIRouter:
    """`/v1/collections` and `/v1/collections/{collection}`."""
    routes = APIRouter(prefix="/v1/collections", tags=["collections"], max_body_size=SMALL_BODY)

    @routes.get("", responses=responses(503))
    async def list_collections() -> Collections:
        """All collections, by name."""
        return Collections(collections=[CollectionOut.of(d) for d in await service.galleries.all()])

    @routes.put("/{collection}", responses={201: {"model": CollectionOut}, **responses(400, 409, 422, 503)})
    async def put_collection(
        collection: str, response: Response, settings: CollectionIn | None = None
    ) -> CollectionOut:
        """Make a collection for the loaded model (201), or find the one that is there (200)."""
        given = settings or CollectionIn()
        days = given.retention() if given.model_fields_set & RetentionIn.model_fields.keys() else None
        described, created = await service.galleries.put(collection, given.keep_crops, days)
        response.status_code = 201 if created else 200
        return CollectionOut.of(described)

    @routes.get("/{collection}", responses=responses(404, 503))
    async def get_collection(collection: str) -> CollectionOut:
        """One collection."""
        return CollectionOut.of(await service.galleries.get(collection))

    @routes.patch("/{collection}", responses=responses(400, 404, 422, 503))
    async def keep_collection(collection: str, settings: RetentionIn) -> CollectionOut:
        """Change how long its items stay. What is too old already goes within the hour."""
        return CollectionOut.of(await service.galleries.keep(collection, settings.retention()))

    @routes.delete("/{collection}", status_code=204, responses=responses(404, 503))
    async def delete_collection(collection: str) -> None:
        """Remove a collection with everything in it."""
        await service.galleries.delete(collection)

    return routes
