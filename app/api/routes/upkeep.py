"""Erasing with a receipt, snapshots, checks, and the audit."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from app.api.jobs import JobOut
from app.api.limits import SMALL_BODY
from app.api.persons import ItemsIn
from app.api.problems import responses
from app.api.routes.calibration import job_response
from app.api.upkeep import (
    AuditLineOut,
    AuditPage,
    CheckIn,
    CheckOut,
    HashText,
    Line,
    Receipt,
    RestoredOut,
    RestoreIn,
    SnapshotOut,
    SnapshotsOut,
    WaitIn,
)
from app.core.audit import AuditHead
from app.core.jobs import Job
from app.core.records import Filter
from app.errors import BadField, relayed
from app.service.galleries import MAX_PAGE
from app.service.upkeep import Caretaker

_JOB: Mapping[int | str, dict[str, Any]] = {
    202: {"model": JobOut, "description": "Not done in time; `Location` names the job"}
}
_LAST = 2**63 - 1  # SQLite's largest number


def router(caretaker: Caretaker) -> APIRouter:
    """`/v1/snapshots`, `/v1/check`, `/v1/audit`, and what erases."""
    routes = APIRouter(prefix="/v1", tags=["upkeep"], max_body_size=SMALL_BODY)
    for add in (_add_erasing, _add_snapshots, _add_checks):
        add(routes, caretaker)
    return routes


def _add_erasing(routes: APIRouter, caretaker: Caretaker) -> None:
    @routes.post("/collections/{collection}/erase", responses=responses(400, 404, 422, 503))
    async def erase_items(collection: str, body: ItemsIn) -> Receipt:
        """Remove items for good: vectors, metadata, kept crops, what was derived of them, and jobs that name them.

        `persons` alone erases persons whole: also from what is restored later, whatever snapshot it was in.
        """
        return Receipt.of(collection, await caretaker.erase(collection, body.chosen()))

    @routes.delete("/collections/{collection}/persons/{person_id}", responses=responses(404, 422, 503))
    async def erase_person(collection: str, person_id: str) -> Receipt:
        """Erase a person whole, also one who is in snapshots only; the receipt says how many items it was."""
        return Receipt.of(collection, await caretaker.erase(collection, Filter(persons=frozenset({person_id}))))


def _add_snapshots(routes: APIRouter, caretaker: Caretaker) -> None:
    @routes.get("/snapshots", responses=responses(503))
    async def list_snapshots() -> SnapshotsOut:
        """Snapshots, the newest first; those too that are not where they were written."""
        return SnapshotsOut(snapshots=[SnapshotOut.of(one) for one in await caretaker.snapshots()])

    @routes.post(
        "/snapshots",
        responses={201: {"model": SnapshotOut}, **_JOB, **responses(400, 422, 429, 503)},
        response_model=None,
        status_code=201,
    )
    async def make_snapshot(body: WaitIn | None = None) -> Response:
        """Copy everything, as it is at one moment, into the folder of snapshots, while everything goes on."""
        return _answer(
            await caretaker.snapshot((body or WaitIn()).wait), lambda job: SnapshotOut(**(job.result or {})), 201
        )

    @routes.delete("/snapshots/{snapshot_id}", status_code=204, responses=responses(404, 503))
    async def delete_snapshot(snapshot_id: str) -> None:
        """Remove a snapshot; of one that cannot be reached, what is known of it."""
        await caretaker.delete_snapshot(snapshot_id)

    @routes.post(
        "/snapshots/{snapshot_id}/restore",
        responses={201: {"model": RestoredOut}, **_JOB, **responses(400, 404, 409, 422, 429, 503)},
        response_model=None,
        status_code=201,
    )
    async def restore_collection(snapshot_id: str, body: RestoreIn) -> Response:
        """Make a new collection of one in a snapshot, without what was erased since."""
        job = await caretaker.restore(snapshot_id, body.collection, body.as_, body.wait)
        return _answer(job, RestoredOut.of, 201)


def _add_checks(routes: APIRouter, caretaker: Caretaker) -> None:
    @routes.post(
        "/check",
        responses={200: {"model": CheckOut}, **_JOB, **responses(400, 422, 429, 503)},
        response_model=None,
    )
    async def check(body: CheckIn | None = None) -> Response:
        """Look whether all is whole: the database, what searches read, the audit."""
        wish = body or CheckIn()
        return _answer(await caretaker.check(wish.quick, wish.wait), lambda job: CheckOut(**(job.result or {})), 200)

    @routes.get("/audit", responses=responses(422, 503))
    async def list_audit(
        after: Annotated[int, Query(ge=0, le=_LAST)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        collection: str | None = None,
        item_id: str | None = None,
        person_id: str | None = None,
    ) -> AuditPage:
        """What was done, in order; or, with a collection, all that was done to an item or a person, there or not."""
        if collection is None:
            if item_id is not None or person_id is not None:
                raise BadField("collection", "is needed with item_id and person_id")
            lines, next_after = await caretaker.audit(after, limit)
        elif item_id is None and person_id is None:
            raise BadField("collection", "goes with item_id or person_id")
        else:
            lines, next_after = await caretaker.audit_about(collection, item_id, person_id), None
        return AuditPage(lines=[AuditLineOut.of(line) for line in lines], next_after=next_after)

    @routes.get("/audit/verify", responses=responses(422, 503))
    async def verify_audit(
        seq: Annotated[int | None, Query(ge=1, le=_LAST)] = None,
        hash: Annotated[HashText | None, Query()] = None,
    ) -> Line:
        """Walk the whole chain, and return its end. With a receipt's `seq` and `hash`: that line must be in it."""
        if (seq is None) != (hash is None):
            raise BadField("seq", "goes with hash, as a receipt has them")
        told = None if seq is None or hash is None else AuditHead(seq, bytes.fromhex(hash))
        return Line.of(await caretaker.verify_audit(told))


def _answer(job: Job, shown: Callable[[Job], SnapshotOut | RestoredOut | CheckOut], status: int) -> Response:
    """What came of the job, or the job that goes on. Raises what it failed of."""
    if job.error is not None:
        raise relayed(job.error.code, job.error.detail)
    if job.state != "done":
        return job_response(job)
    return JSONResponse(shown(job).model_dump(mode="json"), status)
