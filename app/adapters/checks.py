"""What every gallery store checks of what it is handed, so that all refuse the same and keep the same."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import overload

import numpy as np

from app.core.calibrated import Calibrated
from app.core.jobs import Job, storable, to_json
from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Item, Retention, check_text, check_texts
from app.ports import Floats

_LONGEST = 36_500  # days
_UNIT = 1e-3  # how far a query's length may be from 1: float32, and a little for float16 on its way


def checked_items(items: Sequence[Item]) -> list[Item]:
    """The items as they are kept: instants in UTC, attributes a copy that is the store's own.

    Raises BadField for text that no database keeps as it is, ValueError for an instant without a zone.
    """
    for item in items:
        check_texts(item)
    return [replace(item, captured_at=in_utc(item.captured_at), attributes=dict(item.attributes)) for item in items]


def checked_collection(collection: Collection) -> Collection:
    """The collection as it is kept. Raises BadField, ValueError."""
    check_text("name", collection.name)
    if collection.dim < 1:
        raise ValueError(f"vectors of {collection.dim} numbers")
    return replace(
        collection, created_at=in_utc(collection.created_at), retention=checked_retention(collection.retention)
    )


def checked_retention(retention: Retention) -> Retention:
    """The retention as it is kept, its cameras a copy. Raises BadField, ValueError for days that are none."""
    for camera in retention.cameras:
        check_text("cameras", camera)
    for days in (retention.keep_days, *retention.cameras.values()):
        if days is not None and not 1 <= days <= _LONGEST:
            raise ValueError(f"{days} days; items stay for 1 to {_LONGEST}")
    return replace(retention, cameras=dict(retention.cameras))


def checked_job(job: Job) -> Job:
    """The job as it is kept: params and result as JSON has them, copied; instants in UTC. Raises ValueError, TypeError."""
    if not job.id.isascii():
        raise ValueError(f"the job id {job.id!r} is not ASCII")
    error, progress = job.error, job.progress
    return replace(
        job,
        params=json.loads(to_json(job.params)),
        result=None if job.result is None else json.loads(to_json(job.result)),
        progress=replace(progress, note=storable(progress.note)),
        error=None if error is None else replace(error, detail=storable(error.detail)),
        created_at=in_utc(job.created_at),
        started_at=in_utc(job.started_at),
        ended_at=in_utc(job.ended_at),
    )


def checked_calibrated(calibrated: Calibrated) -> Calibrated:
    """The calibration as it is kept. Raises BadField, ValueError."""
    check_text("data", calibrated.data)
    return replace(calibrated, created_at=in_utc(calibrated.created_at))


@overload
def in_utc(instant: datetime) -> datetime: ...
@overload
def in_utc(instant: None) -> None: ...
def in_utc(instant: datetime | None) -> datetime | None:
    """The same instant, told in UTC. Raises ValueError where its zone is unknown."""
    if instant is None:
        return None
    if instant.utcoffset() is None:
        raise ValueError(f"{instant} has no time zone")
    return instant.astimezone(UTC)


def units_and_norms(vectors: Floats, count: int, dim: int) -> tuple[Floats, Floats]:
    """Raw float32 [count, dim] to unit vectors float32 [count, dim] and norms float32 [count]. Raises ValueError."""
    if vectors.shape != (count, dim):
        raise ValueError(f"{count} items need vectors of shape ({count}, {dim}), not {vectors.shape}")
    raw = vectors.astype(np.float64)  # the squares of float32 may overflow float32
    lengths = np.linalg.norm(raw, axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        units, norms = (raw / lengths[:, None]).astype(np.float32), lengths.astype(np.float32)
    if not (np.isfinite(units).all() and np.isfinite(norms).all() and norms.all()):
        raise ValueError("a vector is not finite, or has no length")
    return units, norms


def checked_crops(crops: Sequence[Crop] | None, count: int) -> Sequence[Crop] | None:
    """The crops, one per item, or None. Raises ValueError."""
    if crops is None:
        return None
    if len(crops) != count:
        raise ValueError(f"{count} items, {len(crops)} crops")
    for crop in crops:
        if crop.shape != (HEIGHT, WIDTH, 3) or crop.dtype != np.uint8:
            raise ValueError(f"a crop is uint8 ({HEIGHT}, {WIDTH}, 3), not {crop.dtype} {crop.shape}")
    return crops


def checked_queries(queries: Floats, k: int, dim: int) -> Floats:
    """Unit float32 [n, dim], contiguous. Raises ValueError, also for a k below 1."""
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 is needed")
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries have the shape (n, {dim}), not {queries.shape}")
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) <= _UNIT).all():  # also where a length is NaN
        raise ValueError("a query is not a unit vector")
    return np.ascontiguousarray(queries, dtype=np.float32)


def checked_person(crops: Floats, k: int, dim: int) -> Floats:
    """Unit float32 [n, dim] of one person, at least one. Raises ValueError."""
    if not len(crops):
        raise ValueError("a search for a person needs at least one crop")
    return checked_queries(crops, k, dim)
