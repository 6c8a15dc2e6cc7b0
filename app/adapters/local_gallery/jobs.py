"""`JobStore` in the gallery's database: a row per job."""

import json
import sqlite3
from collections.abc import Set
from datetime import datetime
from typing import Any

from app.adapters.checks import checked_job
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.rows import to_text
from app.core.erasing import Names, cleared, named
from app.core.jobs import Failure, Job, Progress, State, to_json
from app.errors import UnknownJob

_COLUMNS = (
    "id", "kind", "params", "state", "created_at", "started_at", "ended_at", "done", "total", "note", "error_code",
    "error_detail",
)  # fmt: skip
_LISTED = ", ".join(_COLUMNS)
_PUT = f"""
insert into job ({_LISTED}, result) values ({", ".join("?" * len(_COLUMNS))}, ?)
on conflict (id) do update set {", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[1:], "result"))}
where erased_at is null
"""
_CLEAR = f"update job set {', '.join(f'{name} = ?' for name in (*_COLUMNS, 'result'))}, erased_at = ? where id = ?"


class LocalJobs:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._erased: list[
            tuple[datetime, Names]
        ] = []  # what jobs that were there then may still bring; under a transaction

    def put_job(self, job: Job) -> None:
        """As the port says."""
        kept = checked_job(job)
        with self._database.transaction() as db:
            db.execute(_PUT, _to_row(kept))
            for at, names in self._erased:
                if kept.created_at <= at and named(kept, names):
                    _clear(db, kept, at)

    def beware(self, db: sqlite3.Connection, names: Names, now: datetime) -> None:
        """A job that is at work may have read what is being erased in this transaction: its result will be looked at."""
        (oldest,) = db.execute("select min(created_at) from job where ended_at is null").fetchone()
        known = [*self._erased, (now, names)]
        self._erased = [one for one in known if oldest is not None and datetime.fromisoformat(oldest) <= one[0]]

    def job(self, job_id: str) -> Job:
        """As the port says."""
        with self._database.reading() as db:
            row = db.execute(f"select {_LISTED}, result from job where id = ?", (_sane(job_id),)).fetchone()
        if row is None:
            raise UnknownJob(job_id)
        return _from_row(row)

    def jobs(
        self,
        states: Set[State] | None = None,
        after: str | None = None,
        limit: int | None = 100,
        kind: str | None = None,
    ) -> list[Job]:
        """As the port says."""
        wanted, values = ["1"], list[object]()
        with self._database.reading() as db:
            if after is not None:
                wanted.append("seq < ?")
                values.append(_seq(db, after))
            if states is not None:
                wanted.append("state in (select value from json_each(?))")
                values.append(json.dumps(sorted(states)))
            if kind is not None:
                wanted.append("kind = ?")
                values.append(kind)
            sql = f"select {_LISTED}, null from job where {' and '.join(wanted)} order by seq desc limit ?"
            rows = db.execute(sql, (*values, -1 if limit is None else limit)).fetchall()
        return [_from_row(row) for row in rows]

    def delete_job(self, job_id: str) -> None:
        """As the port says."""
        with self._database.transaction() as db:
            if not db.execute("delete from job where id = ?", (_sane(job_id),)).rowcount:
                raise UnknownJob(job_id)
        self._database.empty_log()

    def prune_jobs(self, keep: int, ended_before: datetime) -> int:
        """As the port says."""
        newest = "select seq from job where ended_at is not null order by seq desc limit ?"
        sql = f"delete from job where ended_at is not null and (ended_at < ? or seq not in ({newest}))"
        with self._database.transaction() as db:
            return db.execute(sql, (to_text(ended_before), keep)).rowcount


def forget(db: sqlite3.Connection, names: Names, now: datetime) -> None:
    """Clear the jobs that tell of these, in the open transaction."""
    for (job_id,) in db.execute("select id from job").fetchall():  # one at a time: results may be long
        row = db.execute(f"select {_LISTED}, result from job where id = ?", (job_id,)).fetchone()
        if named(job := _from_row(row), names):
            _clear(db, job, now)


def _clear(db: sqlite3.Connection, job: Job, now: datetime) -> None:
    db.execute(_CLEAR, (*_to_row(cleared(job, now)), to_text(now), job.id))


def _sane(job_id: str) -> str:
    """Ids are ASCII; half a surrogate pair as a bound value would be an error."""
    if not job_id.isascii():
        raise UnknownJob(job_id)
    return job_id


def _seq(db: sqlite3.Connection, job_id: str) -> int:
    row = db.execute("select seq from job where id = ?", (_sane(job_id),)).fetchone()
    if row is None:
        raise UnknownJob(job_id)
    return int(row[0])


def _to_row(job: Job) -> tuple[object, ...]:
    """In the order of _COLUMNS, then the result."""
    instants = (
        None if instant is None else to_text(instant) for instant in (job.created_at, job.started_at, job.ended_at)
    )
    p, error = job.progress, (None, None) if job.error is None else (job.error.code, job.error.detail)
    result = None if job.result is None else to_json(job.result)
    return job.id, job.kind, to_json(job.params), job.state, *instants, p.done, p.total, p.note, *error, result


def _from_row(row: tuple[Any, ...]) -> Job:
    """From _COLUMNS and the result."""
    job_id, kind, params, state, created_at, started_at, ended_at, done, total, note, code, detail, result = row
    return Job(
        id=job_id,
        kind=kind,
        params=json.loads(params),
        created_at=datetime.fromisoformat(created_at),
        state=state,
        started_at=None if started_at is None else datetime.fromisoformat(started_at),
        ended_at=None if ended_at is None else datetime.fromisoformat(ended_at),
        progress=Progress(done, total, note),
        result=None if result is None else json.loads(result),
        error=None if code is None else Failure(code, detail),
    )
