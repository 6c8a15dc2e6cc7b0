"""What a device launches next, from what its launches cost and from what waits. Pure: no clock, no device.

There is no window: a device that is idle takes what waits. Of the cheapest set of launches that clears all of it the
largest goes first, and then it is planned anew: whoever waits longest rides in it, and with the smallest first a queue
grows while the device does little. Interactive crops go before bulk ones; a launch that would be filled up anyway
carries bulk crops in the free places, and a share of the crops is bulk however many others wait.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from app.core.costs import Costs

__all__ = [
    "BULK_SHARE", "QUIET_S", "Costs", "Launch", "Waiting", "expected_ms", "largest_piece", "next_launch", "owed_after",
]  # fmt: skip
BULK_SHARE = 0.03  # of the crops launched while both wait: an import goes on; 5 % may double p99 at 90 % load
QUIET_S = 1.0  # without an interactive crop for so long, bulk may fill a device with launches of its best size


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits. interactive: of each crop, in order, the milliseconds that are left to its deadline.

    bulk: how many crops. owed: bulk crops that must not wait any longer (`owed_after`). calm: no interactive crop has
    come for `QUIET_S`.
    """

    interactive: Sequence[float] = ()
    bulk: int = 0
    owed: float = 0.0
    calm: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """How many crops of either kind ride, and what size of batch they are for: of those that the device has."""

    size: int
    interactive: int
    bulk: int = 0

    @property
    def crops(self) -> int:
        """All of them."""
        return self.interactive + self.bulk


def next_launch(costs: Costs, waiting: Waiting) -> Launch:
    """The next launch of a device that is idle; something must wait.

    >>> guide = Costs({1: 0.65, 4: 1.08, 8: 1.87})
    >>> next_launch(guide, Waiting(interactive=[100.0] * 3, bulk=20))
    Launch(size=4, interactive=3, bulk=1)
    """
    if not waiting.interactive:
        size = largest_piece(costs, waiting.bulk, costs.best if waiting.calm else costs.gentle)
        return Launch(size, 0, min(size, waiting.bulk))
    owed = min(waiting.bulk, int(waiting.owed))
    size = _size(costs, waiting, len(waiting.interactive) + owed)
    launches = [_filled(piece, waiting, owed) for piece in sorted(costs.pieces, reverse=True) if piece <= size]
    # Where the largest would end after a deadline that a smaller one keeps, the smaller one is worth its price.
    left = waiting.interactive
    in_time = (one for one in launches if costs.ms(one.size) <= min(left[: one.interactive], default=inf))
    return next(in_time, launches[0])


def largest_piece(costs: Costs, crops: int, most: int | None = None) -> int:
    """The largest launch of the cheapest set of launches that carries so many crops. most: none is larger than that."""
    best = min(costs.best, most or costs.best)
    if crops > (best - 1) ** 2:
        # Of `best` smaller launches some add up to a multiple of `best` (pigeonhole), and launches of that size carry as
        # much for no more. So a cheapest set has fewer than `best` others, and these do not carry so many.
        return best
    pieces = [(size, ms) for size, ms in costs.pieces.items() if size <= best]
    cheapest = [(0.0, 0)]  # for each number of crops: milliseconds, and minus the largest launch
    for number in range(1, crops + 1):
        cheapest.append(min(_with(cheapest[max(0, number - size)], size, ms) for size, ms in pieces))
    return -cheapest[crops][1]


def owed_after(owed: float, launch: Launch, bulk_waits: bool) -> float:
    """Bulk crops that are owed after a launch. bulk_waits: there were some, on board or left behind."""
    grown = owed + launch.interactive * BULK_SHARE / (1 - BULK_SHARE)
    return max(0.0, grown - launch.bulk) if bulk_waits else 0.0


def expected_ms(devices: Iterable[tuple[Costs, float]], ahead: int, crops: int, bulk_waits: bool = False) -> float:
    """Milliseconds until `crops` interactive crops are embedded that come now, behind `ahead` others.

    devices: costs, and milliseconds until it is idle, of each that serves; at least one.
    """
    free = [(costs, max(0.0, busy_ms)) for costs, busy_ms in devices]
    rate = sum(costs.best_rate for costs, _ in free) * ((1 - BULK_SHARE) if bulk_waits else 1.0)
    shared = (ahead + crops + sum(costs.best_rate * busy_ms for costs, busy_ms in free)) / rate
    alone = min(busy_ms + costs.ms(min(crops, costs.best)) for costs, busy_ms in free)
    return max(shared, alone)


def _with(rest: tuple[float, int], size: int, ms: float) -> tuple[float, int]:
    return rest[0] + ms, min(rest[1], -size)


def _size(costs: Costs, waiting: Waiting, first: int) -> int:
    """What a launch is planned for that `first` crops have to ride in."""
    if not waiting.bulk:
        return largest_piece(costs, first)
    # Small launches are cheap for those who ride alone; while others wait they waste the device. A gentle one is over soon.
    carried = min(costs.best, max(costs.gentle, first), len(waiting.interactive) + waiting.bulk)
    return min(size for size in costs.pieces if size >= carried)


def _filled(size: int, waiting: Waiting, owed: int) -> Launch:
    """A launch of that size: bulk crops that are owed, interactive ones, and bulk ones where places are free."""
    interactive = min(len(waiting.interactive), size - min(owed, size))
    return Launch(size, interactive, min(waiting.bulk, size - interactive))
