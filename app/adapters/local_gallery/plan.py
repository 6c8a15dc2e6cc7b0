"""When codes take over from exact search, and how far they are trusted."""

import math
from dataclasses import dataclass

# An estimated cosine is off by 0.85 / sqrt(dim) (standard deviation; measured on 20,000 unit vectors of 2048 numbers):
# this is 2.5 times that.
_DOUBT = 2.1


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """Rows. docs/architecture.md tells what `reid bench search` printed that they were chosen by.

    flat: a collection up to this size is searched exactly. tail: rows that may wait for their codes, and are searched
    exactly until then. shortlist: of a coded search, what is scored exactly in any case; narrow: where no more rows than
    this are accepted, all of them are.
    """

    flat: int = 4096
    tail: int = 1024
    shortlist: int = 50
    narrow: int = 400

    def listed(self, k: int) -> int:
        """How many rows are scored exactly in any case."""
        return max(self.shortlist, 2 * k)

    def estimated(self, k: int) -> int:
        """How many more than these may be, where estimates do not tell them from the k best."""
        return max(16 * self.shortlist, 4 * k)

    def doubt(self, dim: int) -> float:
        """How far below the k-th best score a row's estimated one may be, and the row still be among the k best."""
        return _DOUBT / math.sqrt(dim)

    def items_for_persons(self, k: int) -> int:
        """How many of the nearest items are looked at for persons, at least."""
        return max(16 * self.shortlist, 16 * k)

    def persons_for(self, k: int) -> int:
        """How many persons are scored for the k best: who has the nearest item need not have the nearest centroid."""
        return self.shortlist + 2 * k
