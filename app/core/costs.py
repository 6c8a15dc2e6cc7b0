"""What a launch costs a device: milliseconds by how many crops it carries, as warmed up and as corrected since.

A table is a value: `seen` gives another one. What was measured once and never again would be believed for ever, so every
launch also moves the sizes that did not run towards the pace of the one that did.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

NOISE = 0.03  # rates that differ by less are equal: a smaller batch then answers sooner, and costs nothing
GENTLE = 0.85  # of the best rate; the smallest batch that reaches it keeps a device busy and is soon over
_LEARNT = 0.2  # of the difference between a launch and what was expected: five launches are remembered
_SHARED = 0.02  # of a launch's pace that sizes which did not run take on: what is old fades within fifty launches
_FAR = 2.0  # a launch counts as at most so many times slower or faster than expected: one that hung teaches little
_LEAST_MS = 1e-6  # of a made-up table that says zero


@dataclass(frozen=True)
class Costs:
    """Of one device.

    >>> guide = Costs({1: 0.65, 4: 1.08, 8: 1.87, 16: 4.63})
    >>> guide.ms(3), guide.best
    (1.08, 8)

    warm_ms: milliseconds by batch size, as the warm-up measured them. pads: a launch of another size costs what the next
    larger one costs, since the device fills it up; where it does not, costs in between are interpolated.
    """

    warm_ms: Mapping[int, float]
    pads: bool = True
    pace: Mapping[int, float] = field(default_factory=dict)  # by batch size, how much slower than warm it runs now

    @cached_property
    def batch_ms(self) -> dict[int, float]:
        """What each batch size costs now, ascending."""
        return {size: max(_LEAST_MS, self.warm_ms[size] * self.pace.get(size, 1.0)) for size in sorted(self.warm_ms)}

    @cached_property
    def best(self) -> int:
        """The batch size that embeds most crops a second; of those within `NOISE` of it the smallest. Larger ones only wait."""
        return self._smallest(1 - NOISE)

    @cached_property
    def gentle(self) -> int:
        """The smallest batch size whose rate is near the best: for work that may be in somebody's way."""
        return self._smallest(GENTLE)

    @cached_property
    def pieces(self) -> dict[int, float]:
        """The launches that are worth considering, up to `best`, with their milliseconds: by size."""
        if self.pads:
            return {size: ms for size, ms in self.batch_ms.items() if size <= self.best}
        return {size: self.ms(size) for size in range(1, self.best + 1)}

    @property
    def best_rate(self) -> float:
        """Crops a millisecond, in launches of the best size."""
        return self.best / self.batch_ms[self.best]

    def ms(self, crops: int) -> float:
        """What a launch of so many crops costs; beyond the largest batch size in proportion."""
        sizes = list(self.batch_ms)
        if crops > sizes[-1]:
            return self.batch_ms[sizes[-1]] * crops / sizes[-1]
        at = bisect_left(sizes, crops)
        above = self.batch_ms[sizes[at]]
        if self.pads or at == 0 or sizes[at] == crops:
            return above
        below, share = sizes[at - 1], (crops - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
        return self.batch_ms[below] + share * (above - self.batch_ms[below])

    def seen(self, crops: int, ms: float) -> "Costs":
        """The table after a launch of so many crops took so long."""
        sizes = list(self.batch_ms)
        at = min(bisect_left(sizes, crops), len(sizes) - 1)
        ran = {sizes[at]} if self.pads or at == 0 or sizes[at] <= crops else {sizes[at - 1], sizes[at]}
        off = min(_FAR, max(1 / _FAR, ms / self.ms(crops)))  # how much slower than expected
        pace = {size: self.pace.get(size, 1.0) for size in sizes}
        pace |= {size: pace[size] * (1 + _LEARNT * (off - 1)) for size in ran}
        now = sum(pace[size] for size in ran) / len(ran)
        pace |= {size: pace[size] + _SHARED * (now - pace[size]) for size in sizes if size not in ran}
        return replace(self, pace=pace)

    def _smallest(self, share: float) -> int:
        rates = {size: size / ms for size, ms in self.batch_ms.items()}
        return min(size for size, rate in rates.items() if rate >= share * max(rates.values()))
