"""Jobs on the wire."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from app.api.schemas import _Out
from app.core.jobs import Job, State


class JobProgress(_Out):
    """How far a job is, in steps of its own."""

    done: int
    total: int = Field(description="0 while nobody knows it.")
    note: str = Field(description="What it does now; may be empty.")


class JobError(_Out):
    """Why a job failed; the codes are those of problems."""

    code: str
    detail: str


class JobSummary(_Out):
    """A job without its result."""

    id: str
    kind: str
    params: Mapping[str, Any]
    state: State
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: JobProgress
    error: JobError | None = Field(description="Null unless it failed.")

    @classmethod
    def of(cls, job: Job) -> Self:
        """A job as it is now."""
        fields = {name: getattr(job, name) for name in cls.model_fields}
        error = None if job.error is None else JobError(**asdict(job.error))
        return cls(**{**fields, "progress": JobProgress(**asdict(job.progress)), "error": error})


class JobOut(JobSummary):
    """A job."""

    result: Mapping[str, Any] | None = Field(description="Null unless it is done.")


class JobPage(_Out):
    """A page of jobs, the newest first; pass `next_cursor` as `cursor` for the next one."""

    jobs: list[JobSummary]
    next_cursor: str | None
