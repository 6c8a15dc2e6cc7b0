"""Upkeep on the wire: receipts, snapshots, checks, the audit."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

from pydantic import Field

from app.api.schemas import _In, _Out
from app.core.audit import AuditHead, AuditLine, Erasure
from app.core.jobs import Job
from app.core.upkeep import Snapshot

Wait = Annotated[float, Field(ge=0, le=600, description="Seconds to wait before the answer is a job that goes on.")]
HashText = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Line(_Out):
    """A line of the audit, by its number and hash: who keeps both can tell later whether anything before was changed."""

    seq: int
    hash: str

    @classmethod
    def of(cls, head: AuditHead) -> Self:
        """As the audit has it."""
        return cls(seq=head.seq, hash=head.hash.hex())


class Receipt(_Out):
    """What was erased, and who still has some of it."""

    collection: str
    items: int
    erased_at: datetime
    audit: Line
    snapshots: list[str] = Field(description="Those that hold some of it. What is restored from them leaves it out.")
    unreachable: list[str] = Field(description="Snapshots that could not be looked into.")
    recorded: bool | None = Field(
        description="Whether it stands beside every snapshot, where a restore finds it; null where there are none."
    )

    @classmethod
    def of(cls, collection: str, erasure: Erasure) -> Self:
        """What the store did."""
        return cls(
            collection=collection,
            items=erasure.items,
            erased_at=erasure.erased_at,
            audit=Line.of(erasure.audit),
            snapshots=list(erasure.snapshots),
            unreachable=list(erasure.unreachable),
            recorded=erasure.recorded,
        )


class SnapshotOut(_Out):
    """A copy of everything, as it was at one moment."""

    id: str
    path: str
    created_at: datetime
    bytes: int
    sha256: str
    audit_seq: int = Field(description="The audit's last line in it.")
    reachable: bool = Field(description="Whether it lies where it was written.")
    collections: Mapping[str, int] = Field(description="Their items.")

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """As the store tells it."""
        return cls(**{name: getattr(snapshot, name) for name in cls.model_fields})


class SnapshotsOut(_Out):
    """The newest first."""

    snapshots: list[SnapshotOut]


class WaitIn(_In):
    """How long the caller waits."""

    wait: Wait = 30.0


class RestoreIn(WaitIn):
    """Which collection of the snapshot, and the name of the new one."""

    collection: str = Field(min_length=1, max_length=64)
    as_: str = Field(alias="as", min_length=1, max_length=64)


class RestoredOut(_Out):
    """A collection that came out of a snapshot."""

    collection: str
    snapshot: str
    items: int
    erased: int = Field(description="Items of the snapshot that were erased since it was made, and are left out.")
    erasures: int = Field(description="By so many erasures.")

    @classmethod
    def of(cls, job: Job) -> Self:
        """Of the job that did it."""
        return cls(**(job.result or {}))


class CheckIn(WaitIn):
    """How closely to look."""

    quick: bool = Field(False, description="At one vector and crop of a hundred, and not at the database's indexes.")


class FindingOut(_Out):
    """One thing that was looked at, how often, and what is wrong with it."""

    what: str
    looked_at: int
    faults: list[str]


class CheckOut(_Out):
    """What a check found."""

    ok: bool
    findings: list[FindingOut]


class AuditLineOut(_Out):
    """One write. Ids stand in it as keyed digests alone; items, persons: how many."""

    seq: int
    at: datetime
    action: str
    collection: str
    details: Mapping[str, str | int]
    items: int
    persons: int
    hash: str

    @classmethod
    def of(cls, line: AuditLine) -> Self:
        """As the store tells it."""
        told = {name: getattr(line, name) for name in ("seq", "at", "action", "collection", "details")}
        return cls(**told, items=len(line.items), persons=len(line.persons), hash=line.hash.hex())


class AuditPage(_Out):
    """Lines in order; pass `next_after` as `after` for the next ones."""

    lines: list[AuditLineOut]
    next_after: int | None
