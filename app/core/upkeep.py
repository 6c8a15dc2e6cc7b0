"""What is told of a store's upkeep: its snapshots, and what a check found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

MOST_FAULTS = 20  # of one kind are told; the first show what is wrong, a million more would hide it


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of all that a store held at one moment. audit_seq: the audit's last line in it.

    reachable: whether it lies where it was written, and can be read. collections: their items; empty where it is not.
    """

    id: str
    path: str
    created_at: datetime
    bytes: int
    sha256: str
    audit_seq: int
    reachable: bool = True
    collections: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holders:
    """Ids of snapshots that hold some of what was asked for, and of those that could not be asked."""

    holding: tuple[str, ...]
    unreachable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. looked_at: how many pages, rows, lines; faults: a sentence each, the first few."""

    what: str
    looked_at: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All that a check looked at."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.faults for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Restored:
    """What came out of a snapshot. erased: items that lay in it and had been erased since; they were left out."""

    snapshot: str
    items: int
    erased: int
    erasures: int
