"""Long work with an id, progress, a result, and a cancel: what is remembered of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from app.errors import Interrupted

State = Literal["queued", "running", "done", "failed", "cancelled"]
WAITING: frozenset[State] = frozenset({"queued", "running"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, in steps of its own; total is 0 while nobody knows it."""

    done: int = 0
    total: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a stable code and a sentence, as in any refusal."""

    code: str
    detail: str


STOPPED = Failure(Interrupted.code, "the server stopped while it ran")


@dataclass(frozen=True, slots=True)
class Job:
    """Params and result are JSON objects of names and figures: no pictures, no vectors."""

    id: str  # ASCII that may stand in a path
    kind: str
    params: Mapping[str, Any]
    created_at: datetime
    state: State = "queued"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress = Progress()
    result: Mapping[str, Any] | None = None
    error: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in WAITING


def to_json(value: object) -> str:
    """As it is stored and sent. Raises ValueError for NaN, TypeError for what JSON does not have."""
    return storable(json.dumps(value, ensure_ascii=False, allow_nan=False))


def storable(text: str) -> str:
    """Half a surrogate pair, as a file name that is not UTF-8 gives it, becomes `?`: a report must not fail over a name."""
    return text.encode("utf-8", "replace").decode("utf-8")
