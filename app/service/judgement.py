"""What the scores of an answer mean, and whoever knows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.calibrated import By
from app.core.decision import Decision


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of the scores of one answer, best first: how probably each is the right person, and what the best one means.

    decision: None where nothing can be said, and then `reason` says why; a reason beside a decision is a caveat.
    """

    probabilities: tuple[float | None, ...]
    decision: Decision | None
    reason: str | None


class Judge(Protocol):
    """Whoever has learnt what a collection's scores mean."""

    async def __call__(self, name: str, by: By, scores: Sequence[float], fpir: float | None = None) -> Judgement:
        """What these scores, best first, mean in this collection. Raises BadField for a rate that none tells."""
