"""`AuditTrail` in memory, as obvious as it gets: a list of lines."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from app.core.audit import GENESIS, Action, AuditHead, AuditLine, chained, digest, first_break
from app.errors import AuditBroken

_KEY = bytes(32)  # what is in memory only needs no secret


class MemoryAudit:
    """As the port says."""

    def __init__(self) -> None:
        self._lines: list[AuditLine] = []

    def lines(self, after: int = 0, limit: int | None = 100) -> list[AuditLine]:
        """As the port says."""
        return self._lines[after:][:limit]

    def about(self, collection: str, item_id: str | None = None, person_id: str | None = None) -> list[AuditLine]:
        """As the port says."""
        item = None if item_id is None else digest(_KEY, "item", collection, item_id)
        person = None if person_id is None else digest(_KEY, "person", collection, person_id)
        return [line for line in self._lines if item in line.items or person in line.persons]

    def verify(self) -> AuditHead:
        """As the port says."""
        head, broken = first_break(self._lines)
        if broken is not None:
            raise AuditBroken(f"line {broken} of the audit does not fit the one before it, number {head.seq}")
        return head

    def append(
        self,
        at: datetime,
        action: Action,
        collection: str,
        details: Mapping[str, int],
        items: Iterable[str] = (),
        persons: Iterable[str | None] = (),
    ) -> AuditHead:
        """Add a line about these ids."""
        before = self._lines[-1].hash if self._lines else GENESIS
        of_items = [digest(_KEY, "item", collection, item) for item in items]
        named = sorted({person for person in persons if person is not None})
        of_persons = [digest(_KEY, "person", collection, person) for person in named]
        line = chained(before, len(self._lines) + 1, at, action, collection, details, of_items, of_persons)
        self._lines.append(line)
        return AuditHead(line.seq, line.hash)
