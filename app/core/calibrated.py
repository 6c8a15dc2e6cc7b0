"""A collection's calibration as it is kept; what is in it is the affair of whoever made it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

By = Literal["item", "person", "pair"]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Made of one kind of search (`by`), and of the collection as it was then: for vectors of which model, of how many items."""

    by: By
    fingerprint: str
    items_count: int
    created_at: datetime
    data: str  # JSON
